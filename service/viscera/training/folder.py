"""A folder of labelled volumes in nnU-Net's form.

``imagesTr/NAME_0000.nii.gz``, ``labelsTr/NAME.nii.gz`` and ``dataset.json``, whose ``labels``
name every value. Structures beside the fifteen organs are welcome: they stay background, but
synthesis gives each a brightness of its own. Organs that ``labels`` does not name are unlabelled:
no voxel of that folder counts as proof that they are absent.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from viscera.domain.organs import AMOS
from viscera.errors import InvalidRequest

VALUES = {label.name: label.value for label in AMOS}
_OTHER_NAMES = {
    "kidney right": "right kidney",
    "kidney left": "left kidney",
    "gallbladder": "gall bladder",
    "oesophagus": "esophagus",
    "inferior vena cava": "postcava",
    "adrenal gland right": "right adrenal gland",
    "adrenal gland left": "left adrenal gland",
    "urinary bladder": "bladder",
    "prostate": "prostate/uterus",
    "uterus": "prostate/uterus",
    "prostate uterus": "prostate/uterus",
}


def organ_name(name: str) -> str:
    """Return AMOS's name for `name`, or `name` in small letters with spaces."""
    plain = name.lower().replace("_", " ").strip()
    return _OTHER_NAMES.get(plain, plain)


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """What ``dataset.json`` says, and where the files are.

    Parameters
    ----------
    names
        By label value, background left out.
    modalities
        By volume, where it is not CT. Ours: nnU-Net has one for all.
    """

    path: Path
    names: dict[int, str]
    ending: str
    modalities: dict[str, str]
    description: str
    licence: str

    def pairs(self) -> Iterator[tuple[str, Path, Path]]:
        """Yield name, image and labels of every volume, by name.

        Raises
        ------
        InvalidRequest
            If there is no volume, or labels lack their image.
        """
        paths = sorted((self.path / "labelsTr").glob(f"*{self.ending}"))
        if not paths:
            raise InvalidRequest(f"{self.path}/labelsTr holds no *{self.ending}")
        for labels in paths:
            name = labels.name.removesuffix(self.ending)
            image = self.path / "imagesTr" / f"{name}_0000{self.ending}"
            if not image.exists():
                raise InvalidRequest(f"{image} is missing; labelsTr has its labels")
            yield name, image, labels


def open_folder(path: Path) -> Folder:
    """Read ``dataset.json``.

    Raises
    ------
    InvalidRequest
        If it is missing or malformed, or names none of the fifteen organs.
    """
    try:
        facts = json.loads((path / "dataset.json").read_text(encoding="utf-8"))
        names = {int(value): str(name) for name, value in facts["labels"].items() if int(value)}
        folder = Folder(
            path=path,
            names=names,
            ending=str(facts.get("file_ending", ".nii.gz")),
            modalities=dict(facts.get("modalities", {})),
            description=str(facts.get("description", "")),
            licence=str(facts.get("licence", "not stated")),
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InvalidRequest(
            f"{path}/dataset.json cannot be used: expected JSON with labels as name: value "
            f"({type(error).__name__})"
        ) from error
    if not any(organ_name(name) in VALUES for name in names.values()):
        raise InvalidRequest(f"{path}/dataset.json names none of the fifteen organs")
    return folder
