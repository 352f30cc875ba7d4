"""The SEG as others read it: dciodvfy, dcmqi with SimpleITK, highdicom."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from zoneinfo import ZoneInfo

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from encode_series import (
    AXIAL,
    CORONAL,
    FLIPPED,
    OBLIQUE,
    SHAPE,
    SPACING,
    write_enhanced,
    write_legacy_converted,
    write_single_frames,
)
from encode_stacks import blobs, context, model, stack_of, volume_of

from viscera.domain.models import Grade
from viscera.domain.organs import AMOS
from viscera.domain.results import ResultKind
from viscera.domain.volumes import Volume
from viscera.encode import prove_results, write_results
from viscera.encode.roundtrip import check_seg
from viscera.encode.segments import found_segments, resolve
from viscera.errors import DatasetMismatch, RoundTripMismatch
from viscera.measure import judge, measure

BIN = Path(sys.executable).parent


def encoded(stack, labels, folder, **more):
    """Write results of `labels` on `stack`; return them by kind, with absolute paths."""
    ctx = context(**more)
    volume = Volume(
        voxels=np.zeros(labels.shape, dtype=np.int16),
        geometry=stack.geometry,
        modality=stack.facts.modality,
    )
    rows, target = measure(labels, volume, ctx.model), folder / "job" / "1"
    files = write_results(
        labels=labels, volume=volume, stack=stack, measurements=rows,
        verdict=judge(rows, volume, ctx.model), context=ctx, folder=target,
    )  # fmt: skip
    prove_results(files, target, labels=labels, measurements=rows, stack=stack, model=ctx.model)
    return {one.kind: folder / one.path for one in files}


def errors_of(path: Path) -> list[str]:
    done = subprocess.run(
        [BIN / "dciodvfy", "-new", path], capture_output=True, text=True, check=False
    )
    lines = (done.stdout + done.stderr).splitlines()
    assert any(word in line for line in lines for word in ("Segmentation", "ComprehensiveSR"))
    return [line for line in lines if line.startswith(("Error", "Abort"))]


def points_by_label(seg: Path, folder: Path) -> dict[str, np.ndarray]:
    """Have dcmqi decode `seg`; return the world points of each segment by its label."""
    folder.mkdir()
    subprocess.run(
        [BIN / "segimage2itkimage", "--inputDICOM", seg, "--outputDirectory", folder,
         "--prefix", "s", "--outputType", "nrrd"],
        check=True, capture_output=True,
    )  # fmt: skip
    meta = json.loads((folder / "s-meta.json").read_text())
    points = {}
    for (item,) in meta["segmentAttributes"]:
        image = sitk.ReadImage(folder / f"s-{item['labelID']}.nrrd")
        index = np.argwhere(sitk.GetArrayFromImage(image))[:, ::-1]
        turn = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
        points[item["SegmentLabel"]] = index @ turn.T + image.GetOrigin()
    return points


def same_points(points: np.ndarray, labels: np.ndarray, value: int, geometry) -> bool:
    index = geometry.to_index(points)
    assert np.abs(index - np.rint(index)).max() < 0.01
    found = {tuple(row) for row in np.rint(index).astype(int)}
    return found == {tuple(row) for row in np.argwhere(labels == value)}


SOURCES = {
    "axial": lambda folder: write_single_frames(folder, AXIAL),
    "oblique": lambda folder: write_single_frames(folder, OBLIQUE),
    "flipped": lambda folder: write_single_frames(folder, FLIPPED),
    "coronal mr": lambda folder: write_single_frames(folder, CORONAL, "MR"),
    "enhanced": write_enhanced,
    "enhanced mr": lambda folder: write_enhanced(folder, AXIAL, "MR"),
    "legacy converted": write_legacy_converted,
}


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("source", SOURCES)
def test_others_read_the_label_map(source, backwards, tmp_path):
    stack = stack_of(SOURCES[source](tmp_path), backwards=backwards)
    labels = blobs(SHAPE, range(1, 16))
    labels[labels == 4] = 0
    seg = encoded(stack, labels, tmp_path)[ResultKind.SEG]
    assert errors_of(seg) == []
    points = points_by_label(seg, tmp_path / "dcmqi")
    titles = {one.title: one.value for one in AMOS if one.value != 15} | {"Prostate": 15}
    present = set(np.unique(labels)) - {0}
    assert {titles[title] for title in points} == present
    for title, found in points.items():
        assert same_points(found, labels, titles[title], stack.geometry), title


@pytest.mark.parametrize("source", SOURCES)
def test_each_frame_refers_to_its_source_frame(source, tmp_path):
    stack = stack_of(SOURCES[source](tmp_path))
    labels = blobs(SHAPE, range(1, 4))
    seg = pydicom.dcmread(encoded(stack, labels, tmp_path)[ResultKind.SEG])
    where = {}
    for path in stack.paths:
        source_ds = pydicom.dcmread(path)
        groups = source_ds.get("PerFrameFunctionalGroupsSequence")
        for number, item in enumerate(groups or [source_ds], 1):
            place = item.PlanePositionSequence[0] if groups else item
            where[source_ds.SOPInstanceUID, number] = place.ImagePositionPatient
    multi_frame = len(where) != len(stack.paths)
    for item in seg.PerFrameFunctionalGroupsSequence:
        (reference,) = item.DerivationImageSequence[0].SourceImageSequence
        assert reference.ReferencedSOPClassUID == stack.facts.sop_class_uid
        assert ("ReferencedFrameNumber" in reference) == multi_frame
        key = (reference.ReferencedSOPInstanceUID, reference.get("ReferencedFrameNumber", 1))
        place = item.PlanePositionSequence[0].ImagePositionPatient
        assert np.allclose(place, where[key], atol=1e-4)
    instances = {path: pydicom.dcmread(path).SOPInstanceUID for path in stack.paths}
    (series,) = seg.ReferencedSeriesSequence
    named = [item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence]
    assert sorted(named) == sorted(instances.values())


def test_real_series_is_read_back_by_highdicom(shared_data, tmp_path):
    paths = sorted((shared_data / "series" / "ge_abdomen_35x5mm").glob("*.dcm"))
    stack = stack_of(paths)
    labels = blobs(stack.geometry.shape, range(1, 16))
    files = encoded(stack, labels, tmp_path)
    assert errors_of(files[ResultKind.SEG]) == []
    seg = highdicom.seg.segread(files[ResultKind.SEG])
    described = {
        seg.get_segment_description(n).segment_label: n
        for n in range(1, seg.number_of_segments + 1)
    }
    assert "Uterus" in described  # the patient is female
    planes = seg.get_pixels_by_source_instance(
        [frame.source.sop_uid for frame in stack.frames],
        combine_segments=True, relabel=False, skip_overlap_checks=True,
        assert_missing_frames_are_empty=True,
    )  # fmt: skip
    assert np.array_equal(planes, labels)


def test_what_a_segment_says(tmp_path):
    stack = stack_of(write_single_frames(tmp_path))
    seg = pydicom.dcmread(encoded(stack, blobs(SHAPE, range(1, 16)), tmp_path)[ResultKind.SEG])
    by_label = {item.SegmentLabel: item for item in seg.SegmentSequence}
    kidney = by_label["Right kidney"]
    (kind,) = kidney.SegmentedPropertyTypeCodeSequence
    assert (kind.CodeValue, kind.CodingSchemeDesignator) == ("64033007", "SCT")
    (side,) = kind.SegmentedPropertyTypeModifierCodeSequence
    assert (side.CodeValue, side.CodeMeaning) == ("24028007", "Right")
    liver = by_label["Liver"].SegmentedPropertyTypeCodeSequence[0]
    assert "SegmentedPropertyTypeModifierCodeSequence" not in liver
    assert kidney.SegmentAlgorithmName == "organs"
    (algorithm,) = kidney.SegmentationAlgorithmIdentificationSequence
    assert algorithm.AlgorithmVersion == "3"
    assert "ab" * 32 in algorithm.AlgorithmParameters
    assert seg.SeriesDescription.startswith("NOT FOR CLINICAL USE")
    assert (seg.PatientName, seg.PatientID) == ("Müller^Änne", "p1")
    assert (seg.ContentDate, seg.ContentTime) == ("20260304", "050607")


def test_validated_model_needs_no_warning(tmp_path):
    stack = stack_of(write_single_frames(tmp_path))
    labels = blobs(SHAPE, range(1, 4))
    files = encoded(stack, labels, tmp_path, model=model(grade=Grade.VALIDATED))
    for kind in (ResultKind.SEG, ResultKind.SR):
        assert "CLINICAL" not in pydicom.dcmread(files[kind]).SeriesDescription


@pytest.mark.parametrize("labels_of_model", [AMOS, AMOS[:1]])
def test_nothing_found_is_a_valid_small_object(labels_of_model, tmp_path):
    stack = stack_of(write_single_frames(tmp_path))
    files = encoded(stack, np.zeros(SHAPE, np.uint8), tmp_path, model=model(labels_of_model))
    for kind in (ResultKind.SEG, ResultKind.SR):
        assert errors_of(files[kind]) == []
    seg = pydicom.dcmread(files[ResultKind.SEG])
    assert seg.NumberOfFrames == len(seg.SegmentSequence) == len(labels_of_model)
    assert not seg.pixel_array.any()


def test_one_organ_alone(tmp_path):
    stack = stack_of(write_single_frames(tmp_path))
    labels = np.where(blobs(SHAPE, range(1, 2)) == 1, 6, 0).astype(np.uint8)
    files = encoded(stack, labels, tmp_path)
    assert errors_of(files[ResultKind.SEG]) == []
    points = points_by_label(files[ResultKind.SEG], tmp_path / "dcmqi")
    assert same_points(points["Liver"], labels, 6, stack.geometry)


@pytest.mark.parametrize(
    "gaps",
    [
        {"PatientBirthDate": None, "StudyTime": None, "AccessionNumber": None, "StudyID": None},
        {"PatientSex": "X", "SliceThickness": None},
        {"ReferringPhysicianName": None, "SpacingBetweenSlices": -2.5, "SeriesNumber": None},
        {"PatientName": "SINGLE", "FrameOfReferenceUID": None},
    ],
)
def test_gaps_in_the_source_s_header_do_no_harm(gaps, tmp_path):
    stack = stack_of(write_single_frames(tmp_path, **gaps))
    stack = replace(stack, facts=replace(stack.facts, patient_sex=""))
    seg = pydicom.dcmread(encoded(stack, blobs(SHAPE, range(1, 16)), tmp_path)[ResultKind.SEG])
    (measures,) = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
    assert measures.SpacingBetweenSlices == measures.SliceThickness == 2.5
    assert "Prostate or uterus" in [item.SegmentLabel for item in seg.SegmentSequence]
    assert str(seg.PatientName) == gaps.get("PatientName", "Müller^Änne")


def test_times_are_in_the_source_s_zone(tmp_path):
    stack = stack_of(write_single_frames(tmp_path, TimezoneOffsetFromUTC="-0530"))
    seg = pydicom.dcmread(encoded(stack, blobs(SHAPE, range(1, 3)), tmp_path)[ResultKind.SEG])
    assert (seg.ContentDate, seg.ContentTime) == ("20260303", "233607")
    assert seg.TimezoneOffsetFromUTC == "-0530"


@pytest.mark.parametrize("kind", [ResultKind.SEG, ResultKind.SR])
def test_times_are_the_site_s_where_the_source_does_not_say_its_own(tmp_path, kind):
    """Then they stand without an offset, as the source's do: one would turn those, too."""
    stack = stack_of(write_single_frames(tmp_path))
    site = ZoneInfo("America/New_York")  # five hours behind, in March's first week
    files = encoded(stack, blobs(SHAPE, range(1, 3)), tmp_path, site=site)
    result = pydicom.dcmread(files[kind])
    assert (result.ContentDate, result.ContentTime) == ("20260304", "000607")
    assert "TimezoneOffsetFromUTC" not in result


def test_source_that_is_gone_is_named(tmp_path):
    stack = stack_of(write_single_frames(tmp_path))
    stack.frames[0].path.unlink()
    with pytest.raises(DatasetMismatch, match=r"1\.2\.3\.4\.5 cannot be read"):
        encoded(stack, blobs(SHAPE, range(1, 3)), tmp_path)


def _turn_a_bit(seg):
    pixels = bytearray(seg.PixelData)
    pixels[200] ^= 4
    seg.PixelData = bytes(pixels)


def _swap_positions(seg):
    first, second = seg.PerFrameFunctionalGroupsSequence[:2]
    first.PlanePositionSequence, second.PlanePositionSequence = (
        second.PlanePositionSequence,
        first.PlanePositionSequence,
    )


def _move_in_plane(seg):
    position = seg.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence[0]
    position.ImagePositionPatient[0] += SPACING[1]


def _lift_off_the_stack(seg):
    position = seg.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence[0]
    position.ImagePositionPatient[2] += 2.5 * SHAPE[0]


def _mirror(seg):
    plane = seg.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
    plane.ImageOrientationPatient = [-1, 0, 0, 0, 1, 0]


def _swap_spacings(seg):
    measures = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    measures.PixelSpacing = measures.PixelSpacing[::-1]


def _lose_a_frame(seg):
    del seg.PerFrameFunctionalGroupsSequence[-1]
    seg.NumberOfFrames -= 1


def _miscount_frames(seg):
    seg.NumberOfFrames -= 1


def _repeat_a_frame(seg):
    groups = seg.PerFrameFunctionalGroupsSequence
    groups[1].PlanePositionSequence = groups[0].PlanePositionSequence


def _rename_a_frame(seg):
    item = seg.PerFrameFunctionalGroupsSequence[0].SegmentIdentificationSequence[0]
    item.ReferencedSegmentNumber = 2


def _rename_a_segment(seg):
    seg.SegmentSequence[0].SegmentLabel = "Liver"


def _number_an_unknown_segment(seg):
    item = seg.PerFrameFunctionalGroupsSequence[0].SegmentIdentificationSequence[0]
    item.ReferencedSegmentNumber = 99


def _forget_a_position(seg):
    del seg.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence


def _cut_the_pixels(seg):
    seg.PixelData = seg.PixelData[:-70]


def _turn_the_matrix(seg):
    seg.Rows, seg.Columns = seg.Columns, seg.Rows


DAMAGES = {
    _turn_a_bit: "not its segment's|voxels of segment",
    _swap_positions: "not its segment's",
    _move_in_plane: "frame 3 lies beside the grid",
    _lift_off_the_stack: "frame 3 lies on no slice",
    _mirror: "beside the grid",
    _swap_spacings: "beside the grid",
    _lose_a_frame: "voxels of segment 3",
    _miscount_frames: "frames, .* described",
    _repeat_a_frame: "two frames of one segment",
    _rename_a_frame: "not its segment's|two frames",
    _rename_a_segment: "described as other organs",
    _number_an_unknown_segment: "segment 99, which is not",
    _forget_a_position: "its frames cannot be read",
    _cut_the_pixels: "end before the last frame",
    _turn_the_matrix: "frames of 27 x 20",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_round_trip_sees(damage, tmp_path):
    stack = stack_of(write_single_frames(tmp_path))
    labels = blobs(SHAPE, range(1, 4))
    path = encoded(stack, labels, tmp_path)[ResultKind.SEG]
    volume = Volume(voxels=np.zeros(SHAPE, np.int16), geometry=stack.geometry, modality="CT")
    segments = found_segments(resolve(measure(labels, volume, model()), "M"))
    check_seg(path, labels, segments, stack.geometry)
    seg = pydicom.dcmread(path)
    damage(seg)
    seg.save_as(path)
    with pytest.raises(RoundTripMismatch, match=DAMAGES[damage]):
        check_seg(path, labels, segments, stack.geometry)


@pytest.mark.parametrize("share", [0.3, 0.97])
def test_round_trip_sees_a_file_that_ends_early(share, tmp_path):
    stack = stack_of(write_single_frames(tmp_path))
    labels = blobs(SHAPE, range(1, 4))
    path = encoded(stack, labels, tmp_path)[ResultKind.SEG]
    volume = Volume(voxels=np.zeros(SHAPE, np.int16), geometry=stack.geometry, modality="CT")
    segments = found_segments(resolve(measure(labels, volume, model()), "M"))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(RoundTripMismatch):
        check_seg(path, labels, segments, stack.geometry)


def test_round_trip_sees_a_value_that_no_segment_has(tmp_path):
    stack = stack_of(write_single_frames(tmp_path))
    labels = blobs(SHAPE, range(1, 17))
    assert 16 in labels
    with pytest.raises(RoundTripMismatch, match="no segment"):
        encoded(stack, labels, tmp_path)


ENCODE_AGAIN = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from encode_stacks import blobs, stack_of
from test_encode_seg import SHAPE, encoded
folder = Path(sys.argv[2])
encoded(stack_of(sorted(folder.glob("*.dcm"))), blobs(SHAPE, range(1, 16)), folder / sys.argv[3])
"""


@pytest.mark.parametrize("write", [write_single_frames, write_enhanced])
def test_two_processes_write_the_same_bytes(write, tmp_path):
    write(tmp_path)
    here = str(Path(__file__).parent)
    for name, zone in (("first", "UTC"), ("second", "Asia/Tokyo")):
        subprocess.run(
            [sys.executable, "-c", ENCODE_AGAIN, here, tmp_path, name],
            check=True, env={**os.environ, "TZ": zone, "PYTHONHASHSEED": str(len(name))},
        )  # fmt: skip
    first, second = ({p.name: p.read_bytes() for p in (tmp_path / name / "job" / "1").iterdir()}
                     for name in ("first", "second"))  # fmt: skip
    assert sorted(first) == ["qc.png", "report.dcm", "segmentation.dcm", "volumes.json"]
    assert first == second


def test_other_label_map_is_another_object(tmp_path):
    stack = stack_of(write_single_frames(tmp_path))
    uids = []
    for seed in (1, 2):
        files = encoded(stack, blobs(SHAPE, range(1, 4), seed), tmp_path / str(seed))
        both = [pydicom.dcmread(files[kind]) for kind in (ResultKind.SEG, ResultKind.SR)]
        uids.append([(ds.SOPInstanceUID, ds.SeriesInstanceUID) for ds in both])
    assert uids[0][0][1] == uids[1][0][1]
    assert len({uid for pair in uids for uid, _ in pair}) == 4


def test_real_volume_and_series_shapes_agree(shared_data):
    """The helper of these tests is right: rescaled values are pydicom's."""
    paths = sorted((shared_data / "series" / "ge_abdomen_35x5mm").glob("*.dcm"))[:3]
    stack = stack_of(paths)
    volume = volume_of(stack)
    assert volume.voxels.shape == stack.geometry.shape
    assert volume.voxels[0, 0, 0] == -1024
