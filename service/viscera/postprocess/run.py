"""One label map, cleaned in place."""

from collections import defaultdict

import numpy as np

from viscera.domain.arrays import Labels
from viscera.domain.models import Model, PostprocessPolicy
from viscera.domain.results import Removal
from viscera.domain.volumes import Volume
from viscera.errors import GeometryMismatch
from viscera.postprocess.body import Body, find_body
from viscera.postprocess.keep import Fate, Piece, choose
from viscera.postprocess.pieces import Pieces

_EVERYWHERE = Body(inside=np.ones((1, 1, 1), dtype=bool), steps=(2**30, 2**30, 2**30))


def postprocess(labels: Labels, volume: Volume, model: Model) -> tuple[Removal, ...]:
    """Set the implausible pieces of `labels` to background, in place.

    Parameters
    ----------
    labels
        (slice, row, column) on the volume's grid, C-contiguous.
    volume
        Its intensities tell the patient from the table (CT only), its geometry left from right.
    model
        Without a `postprocess` policy nothing is done.

    Returns
    -------
    tuple
        One row for each label that lost voxels, in the model's order.

    Raises
    ------
    GeometryMismatch
        If the shapes differ.
    """
    if model.postprocess is None:
        return ()
    if labels.shape != volume.geometry.shape:
        raise GeometryMismatch(f"label map {labels.shape} on grid {volume.geometry.shape}")
    pieces = Pieces.find(labels)
    values, sums = pieces.sum_up(*_inside(volume, model.postprocess))
    fates = choose(_by_name(values, sums, volume, model), model.labels, model.postprocess)
    if fates.any():
        pieces.erase(labels, fates == Fate.STAYS)
    return tuple(_removals(values, sums, fates, model))


def warm_up() -> None:
    """Compile the kernels now, so that no job waits for it. Numba is configured before."""
    from viscera.postprocess import kernels  # noqa: F401 - importing compiles


def _inside(volume: Volume, policy: PostprocessPolicy) -> tuple[np.ndarray, tuple[int, int, int]]:
    body = find_body(volume) if policy.inside_body else None
    body = body or _EVERYWHERE
    return body.inside, body.steps


def _by_name(
    values: np.ndarray, sums: np.ndarray, volume: Volume, model: Model
) -> dict[str, list[Piece]]:
    names = {label.value: label.name for label in model.labels}
    centres = volume.geometry.to_lps(sums[:, 1:4] / sums[:, :1])
    found: defaultdict[str, list[Piece]] = defaultdict(list)
    for number, value in enumerate(values.tolist()):
        voxels = int(sums[number, 0])
        found[names[value]].append(
            Piece(
                number=number,
                voxels=voxels,
                volume_ml=voxels * volume.geometry.voxel_ml,
                share_inside=float(sums[number, 4]) / voxels,
                x_mm=float(centres[number, 0]),
            )
        )
    return found


def _removals(
    values: np.ndarray, sums: np.ndarray, fates: np.ndarray, model: Model
) -> list[Removal]:
    lost = np.zeros((256, len(Fate)), dtype=np.int64)
    np.add.at(lost, (values, fates), sums[:, 0])
    return [
        Removal(
            name=label.name,
            outside_body_voxels=int(lost[label.value, Fate.OUTSIDE_BODY]),
            wrong_side_voxels=int(lost[label.value, Fate.WRONG_SIDE]),
            apart_voxels=int(lost[label.value, Fate.APART]),
        )
        for label in model.labels
        if lost[label.value, Fate.STAYS + 1 :].any()
    ]
