"""One oddity, and the series that the cases are made of."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

import synthetic
from oddities.judge import Scanned

SHAPE = (10, 24, 20)
UIDS = {"study_uid": "1.2.3.1", "series_uid": "1.2.3.2", "frame_of_reference_uid": "1.2.3.3"}
"""Of every case: refusals name instances, and the table must not change from run to run."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Files:
    """What is sent, and what was scanned."""

    datasets: Sequence[Dataset]
    """Each becomes a file, in this order."""
    scanned: tuple[Scanned, ...]
    never: str = ""
    """Where any volume would be wrong: what it would be a volume of."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """A row of the table."""

    group: str
    name: str
    make: Callable[[], Files]
    usable: bool
    """Whether Viscera must build exactly what was scanned; otherwise it must refuse."""
    names: tuple[str, ...] = ()
    """What the refusal must say, such as a position."""


def write(files: Files, folder: Path) -> None:
    """Write the files under names that follow their order."""
    for number, ds in enumerate(files.datasets):
        ds.save_as(folder / f"{number:04d}.dcm", enforce_file_format=True)


def values(seed: int = 0, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """Return HU with hills, noise and one bright corner: no two orientations look alike."""
    return synthetic.body(shape, seed)


def slices(hu: np.ndarray, **fields: object) -> synthetic.Slices:
    """Return a CT series of `hu`, stored signed with an intercept of -1024, as many are."""
    return synthetic.Slices(stored=(hu + 1024).astype(np.int16), **UIDS, **fields)


def datasets(s: synthetic.Slices, first_number: int = 1, **changes: object) -> list[Dataset]:
    """Return one instance a slice; `changes` are set on each, None deletes."""
    made = []
    for k in range(len(s.stored)):
        ds = synthetic.dataset_of(s, k, f"{s.series_uid}.{first_number + k}")
        ds.InstanceNumber = first_number + k
        change(ds, **changes)
        made.append(ds)
    return made


def change(ds: Dataset, **changes: object) -> Dataset:
    """Set or, with None, delete elements; the file meta follows."""
    for keyword, value in changes.items():
        if value is None:
            delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    return ds


def moved(ds: Dataset, position_lps: Sequence[float]) -> Dataset:
    """Set the slice's position."""
    ds.ImagePositionPatient = [f"{x:.8g}"[:16] for x in position_lps]
    return ds


def scanned(
    s: synthetic.Slices,
    hu: np.ndarray,
    *,
    keep: Sequence[int] | None = None,
    positions: np.ndarray | None = None,
    **more: object,
) -> Scanned:
    """Return the truth of a series: of slices `keep`, or at `positions` instead of even steps."""
    which = list(range(len(hu)) if keep is None else keep)
    even = np.array([s.position(k) for k in range(len(hu))])
    row, column = np.array(s.orientation, float).reshape(2, 3)
    return Scanned(
        voxels=hu[which],
        positions_lps=(even if positions is None else positions)[which],
        along_row=row * s.spacing[1],
        down_column=column * s.spacing[0],
        **more,
    )


def plain(hu: np.ndarray | None = None, **fields: object) -> Files:
    """Return a series as it should be, but for `fields` of `synthetic.Slices`."""
    hu = values() if hu is None else hu
    s = slices(hu, **fields)
    return Files(datasets=datasets(s), scanned=(scanned(s, hu),))
