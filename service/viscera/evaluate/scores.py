"""One case: how well each organ of a prediction agrees with the reference."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from viscera.domain.geometry import Geometry
from viscera.errors import InvalidRequest

_Box = tuple[slice, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One organ of one case."""

    organ: str
    reference_ml: float
    prediction_ml: float
    dice: float | None
    """2 |A and B| / (|A| + |B|); None: the reference does not have the organ."""
    nsd: float | None
    """Share of both surfaces within the tolerance of the other one."""


def metrics_library() -> ModuleType:
    """Return DeepMind's surface-distance.

    Raises
    ------
    InvalidRequest
        If the extra is not installed.
    """
    try:
        import surface_distance
    except ImportError as error:
        raise InvalidRequest(
            "the metrics are not installed; install them with: pip install 'viscera[evaluate]'"
        ) from error
    module: ModuleType = surface_distance
    return module


def by_name(labels: np.ndarray, names: Mapping[int, str], organs: Sequence[str]) -> np.ndarray:
    """Return `labels` with each value replaced by its organ's place in `organs`, from 1."""
    table = np.zeros(256, dtype=np.uint8)
    for value, name in names.items():
        if name in organs:
            table[value] = organs.index(name) + 1
    numbered: np.ndarray = table[labels]
    return numbered


def score(
    prediction: np.ndarray,
    reference: np.ndarray,
    geometry: Geometry,
    organs: Sequence[str],
    tolerance_mm: float,
) -> Iterator[Score]:
    """Yield a score for each organ that one of the two has.

    Parameters
    ----------
    prediction, reference
        (slice, row, column), uint8, by the place in `organs` from 1.
    geometry
        Of both.
    organs
        Their names.
    tolerance_mm
        Of the normalised surface distance.
    """
    library = metrics_library()
    boxes = [_boxes(array, len(organs)) for array in (prediction, reference)]
    for place, organ in enumerate(organs, 1):
        box = _union(boxes[0][place - 1], boxes[1][place - 1])
        if box is None:
            continue
        ours, theirs = prediction[box] == place, reference[box] == place
        scored = bool(theirs.any())
        yield Score(
            organ=organ,
            reference_ml=float(theirs.sum()) * geometry.voxel_ml,
            prediction_ml=float(ours.sum()) * geometry.voxel_ml,
            dice=float(library.compute_dice_coefficient(theirs, ours)) if scored else None,
            nsd=_nsd(library, theirs, ours, geometry, tolerance_mm) if scored else None,
        )


def _nsd(
    library: ModuleType,
    theirs: np.ndarray,
    ours: np.ndarray,
    geometry: Geometry,
    tolerance_mm: float,
) -> float:
    if not ours.any():
        return 0.0  # where the library fails on numpy 2
    with warnings.catch_warnings():
        # It calls scipy by a name that scipy 2 drops; the extra asks for scipy below 2.
        warnings.simplefilter("ignore", DeprecationWarning)
        distances = library.compute_surface_distances(theirs, ours, geometry.spacing_mm)
    return float(library.compute_surface_dice_at_tolerance(distances, tolerance_mm))


def _boxes(labels: np.ndarray, count: int) -> list[_Box | None]:
    """Return each organ's bounding box as slices, or None."""
    from scipy import ndimage

    found: list[_Box | None] = ndimage.find_objects(labels, max_label=count)
    return found


def _union(one: _Box | None, other: _Box | None) -> _Box | None:
    if one is None or other is None:
        return one or other
    return tuple(
        slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(one, other, strict=True)
    )
