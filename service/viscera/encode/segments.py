"""Which organs become segments, and under which number."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from viscera.domain.models import Label, Model
from viscera.domain.organs import resolve_by_sex
from viscera.domain.results import OrganMeasurement


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One segment of a SEG."""

    number: int
    """From 1 without a gap, as BINARY asks."""
    label: Label
    """Resolved by the patient's sex."""
    voxels: int


def resolve(
    measurements: Sequence[OrganMeasurement], patient_sex: str
) -> tuple[OrganMeasurement, ...]:
    """Return `measurements` with each label as it is meant in this patient."""
    return tuple(replace(one, label=resolve_by_sex(one.label, patient_sex)) for one in measurements)


def found_segments(measurements: Sequence[OrganMeasurement]) -> tuple[Segment, ...]:
    """Return a segment for each organ that has voxels, by label value.

    An organ that was not found is no segment: a viewer would list it as if it were there.
    """
    found = sorted((one for one in measurements if one.voxels), key=lambda one: one.label.value)
    return tuple(
        Segment(number=number, label=one.label, voxels=one.voxels)
        for number, one in enumerate(found, 1)
    )


def empty_segments(model: Model, patient_sex: str) -> tuple[Segment, ...]:
    """Return what an empty SEG says was looked for; it must have a segment (PS3.3 C.8.20.2)."""
    return tuple(
        Segment(number=number, label=resolve_by_sex(label, patient_sex), voxels=0)
        for number, label in enumerate(model.labels, 1)
    )


def segments_of(
    organs: Sequence[OrganMeasurement], model: Model, patient_sex: str
) -> tuple[Segment, ...]:
    """Return the segments of a result's SEG; `organs` carry labels resolved by sex."""
    return found_segments(organs) or empty_segments(model, patient_sex)
