"""SEG: one BINARY segmentation object on the source's own slices, through highdicom."""

from collections.abc import Sequence
from datetime import datetime

import numpy as np
from highdicom import AlgorithmIdentificationSequence
from highdicom.color import CIELabColor
from highdicom.seg import (
    SegmentAlgorithmTypeValues,
    Segmentation,
    SegmentationTypeValues,
    SegmentDescription,
)
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from viscera import __version__
from viscera.domain.arrays import Labels
from viscera.domain.geometry import Geometry
from viscera.encode.codes import ARTIFICIAL_INTELLIGENCE, concept
from viscera.encode.context import ResultContext
from viscera.encode.identity import Identity
from viscera.encode.segments import Segment, numbered
from viscera.encode.sources import CHARACTER_SET, Sources
from viscera.encode.stamp import day_and_time, finish, local_moment


def encode_seg(
    labels: Labels,
    segments: Sequence[Segment],
    sources: Sources,
    context: ResultContext,
    identity: Identity,
) -> Dataset:
    """Return the SEG of a label map.

    Parameters
    ----------
    labels
        (slice, row, column) on the stack's grid, by label value.
    segments
        What to describe. Frames without a voxel are left out; where there is no voxel at all,
        each segment gets one empty frame, for an object without frames is not valid (highdicom
        would write every frame of every segment).
    sources
        The stack that was segmented. Each SEG frame refers to the source frame that it lies on.
    context
        Model, time and job.
    identity
        The object's UIDs.
    """
    moment = local_moment(context.created_at, sources.header)
    found = any(segment.voxels for segment in segments)
    slices = sources.slices()
    planes = numbered(labels, segments) if found else np.zeros((1, *labels.shape[1:]), np.uint8)
    seg = _construct(
        slices if found else slices[:1],
        planes,
        [_description(segment, context, identity) for segment in segments],
        sources,
        context,
        identity,
        moment,
        omit_empty_frames=found,
    )
    finish(seg, moment, sources.header)
    _name_dimensions(seg, identity.dimension_organization_uid)
    if sources.is_multi_frame:
        _refer_to_frames(seg, sources)
    return seg


def _construct(
    slices: Sequence[Dataset],
    planes: Labels,
    descriptions: Sequence[SegmentDescription],
    sources: Sources,
    context: ResultContext,
    identity: Identity,
    moment: datetime,
    *,
    omit_empty_frames: bool,
) -> Dataset:
    day, time = day_and_time(moment)
    seg: Dataset = Segmentation(
        source_images=slices,
        pixel_array=planes,
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=descriptions,
        series_instance_uid=identity.seg_series_uid,
        series_number=sources.series_number(1),
        sop_instance_uid=identity.seg_uid,
        instance_number=1,
        manufacturer="Viscera",
        manufacturer_model_name="Viscera",
        software_versions=__version__,
        # Which device this is, its model's digest says best.
        device_serial_number=context.model.digest[:64],
        content_label="ORGANS",
        content_description=context.describe("Organs"),
        series_description=context.describe("Organs"),
        transfer_syntax_uid=ExplicitVRLittleEndian,
        omit_empty_frames=omit_empty_frames,
        content_date=day,
        content_time=time,
        series_date=day,
        series_time=time,
        specific_character_set=CHARACTER_SET,
    )
    return seg


def _description(
    segment: Segment, context: ResultContext, identity: Identity
) -> SegmentDescription:
    label, model = segment.label, context.model
    description = SegmentDescription(
        segment_number=segment.number,
        segment_label=label.title,
        segmented_property_category=concept(label.category),
        segmented_property_type=concept(label.type),
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=AlgorithmIdentificationSequence(
            name=model.name,
            family=ARTIFICIAL_INTELLIGENCE,
            version=model.version,
            source="Viscera",
            parameters={"model_sha256": model.digest, "engine": context.engine},
        ),
        tracking_uid=identity.tracking_uid(label.name),
        tracking_id=identity.tracking_id(label.title),
        display_color=CIELabColor.from_rgb(*label.rgb),
    )
    if label.laterality is not None:
        # highdicom has no argument for it; PS3.3 table C.8.20-4 puts it inside the type's item.
        type_item = description.SegmentedPropertyTypeCodeSequence[0]
        type_item.SegmentedPropertyTypeModifierCodeSequence = [concept(label.laterality)]
    return description


def _name_dimensions(seg: Dataset, uid: str) -> None:
    for item in (*seg.DimensionOrganizationSequence, *seg.DimensionIndexSequence):
        item.DimensionOrganizationUID = uid


def slices_of(seg: Dataset, geometry: Geometry) -> np.ndarray:
    """Return for each SEG frame the index of the slice of `geometry` that it lies on."""
    positions = np.array(
        [
            [float(x) for x in item.PlanePositionSequence[0].ImagePositionPatient]
            for item in seg.PerFrameFunctionalGroupsSequence
        ]
    )
    indices: np.ndarray = np.rint(geometry.to_index(positions)[:, 0]).astype(int)
    return indices


def _refer_to_frames(seg: Dataset, sources: Sources) -> None:
    """Turn references to slices into references to frames of instances."""
    sop_class_uid, frames = sources.stack.facts.sop_class_uid, sources.stack.frames
    where = slices_of(seg, sources.stack.geometry)
    for item, index in zip(seg.PerFrameFunctionalGroupsSequence, where, strict=True):
        reference = item.DerivationImageSequence[0].SourceImageSequence[0]
        reference.ReferencedSOPClassUID = sop_class_uid
        reference.ReferencedFrameNumber = frames[index].source.frame
    once = {}
    for item in seg.SourceImageSequence:
        item.ReferencedSOPClassUID = sop_class_uid
        once[item.ReferencedSOPInstanceUID] = item
    seg.SourceImageSequence = list(once.values())
    seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence = list(once.values())
