"""Measurements of every label of the model's task."""

import math
from collections.abc import Sequence
from dataclasses import replace

from viscera.domain.arrays import Labels
from viscera.domain.geometry import Geometry
from viscera.domain.models import Label, Model
from viscera.domain.results import OrganMeasurement, Presence, Removal
from viscera.domain.volumes import Volume
from viscera.measure.field_of_view import Found, displaced, outside_field_of_view, superior_range_mm
from viscera.measure.flags import flagged, side_flagged
from viscera.measure.tally import Tally, tally

ARRAY_EDGE = "array_edge"
RECONSTRUCTION_CIRCLE = "reconstruction_circle"


def measure(
    labels: Labels, volume: Volume, model: Model, removals: Sequence[Removal] = ()
) -> tuple[OrganMeasurement, ...]:
    """Measure each label of `model`, those that it lacks included.

    Parameters
    ----------
    labels
        (slice, row, column) on the volume's grid; 0 is background.
    volume
        Rescaled intensities: HU for CT, the scanner's own for MR.
    model
        Its labels, then its `not_segmented` ones, are the rows of the answer.
    removals
        What postprocessing took away from `labels` before.

    Returns
    -------
    tuple
        One row per label, in the model's order. An organ of which some voxel lies at the array's
        edge or at the edge of the reconstruction is `found_truncated`: its volume is a lower
        bound. One without voxels is `outside_field_of_view` where the found organs say that its
        usual place was not scanned, else `not_found`. Flags say what contradicts anatomy.

    Raises
    ------
    GeometryMismatch
        If `labels` and `volume` have different shapes.
    """
    counted = tally(labels, volume)
    found = {
        label.value: _found(label, counted, volume.geometry)
        for label in model.labels
        if counted.count[label.value]
    }
    places = tuple(_place(one, counted, volume.geometry) for one in found.values())
    unseen = outside_field_of_view(volume.geometry, places)
    lost_ml = {one.name: one.voxels * volume.geometry.voxel_ml for one in removals}
    rows = (
        *(
            replace(
                found.get(label.value) or _absent(label, unseen),
                removed_ml=lost_ml.get(label.name, 0.0),
            )
            for label in model.labels
        ),
        *(
            OrganMeasurement(label=label, presence=Presence.NOT_SEGMENTED)
            for label in model.not_segmented
        ),
    )
    if model.verdict.anchors:
        return flagged(rows, displaced(volume.geometry, places))
    return side_flagged(rows) if model.verdict.sides else rows


def _found(label: Label, counted: Tally, geometry: Geometry) -> OrganMeasurement:
    value = label.value
    voxels = int(counted.count[value])
    mean = float(counted.total[value]) / voxels
    variance = max(float(counted.squares[value]) / voxels - mean * mean, 0.0)
    spans = [counted.span(value, axis) for axis in range(3)]
    sizes = [
        (last - first + 1) * step
        for (first, last), step in zip(spans, geometry.spacing_mm, strict=True)
    ]
    centre = geometry.to_lps(counted.moments[value][None] / voxels)[0]
    measured = OrganMeasurement(
        label=label,
        presence=Presence.FOUND,
        voxels=voxels,
        volume_ml=voxels * geometry.voxel_ml,
        mean_intensity=mean,
        sd_intensity=math.sqrt(variance),
        extent_mm=(sizes[0], sizes[1], sizes[2]),
        centroid_lps=(float(centre[0]), float(centre[1]), float(centre[2])),
    )
    cuts = _cuts(spans, geometry.shape, at_border=bool(counted.at_border[value]))
    return (
        replace(measured, presence=Presence.FOUND_TRUNCATED, truncated_by=cuts)
        if cuts
        else measured
    )


def _cuts(
    spans: list[tuple[int, int]], shape: tuple[int, int, int], *, at_border: bool
) -> tuple[str, ...]:
    at_edge = any(
        first == 0 or last == length - 1 for (first, last), length in zip(spans, shape, strict=True)
    )
    return ((ARRAY_EDGE,) if at_edge else ()) + ((RECONSTRUCTION_CIRCLE,) if at_border else ())


def _place(organ: OrganMeasurement, counted: Tally, geometry: Geometry) -> Found:
    spans = [counted.span(organ.label.value, axis) for axis in range(3)]
    bottom, top = superior_range_mm(
        geometry, tuple(first for first, _ in spans), tuple(last for _, last in spans)
    )
    return Found(name=organ.label.name, volume_ml=organ.volume_ml, bottom_mm=bottom, top_mm=top)


def _absent(label: Label, unseen: frozenset[str]) -> OrganMeasurement:
    presence = Presence.OUTSIDE_FIELD_OF_VIEW if label.name in unseen else Presence.NOT_FOUND
    return OrganMeasurement(label=label, presence=presence)
