"""Our SEG beside highdicom's of the same label map: every attribute, and every bit.

Both are read from files. What differs on purpose is listed; anything else is a failure.
"""

import hashlib
import re
from io import BytesIO

import numpy as np
import pydicom
import pytest
from encode_series import (
    AXIAL,
    CORONAL,
    FLIPPED,
    OBLIQUE,
    SHAPE,
    write_enhanced,
    write_legacy_converted,
    write_single_frames,
)
from encode_stacks import blobs, context, model, stack_of
from highdicom.base import get_iod_module_map, get_module_attribute_map
from highdicom_seg import by_highdicom, differences

from judges import dciodvfy_errors, dcmqi_points, highdicom_labels
from viscera.domain.organs import AMOS
from viscera.domain.volumes import Volume
from viscera.encode import frames as frames_room
from viscera.encode.frames import pack_frames
from viscera.encode.identity import Identity, digest_of
from viscera.encode.inherited import PATIENT, STUDY
from viscera.encode.results import write_seg
from viscera.encode.roundtrip import check_seg
from viscera.encode.segments import resolve, segments_of
from viscera.encode.sources import read_sources
from viscera.errors import RoundTripMismatch, UnusableSeries
from viscera.measure import measure

INTENDED = {
    "InstanceCreationDate": "highdicom takes it from the clock, we from the job",
    "InstanceCreationTime": "as above",
    "DimensionOrganizationSequence[0].DimensionOrganizationUID": "drawn there, derived here",
    "DimensionIndexSequence[0].DimensionOrganizationUID": "as above",
    "DimensionIndexSequence[1].DimensionOrganizationUID": "as above",
    "ContentCreatorName": "type 2 for dcmtk; highdicom leaves it out where nobody is named",
    "PixelData's padding": "an odd length is padded with a zero byte here, with a digit 0 there",
    "ContributingEquipmentSequence": "highdicom names itself as the second contributor",
}
ONE_SEGMENT = {
    "DimensionOrganizationType": "highdicom adds 3D where a single segment's slices are even",
    "SharedFunctionalGroupsSequence[0].SegmentIdentificationSequence": "ours is in each frame",
    "PerFrameFunctionalGroupsSequence[#].SegmentIdentificationSequence": "as above",
}
NOTHING_FOUND = {
    "ReferencedSeriesSequence[0].ReferencedInstanceSequence": "ours names all that was looked at",
    "SourceImageSequence": "as above",
}
_SOURCE = "PerFrameFunctionalGroupsSequence[#].DerivationImageSequence[#].SourceImageSequence[#]."
_INSTANCES = "ReferencedSeriesSequence[#].ReferencedInstanceSequence"
STAND_INS = {
    f"{_SOURCE}ReferencedSOPClassUID": "highdicom was handed single-frame stand-ins of the slices",
    f"{_SOURCE}ReferencedFrameNumber": "so it has no frame numbers",
    _INSTANCES: "and names an instance per slice",
    f"{_INSTANCES}[#].ReferencedSOPClassUID": "as above",
    f"{_INSTANCES}[#].ReferencedSOPInstanceUID": "as above",
    "SourceImageSequence": "as above",
    "SourceImageSequence[#].ReferencedSOPClassUID": "as above",
    "SourceImageSequence[#].ReferencedSOPInstanceUID": "as above",
}


def pair(stack, labels, folder, source_images=None, **facts):
    """Write the SEG twice, ours and highdicom's; return both paths and what they were made of."""
    ctx = context(**facts)
    volume = Volume(
        voxels=np.zeros(labels.shape, np.int16),
        geometry=stack.geometry,
        modality=stack.facts.modality,
    )
    organs = resolve(measure(labels, volume, ctx.model), stack.facts.patient_sex)
    segments = segments_of(organs, ctx.model, stack.facts.patient_sex)
    sources = read_sources(stack)
    write_seg(labels, organs, sources, ctx, folder, folder)
    identity = Identity(job_key=ctx.job_key, labels_sha256=digest_of(labels))
    theirs = by_highdicom(labels, segments, sources, ctx, identity, source_images)
    theirs.save_as(folder / "highdicom.dcm", enforce_file_format=True)
    return folder / "segmentation.dcm", folder / "highdicom.dcm", segments


def unintended(ours, theirs, *allowed: dict[str, str]) -> dict[str, str]:
    known = {key for one in allowed for key in one}
    pair = pydicom.dcmread(ours), pydicom.dcmread(theirs)
    for seg in pair:
        seg.PixelData = bits_of(seg)
    found = differences(*pair)
    return {
        path: what
        for path, what in found.items()
        if path not in known and re.sub(r"\[\d+\]", "[#]", path) not in known
    }


def bits_of(seg) -> bytes:
    """Return the bytes that hold bits, without what pads them to an even length."""
    return seg.PixelData[: -(-seg.NumberOfFrames * seg.Rows * seg.Columns // 8)]


HEADER = {
    "PatientAge": "076Y", "PatientWeight": "71.5", "OtherPatientNames": "Möller^Anne",
    "StudyDescription": "Bauch", "ClinicalTrialProtocolID": "x1", "PatientComments": "grüßt",
    "ManufacturerModelName": "Scanner 3", "SoftwareVersions": ["a", "b"], "StationName": "ct1",
    "InstitutionName": "Haus Süd", "DeviceSerialNumber": "77", "PositionReferenceIndicator": "XY",
    "LossyImageCompression": "01", "LossyImageCompressionRatio": "8",
    "LossyImageCompressionMethod": "ISO_15444_1", "AcquisitionDateTime": "20260101080000",
}  # fmt: skip
SOURCES = {
    "axial": lambda folder: write_single_frames(folder, AXIAL),
    "oblique": lambda folder: write_single_frames(folder, OBLIQUE),
    "flipped": lambda folder: write_single_frames(folder, FLIPPED),
    "coronal mr": lambda folder: write_single_frames(folder, CORONAL, "MR"),
    "full header": lambda folder: write_single_frames(folder, AXIAL, **HEADER),
}


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("source", SOURCES)
def test_nothing_differs_but_what_is_meant_to(source, backwards, tmp_path):
    stack = stack_of(SOURCES[source](tmp_path), backwards=backwards)
    labels = blobs(SHAPE, range(1, 16))
    labels[labels == 4] = 0
    ours, theirs, _ = pair(stack, labels, tmp_path)
    assert unintended(ours, theirs, INTENDED) == {}
    metas = [pydicom.dcmread(path).file_meta for path in (ours, theirs)]
    assert set(differences(*metas)) == {
        "FileMetaInformationGroupLength",
        "ImplementationClassUID",
        "ImplementationVersionName",
    }


def test_nothing_differs_on_a_real_series(shared_data, tmp_path):
    paths = sorted((shared_data / "series" / "ge_abdomen_35x5mm").glob("*.dcm"))
    stack = stack_of(paths)
    ours, theirs, _ = pair(stack, blobs(stack.geometry.shape, range(1, 16)), tmp_path)
    assert unintended(ours, theirs, INTENDED) == {}


def test_nothing_differs_where_highdicom_takes_the_multi_frame_object_itself(tmp_path):
    (path,) = write_legacy_converted(tmp_path)
    stack = stack_of([path], backwards=True)
    assert [frame.source.frame for frame in stack.frames] == list(range(1, SHAPE[0] + 1))
    ours, theirs, _ = pair(stack, blobs(SHAPE, range(1, 16)), tmp_path, [pydicom.dcmread(path)])
    assert unintended(ours, theirs, INTENDED) == {}


def test_only_references_differ_for_objects_that_highdicom_does_not_take(tmp_path):
    stack = stack_of(write_enhanced(tmp_path))
    ours, theirs, _ = pair(stack, blobs(SHAPE, range(1, 16)), tmp_path)
    assert unintended(ours, theirs, INTENDED, STAND_INS) == {}


def test_the_row_holds_the_file_s_own_digest(tmp_path):
    stack = stack_of(write_single_frames(tmp_path))
    labels = blobs(SHAPE, range(1, 4))
    volume = Volume(voxels=np.zeros(SHAPE, np.int16), geometry=stack.geometry, modality="CT")
    organs = resolve(measure(labels, volume, model()), "M")
    _, identity, row = write_seg(labels, organs, read_sources(stack), context(), tmp_path, tmp_path)
    content = (tmp_path / row.path).read_bytes()
    assert row.sha256 == hashlib.sha256(content).hexdigest()
    assert row.size_bytes == len(content)
    assert row.sop_uid == identity.seg_uid == pydicom.dcmread(tmp_path / row.path).SOPInstanceUID


@pytest.mark.parametrize("value", [0, 6])
def test_one_segment_stands_in_its_frames(value, tmp_path):
    stack = stack_of(write_single_frames(tmp_path))
    labels = np.where(blobs(SHAPE, range(1, 2)) == 1, value, 0).astype(np.uint8)
    ours, theirs, _ = pair(stack, labels, tmp_path, model=model(AMOS[5:6]))
    assert unintended(ours, theirs, INTENDED, ONE_SEGMENT, {} if value else NOTHING_FOUND) == {}
    assert dciodvfy_errors(ours) == []


def test_nothing_found_differs_in_references_alone(tmp_path):
    stack = stack_of(write_single_frames(tmp_path))
    ours, theirs, _ = pair(stack, np.zeros(SHAPE, np.uint8), tmp_path)
    assert unintended(ours, theirs, INTENDED, NOTHING_FOUND) == {}


def test_the_oracle_is_not_blind(tmp_path):
    stack = stack_of(write_single_frames(tmp_path))
    ours, theirs, _ = pair(stack, blobs(SHAPE, range(1, 16)), tmp_path)
    seg = pydicom.dcmread(ours)
    frame = seg.PerFrameFunctionalGroupsSequence[3]
    frame.PlanePositionSequence[0].ImagePositionPatient[2] += 0.01
    del seg.SegmentSequence[2].TrackingID
    seg.save_as(ours)
    assert set(unintended(ours, theirs, INTENDED)) == {
        "PerFrameFunctionalGroupsSequence[3].PlanePositionSequence[0].ImagePositionPatient",
        "SegmentSequence[2].TrackingID",
    }


@pytest.mark.parametrize("write", [write_single_frames, write_enhanced])
def test_pydicom_writes_the_same_bytes(write, tmp_path):
    """Every length, pad and order in the joined bytes is as pydicom would write it."""
    stack = stack_of(write(tmp_path))
    ours, _, _ = pair(stack, blobs(SHAPE, range(1, 16)), tmp_path)
    seg = pydicom.dcmread(ours)
    for element in seg.iterall():
        assert element.VR
    again = BytesIO()
    seg.save_as(again, enforce_file_format=True)
    assert again.getvalue() == ours.read_bytes()


@pytest.mark.parametrize(
    "shape", [(4, 3, 5), (5, 7, 9), (3, 8, 8), (6, 5, 13), (7, 16, 9), (3, 9, 16)]
)
def test_any_matrix_has_its_bits_in_the_same_place(shape, tmp_path):
    """Frames begin within bytes, rows too; the last byte is half full, or the last word."""
    stack = stack_of(write_single_frames(tmp_path, shape=shape))
    rng = np.random.default_rng(3)
    labels = np.where(rng.random(shape) < 0.4, rng.integers(1, 16, shape), 0).astype(np.uint8)
    ours, theirs, segments = pair(stack, labels, tmp_path)
    assert bits_of(pydicom.dcmread(ours)) == bits_of(pydicom.dcmread(theirs))
    assert dciodvfy_errors(ours) == []
    check_seg(ours, labels, segments, stack.geometry)
    numbers = np.zeros(256, np.uint8)
    for segment in segments:
        numbers[segment.label.value] = segment.number
    read = highdicom_labels(ours)
    for frame, plane in zip(stack.frames, numbers[labels], strict=True):
        np.testing.assert_array_equal(read.get(frame.source.sop_uid, 0), plane)
    for number, points in dcmqi_points(ours, tmp_path / "dcmqi").items():
        index = np.rint(stack.geometry.to_index(points)).astype(int)
        assert {tuple(row) for row in index} == {
            tuple(row) for row in np.argwhere(numbers[labels] == number)
        }


def test_patient_and_study_are_what_highdicom_copies():
    """Of the modules in the Patient and Study entities, all attributes but sequences."""
    modules, attributes = get_iod_module_map(), get_module_attribute_map()
    for entity, ours in (("Patient", PATIENT), ("Study", STUDY)):
        keywords = [
            one["keyword"]
            for module in modules["ct-image"]
            if module["ie"] == entity
            for one in attributes[module["key"]]
            if not one["path"]
        ]
        plain = [one for one in keywords if pydicom.datadict.dictionary_VR(one) != "SQ"]
        assert sorted(ours) == sorted(plain)


def test_what_one_object_cannot_hold_is_refused(tmp_path, monkeypatch):
    stack = stack_of(write_single_frames(tmp_path))
    labels = blobs(SHAPE, range(1, 3))
    volume = Volume(voxels=np.zeros(SHAPE, np.int16), geometry=stack.geometry, modality="CT")
    segments = segments_of(measure(labels, volume, model()), model(), "M")
    monkeypatch.setattr(frames_room, "LONGEST_BYTES", 100)
    with pytest.raises(UnusableSeries, match="more than the 100 bytes"):
        pack_frames(labels, segments, stack.geometry)


def test_the_proof_shares_nothing_with_the_packing(tmp_path, monkeypatch):
    """Bits in the other order look right to whoever unpacks them with the same mistake."""
    stack = stack_of(write_single_frames(tmp_path))
    labels = blobs(SHAPE, range(1, 4))
    honest = np.packbits
    monkeypatch.setattr(np, "packbits", lambda mask, bitorder: honest(mask, bitorder="big"))
    ours, _, segments = pair(stack, labels, tmp_path)
    with pytest.raises(RoundTripMismatch, match="not its segment's"):
        check_seg(ours, labels, segments, stack.geometry)
