"""What other programs make of a folder of DICOM files: SimpleITK, dcm2niix and highdicom.

Each is used as its documentation shows it, with its defaults, and imports itself only where it is
used: in one process their copies of libjpeg get in one another's way.
"""

import os
import shutil
import struct
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from oddities.judge import Built

if TYPE_CHECKING:
    import SimpleITK as sitk

_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""From NIfTI's RAS."""


class Refusal(Exception):
    """A program built nothing; its own words."""


def simpleitk(folder: Path) -> Sequence[Built]:
    """Build every series that its reader finds."""
    import SimpleITK as sitk

    built = []
    for uid in sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder)):
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), uid))
        try:
            image = reader.Execute()
        except RuntimeError as error:
            raise Refusal(_last_line(str(error))) from error
        built += _of_itk(image)
    if not built:
        raise Refusal("no series found")
    return built


def dcm2niix(folder: Path) -> Sequence[Built]:
    """Convert the folder; every NIfTI file that comes out counts."""
    with tempfile.TemporaryDirectory() as out:
        command = [_dcm2niix_path(), "-z", "n", "-b", "n", "-o", out, str(folder)]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        files = sorted(Path(out).glob("*.nii"))
        if not files:
            raise Refusal(_last_line((run.stdout + run.stderr).replace(str(folder), "FOLDER")))
        return [volume for path in files for volume in _of_nifti(path.read_bytes())]


def _dcm2niix_path() -> str:
    """Return the program of the wheel beside this interpreter, else the one on the path."""
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    found = shutil.which("dcm2niix", path=places)
    if found is None:
        raise FileNotFoundError("dcm2niix is not installed: make .venv/.dev")
    return found


def highdicom_(folder: Path) -> Sequence[Built]:
    """Build one volume of all images, as `get_volume_from_series` and `get_volume` do."""
    import highdicom
    import pydicom

    datasets = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if all("NumberOfFrames" in ds for ds in datasets):
                volumes = [highdicom.Image.from_dataset(ds).get_volume() for ds in datasets]
            else:
                volumes = [highdicom.get_volume_from_series(datasets)]
    except Exception as error:  # whatever it says no with is its answer
        raise Refusal(f"{type(error).__name__}: {_first_sentence(str(error))}") from error
    return [Built(voxels=v.array, affine_lps=v.affine) for v in volumes]


PROGRAMS: dict[str, Callable[[Path], Sequence[Built]]] = {
    "SimpleITK": simpleitk,
    "dcm2niix": dcm2niix,
    "highdicom": highdicom_,
}


def _of_itk(image: "sitk.Image") -> Iterator[Built]:
    """Yield the 3-D volumes of an image of three or four dimensions."""
    import SimpleITK as sitk

    size = image.GetDimension()
    affine = np.eye(4)
    directions = np.array(image.GetDirection()).reshape(size, size) * image.GetSpacing()
    affine[:3, :3] = directions[:3, :3]
    affine[:3, 3] = image.GetOrigin()[:3]
    array = sitk.GetArrayFromImage(image).T
    for volume in np.moveaxis(array, 3, 0) if size == 4 else [array]:
        yield Built(voxels=volume, affine_lps=affine)


_TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4"}


def _of_nifti(data: bytes) -> Iterator[Built]:
    """Yield the volumes of an uncompressed NIfTI-1 file, read by its sform."""
    dims = struct.unpack_from("<8h", data, 40)
    (datatype,) = struct.unpack_from("<h", data, 70)
    offset, slope, intercept = struct.unpack_from("<3f", data, 108)
    if datatype not in _TYPES:
        raise Refusal(f"a file of NIfTI type {datatype}")
    affine = np.eye(4)
    affine[:3] = np.array(struct.unpack_from("<12f", data, 280)).reshape(3, 4)
    shape = [max(n, 1) for n in dims[1:5]]
    values = np.frombuffer(data, f"<{_TYPES[datatype]}", int(np.prod(shape)), int(offset))
    scaled = values * float(slope or 1.0) + float(intercept)
    for volume in np.moveaxis(scaled.reshape(shape, order="F"), 3, 0):
        yield Built(voxels=volume, affine_lps=_LPS @ affine)


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip()[:120] if lines else "no word"


def _first_sentence(text: str) -> str:
    return " ".join(text.split()).split(". ")[0][:120]
