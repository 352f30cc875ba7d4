"""The same SEG by highdicom, as it would be asked for by hand: the oracle of our writer."""

from copy import deepcopy

import numpy as np
import pydicom
from highdicom import AlgorithmIdentificationSequence
from highdicom.color import CIELabColor
from highdicom.seg import (
    SegmentAlgorithmTypeValues,
    Segmentation,
    SegmentationTypeValues,
    SegmentDescription,
)
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage

from viscera import __version__
from viscera.encode.codes import ARTIFICIAL_INTELLIGENCE, concept
from viscera.encode.sources import CHARACTER_SET
from viscera.encode.stamp import local_moment


def by_highdicom(labels, segments, sources, ctx, identity, source_images=None) -> Dataset:
    """Return highdicom's SEG of a label map.

    `source_images` are by default one single-frame header per slice of the stack.
    """
    moment = local_moment(ctx.created_at, sources.header)
    found = any(segment.voxels for segment in segments)
    images = source_images or single_frames(sources)
    table = np.zeros(256, dtype=np.uint8)
    for segment in segments:
        table[segment.label.value] = segment.number
    seg = Segmentation(
        source_images=images if found else images[:1],
        pixel_array=table[labels] if found else np.zeros((1, *labels.shape[1:]), np.uint8),
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=[_description(segment, ctx, identity) for segment in segments],
        series_instance_uid=identity.seg_series_uid,
        series_number=sources.series_number(1),
        sop_instance_uid=identity.seg_uid,
        instance_number=1,
        manufacturer="Viscera",
        manufacturer_model_name="Viscera",
        software_versions=__version__,
        device_serial_number=ctx.model.digest[:64],
        content_label="ORGANS",
        content_description=ctx.describe("Organs"),
        series_description=ctx.describe("Organs"),
        transfer_syntax_uid=ExplicitVRLittleEndian,
        omit_empty_frames=found,
        content_date=moment.date(),
        content_time=moment.time(),
        series_date=moment.date(),
        series_time=moment.time(),
        specific_character_set=CHARACTER_SET,
    )
    seg.PatientName = sources.header.PatientName
    return seg


def single_frames(sources) -> list[Dataset]:
    """Return one single-frame header per slice, whatever the slices came from."""
    stack, headers = sources.stack, []
    for frame in stack.frames:
        ds = deepcopy(sources.header) if not headers else Dataset()
        ds.PatientName = None  # highdicom warns of names without a caret
        ds.SOPClassUID = CTImageStorage if stack.facts.modality == "CT" else MRImageStorage
        ds.SOPInstanceUID = frame.source.sop_uid
        ds.StudyInstanceUID = stack.facts.study_uid
        ds.SeriesInstanceUID = stack.facts.series_uid
        ds.FrameOfReferenceUID = stack.facts.frame_of_reference_uid
        ds.Modality = stack.facts.modality
        ds.Rows, ds.Columns = frame.rows, frame.columns
        ds.ImageOrientationPatient = list(frame.orientation_lps)
        ds.ImagePositionPatient = list(frame.position_lps)
        ds.PixelSpacing = list(frame.spacing_mm)
        ds.SpacingBetweenSlices = sources.slice_gap_mm
        ds.SliceThickness = sources.header.SliceThickness or sources.slice_gap_mm
        headers.append(ds)
    return headers


def _description(segment, ctx, identity) -> SegmentDescription:
    label, model = segment.label, ctx.model
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
            parameters={"model_sha256": model.digest, "engine": ctx.engine},
        ),
        tracking_uid=identity.tracking_uid(label.name),
        tracking_id=identity.tracking_id(label.title),
        display_color=CIELabColor.from_rgb(*label.rgb),
    )
    if label.laterality is not None:
        # highdicom has no argument for it; PS3.3 table C.8.20-4 puts it inside the type's item.
        kind = description.SegmentedPropertyTypeCodeSequence[0]
        kind.SegmentedPropertyTypeModifierCodeSequence = [concept(label.laterality)]
    return description


def differences(ours: Dataset, theirs: Dataset, path: str = "") -> dict[str, str]:
    """Return what differs between two datasets by keyword path; items are numbered from 0."""
    found = {}
    for tag in sorted({*ours.keys(), *theirs.keys()}):
        where = f"{path}{pydicom.datadict.keyword_for_tag(tag)}"
        if tag not in theirs or tag not in ours:
            found[where] = "ours" if tag in ours else "theirs"
            continue
        one, other = ours[tag], theirs[tag]
        if one.VR == other.VR == "SQ":
            pairs = zip(one.value, other.value, strict=False)
            for number, (left, right) in enumerate(pairs):
                found |= differences(left, right, f"{where}[{number}].")
            if len(one.value) != len(other.value):
                found[where] = f"{len(one.value)} and {len(other.value)} items"
        elif (one.VR, one.value) != (other.VR, other.value):
            found[where] = f"{one.value!r} and {other.value!r}"
    return found
