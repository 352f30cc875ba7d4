"""Putting a model in force: only one that knows left from right, and workers take it up."""

from contextlib import closing
from pathlib import Path

from viscera import models, segment, volume
from viscera.config import Settings
from viscera.domain.anatomy import RIGHT_OF
from viscera.domain.models import Model
from viscera.domain.results import OrganMeasurement
from viscera.domain.volumes import Volume
from viscera.errors import ModelRefused
from viscera.measure.ranges import volume_ranges
from viscera.metrics import Metrics
from viscera.models import active
from viscera.phantom import make_phantom
from viscera.pipeline import Pipeline

_PHANTOM_SEED = 7
_LEAST_ML = 20.0
"""Less of an organ says nothing about where it lies; of a small one, less than is usual."""


def activate(
    settings: Settings,
    name: str,
    *,
    check_volume: Path | None = None,
    modality: str = "CT",
    unchecked: bool = False,
) -> tuple[Model, str]:
    """Put ``name/version`` in force; return it and what its check said.

    Workers look at every submission which version is in force, so the next series is segmented
    with it; jobs that are planned keep theirs.

    Parameters
    ----------
    check_volume
        A volume of an abdomen, NIfTI, NRRD or MHA; None: a phantom CT.
    modality
        Of that volume.
    unchecked
        Whether somebody else has seen that it knows left from right.

    Raises
    ------
    ModelRefused
        If the liver that it finds is not on the right of the spleen, or it finds none of both; of
        a model without them, its kidneys or adrenals.
    """
    repo = settings.models.repo
    model = models.load_model(repo, name)
    said = (
        "was not checked, as asked"
        if unchecked
        else _check_sides(settings, model, check_volume, modality)
    )
    family = repo / model.name
    # Not loaded: the one in force may be the damaged one that this shall replace.
    before = models.version_in_force(repo, model.name)
    if active.active_version(family) is None and before != model.version:
        active.activate(family, before)  # so that there is something to roll back to
    active.activate(family, model.version)
    return model, said


def rollback(settings: Settings, family: str) -> Model:
    """Put the version that was in force before in force again.

    Raises
    ------
    ModelRefused, ModelNotFound
        If that one cannot be served any more; nothing is changed then.
    InvalidRequest
        If none was in force before.
    """
    repo = settings.models.repo
    models.version_in_force(repo, family)  # the name's shape; that one may be what is broken
    version = active.previous_version(repo / family)
    model = models.load_model(repo, f"{family}/{version}")
    active.rollback(repo / family)
    return model


def _check_sides(settings: Settings, model: Model, check_volume: Path | None, modality: str) -> str:
    """Return what was found, in a sentence."""
    known = {label.name for label in model.labels}
    pair = next((one for one in RIGHT_OF if known.issuperset(one)), None)
    if pair is None:
        return "has no liver and spleen and no other pair, so left and right were not checked"
    engine = settings.engine
    segment.configure_numba(engine.numba_cache, engine.numba_threading_layer, engine.threads)
    with closing(Pipeline(settings, Metrics())) as pipeline:
        _, found = pipeline.segment(
            [_check_scan(check_volume, modality)] * len(model.channels),
            model.full_name,
            lambda *_: None,
        )
    organs = {one.label.name: one for one in found.measurements}
    seen = f"{model.full_name} in {check_volume or 'the phantom'}"
    return _compare(organs[pair[0]], organs[pair[1]], seen)


def _compare(right: OrganMeasurement, left: OrganMeasurement, seen: str) -> str:
    """Return how far `right` lies to the patient's right of `left`, in a sentence.

    Raises
    ------
    ModelRefused
        If it does not, or if too little of one was found.
    """
    names = right.label.name, left.label.name
    least_ml = min(_LEAST_ML, *(volume_ranges()[name].usual_ml[0] for name in names))
    if min(right.volume_ml, left.volume_ml) < least_ml:
        raise ModelRefused(
            f"{seen} finds no {names[0]} or no {names[1]} of {least_ml:g} mL, so nobody knows"
            " whether it has left and right exchanged; give --volume SCAN of an abdomen, or"
            " --unchecked"
        )
    gap_mm = _left_mm(left) - _left_mm(right)
    if gap_mm <= 0:
        raise ModelRefused(
            f"{seen} puts the {names[0]} {-gap_mm:.0f} mm to the left of the {names[1]}: its"
            " orientation is wrong; import it again with the right --orientation"
        )
    return f"puts the {names[0]} {gap_mm:.0f} mm to the right of the {names[1]}"


def _check_scan(path: Path | None, modality: str) -> Volume:
    if path is None:
        return make_phantom(_PHANTOM_SEED).volume
    return volume.read_volume(path, modality)


def _left_mm(organ: OrganMeasurement) -> float:
    assert organ.centroid_lps is not None
    return organ.centroid_lps[0]
