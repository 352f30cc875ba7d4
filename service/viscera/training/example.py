"""``python -m viscera.training.example DATA FOLDER``: public test volumes in nnU-Net's form.

`DATA` is the folder of test data that lies beside the project (its README has the sources). Out
come ``FOLDER/known``, the reference network's only real CT with all its structures, and
``FOLDER/held-out``, two other people. ``example_ct_sm`` is the first person again and goes nowhere.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk

from viscera.domain.organs import AMOS

_LOBES = {
    13: "lung upper lobe left",
    14: "lung lower lobe left",
    16: "lung middle lobe right",
    17: "lung lower lobe right",
}
_RIBS = {
    **{57 + n: f"rib left {n}" for n in range(7, 13)},
    **{69 + n: f"rib right {n}" for n in range(7, 13)},
}
_STRUCTURES = {
    1: "spleen",
    2: "right kidney",
    3: "left kidney",
    4: "gall bladder",
    5: "liver",
    6: "stomach",
    7: "aorta",
    8: "postcava",
    9: "portal and splenic vein",
    10: "pancreas",
    11: "right adrenal gland",
    12: "left adrenal gland",
    **_LOBES,
    **{18 + n: f"vertebra L{5 - n}" for n in range(5)},
    23: "vertebra T12",
    24: "vertebra T11",
    44: "heart myocardium",
    51: "iliac artery left",
    52: "iliac artery right",
    53: "iliac vena left",
    54: "iliac vena right",
    55: "small bowel",
    56: "duodenum",
    57: "colon",
    **_RIBS,
    88: "femur left",
    89: "femur right",
    90: "hip left",
    91: "hip right",
    92: "sacrum",
    94: "gluteus maximus left",
    95: "gluteus maximus right",
    96: "gluteus medius left",
    97: "gluteus medius right",
    98: "gluteus minimus left",
    99: "gluteus minimus right",
    100: "autochthon left",
    101: "autochthon right",
    102: "iliopsoas left",
    103: "iliopsoas right",
    104: "bladder",
}
"""The first TotalSegmentator release's values that this CT shows."""


_LICENCE = "Apache-2.0 (TotalSegmentator's test files)"


def write_known(data: Path, folder: Path) -> None:
    """Write the CT that may be trained on, with every structure that is labelled in it."""
    image = sitk.ReadImage(str(data / "volumes/example_ct.nii.gz"))
    labels = sitk.ReadImage(str(data / "volumes/example_seg_v1_multilabel.nii.gz"))
    _write(folder, "example_ct", image, labels)
    names = {name: value for value, name in _STRUCTURES.items()}
    _write_facts(folder, names, "one CT of abdomen and pelvis, labelled by a network", {})


def write_held_out(data: Path, folder: Path) -> None:
    """Write the slices and the crop of other people, which no recipe may see."""
    labels = sitk.ReadImage(str(data / "series/example_ct_dicom_AMOS15_labels.nii.gz"))
    slices = data / "series/siemens_mct_20x2mm_j2k"
    _write(folder, "siemens_20x2mm", _stack(slices, labels), labels)
    image, labels = (
        sitk.ReadImage(str(data / "volumes" / name))
        for name in ("example_mr_sm.nii.gz", "example_mr_sm_AMOS15_labels.nii.gz")
    )
    _write(folder, "example_mr_sm", image, labels)
    names = {label.name: label.value for label in AMOS}
    _write_facts(folder, names, "20 slices of CT and a crop of MR", {"example_mr_sm": "MR"})


def _stack(slices: Path, like: sitk.Image) -> sitk.Image:
    """Return the series as a volume on the grid of `like`: its empty UIDs bar it as DICOM."""
    found = sorted(
        (pydicom.dcmread(path) for path in slices.iterdir()),
        key=lambda ds: float(ds.ImagePositionPatient[2]),
    )
    hu = np.stack(
        [ds.pixel_array * float(ds.RescaleSlope) + float(ds.RescaleIntercept) for ds in found]
    )
    image = sitk.GetImageFromArray(hu.astype(np.int16))
    image.SetOrigin([float(value) for value in found[0].ImagePositionPatient])
    rise = float(found[1].ImagePositionPatient[2]) - float(found[0].ImagePositionPatient[2])
    image.SetSpacing([*(float(value) for value in found[0].PixelSpacing), rise])
    return sitk.Resample(image, like, sitk.Transform(), sitk.sitkNearestNeighbor, -1024)


def _write(folder: Path, name: str, image: sitk.Image, labels: sitk.Image) -> None:
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(folder / "imagesTr" / f"{name}_0000.nii.gz"))
    as_bytes = sitk.Cast(labels, sitk.sitkUInt8)
    sitk.WriteImage(as_bytes, str(folder / "labelsTr" / f"{name}.nii.gz"))


def _write_facts(
    folder: Path, names: dict[str, int], description: str, modalities: dict[str, str]
) -> None:
    facts = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, **names},
        "numTraining": len(list((folder / "labelsTr").iterdir())),
        "file_ending": ".nii.gz",
        "modalities": modalities,
        "description": description,
        "licence": _LICENCE,
    }
    (folder / "dataset.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m viscera.training.example", description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    write_known(arguments.data, arguments.folder / "known")
    write_held_out(arguments.data, arguments.folder / "held-out")


if __name__ == "__main__":
    main()
