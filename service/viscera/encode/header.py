"""The SEG's header: everything but the sequences that grow with the frames, and the bits."""

from collections.abc import Sequence

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, SegmentationStorage
from pydicom.valuerep import DA, TM, DSfloat

from viscera import __version__
from viscera.encode import codes
from viscera.encode.context import ResultContext
from viscera.encode.describe import code_item, segment_item
from viscera.encode.frames import Frames
from viscera.encode.identity import Identity, derived_uid
from viscera.encode.inherited import LOSSY, PATIENT, STUDY, inherit, scanner
from viscera.encode.segments import Segment
from viscera.encode.sources import CHARACTER_SET, Sources
from viscera.encode.stamp import finish, local_moment

_DIMENSIONS = (
    (0x0062000B, 0x0062000A, "Referenced Segment Number"),
    (0x00200032, 0x00209113, "Image Position Patient"),
)
"""(index pointer, functional group pointer, label)."""


def seg_header(
    segments: Sequence[Segment],
    frames: Frames,
    sources: Sources,
    context: ResultContext,
    identity: Identity,
) -> Dataset:
    """Return the header of a BINARY SEG, file meta included.

    References
    ----------
    DICOM PS3.3 A.51 (IOD), C.8.20 (modules).
    """
    ds = Dataset()
    ds.file_meta = _file_meta(identity)
    ds.SpecificCharacterSet = CHARACTER_SET
    inherit(ds, sources.header, (*PATIENT, *STUDY))
    ds.StudyInstanceUID = sources.stack.facts.study_uid
    _add_series_and_equipment(ds, sources, context, identity)
    _add_image(ds, frames, sources, context)
    ds.SegmentationType = "BINARY"
    ds.SegmentsOverlap = "NO"
    ds.SegmentSequence = [segment_item(segment, context, identity) for segment in segments]
    _add_dimensions(ds, identity.dimension_organization_uid)
    ds.SharedFunctionalGroupsSequence = [_shared_groups(sources)]
    finish(ds, local_moment(context.created_at, sources.header, context.site), sources.header)
    return ds


def _file_meta(identity: Identity) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\0\1"
    meta.MediaStorageSOPClassUID = SegmentationStorage
    meta.MediaStorageSOPInstanceUID = UID(identity.seg_uid)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(derived_uid("implementation", "Viscera"))
    meta.ImplementationVersionName = f"VISCERA_{__version__}"[:16]
    return meta


def _add_series_and_equipment(
    ds: Dataset, sources: Sources, context: ResultContext, identity: Identity
) -> None:
    moment = local_moment(context.created_at, sources.header, context.site)
    ds.SOPClassUID, ds.SOPInstanceUID = SegmentationStorage, identity.seg_uid
    ds.Modality, ds.SeriesInstanceUID = "SEG", identity.seg_series_uid
    ds.SeriesNumber, ds.InstanceNumber = sources.series_number(1), 1
    ds.SeriesDescription = context.describe("Organs")
    ds.SeriesDate = ds.ContentDate = DA(moment.date())
    ds.SeriesTime = ds.ContentTime = TM(moment.time())
    ds.Manufacturer = ds.ManufacturerModelName = "Viscera"
    ds.SoftwareVersions = __version__
    # Which device this is, its model's digest says best.
    ds.DeviceSerialNumber = context.model.digest[:64]
    contributor = scanner(sources.header)
    if contributor is not None:
        contributor.PurposeOfReferenceCodeSequence = [code_item(codes.ACQUISITION_EQUIPMENT)]
        ds.ContributingEquipmentSequence = [contributor]


def _add_image(ds: Dataset, frames: Frames, sources: Sources, context: ResultContext) -> None:
    ds.ImageType = ["DERIVED", "PRIMARY"]
    ds.ContentLabel = "ORGANS"
    ds.ContentDescription = context.describe("Organs")
    ds.ContentCreatorName = ""  # type 2 in PS3.3 10.9, and nobody but a program drew this
    ds.FrameOfReferenceUID = sources.frame_of_reference_uid
    ds.PositionReferenceIndicator = sources.header.get("PositionReferenceIndicator")
    _, ds.Rows, ds.Columns = sources.stack.geometry.shape
    ds.NumberOfFrames = len(frames.places)
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 1, 1, 0, 0
    ds.PresentationLUTShape = "IDENTITY"
    ds.LossyImageCompression = "00"
    inherit(ds, sources.header, LOSSY)


def _add_dimensions(ds: Dataset, uid: str) -> None:
    organization = Dataset()
    organization.DimensionOrganizationUID = uid
    ds.DimensionOrganizationSequence = [organization]
    ds.DimensionIndexSequence = [_dimension(uid, *one) for one in _DIMENSIONS]


def _dimension(uid: str, pointer: int, group: int, label: str) -> Dataset:
    ds = Dataset()
    ds.DimensionOrganizationUID = uid
    ds.DimensionIndexPointer, ds.FunctionalGroupPointer = pointer, group
    ds.DimensionDescriptionLabel = label
    return ds


def _shared_groups(sources: Sources) -> Dataset:
    frame, between = sources.stack.frames[0], sources.slice_gap_mm
    orientation, measures, ds = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = _ds(*frame.orientation_lps)
    measures.PixelSpacing = _ds(*frame.spacing_mm)
    # Of the source only the stack's own gap is true: the attribute may be missing or negative.
    measures.SpacingBetweenSlices = _ds(between)[0]
    measures.SliceThickness = _ds(sources.header.get("SliceThickness") or between)[0]
    ds.PlaneOrientationSequence, ds.PixelMeasuresSequence = [orientation], [measures]
    return ds


def _ds(*numbers: float) -> list[DSfloat]:
    """Return numbers as decimal strings of at most 16 characters."""
    return [DSfloat(number, auto_format=True) for number in numbers]
