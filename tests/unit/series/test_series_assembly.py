import random
import shutil

import numpy as np
import pytest
from series_builders import (
    ENHANCED_MR,
    MR,
    SETTINGS,
    SR,
    ct_elements,
    enhanced_elements,
    line,
    write,
    write_series,
)

from viscera.domain.sources import SourceFrame
from viscera.errors import (
    CollidingSlices,
    ConflictingInstance,
    DatasetMismatch,
    GeometryMismatch,
    IncompleteSeries,
    MixedSeries,
    NotAnImageSeries,
)
from viscera.series import assemble, examine, restack


def test_a_series_becomes_one_stack_in_slice_order(tmp_path):
    paths = write_series(tmp_path)
    random.Random(1).shuffle(paths)
    assembly = assemble(paths, SETTINGS)
    (stack,) = assembly.stacks
    assert [frame.source.sop_uid for frame in stack.frames] == [f"1.2.3.{n}" for n in range(1, 11)]
    assert stack.geometry.shape == (10, 4, 6)
    assert (stack.facts.modality, stack.facts.study_uid) == ("CT", "1.2.1")
    assert assembly.refused == assembly.ignored == ()


@pytest.mark.parametrize(
    ("what", "changes"),
    [
        ("patients", {"PatientID": "PID-4712"}),
        ("studies", {"StudyInstanceUID": "1.2.9"}),
        ("series", {"SeriesInstanceUID": "1.2.9"}),
        ("SOP classes", {"SOPClassUID": MR}),
        ("frames of reference", {"FrameOfReferenceUID": "1.2.9"}),
    ],
)
def test_two_of_anything_are_a_mixed_series(tmp_path, what, changes):
    paths = write_series(tmp_path, 9)
    paths.append(write(tmp_path, "other", ct_elements(10, **changes)))
    with pytest.raises(MixedSeries, match=f"2 {what} in one series") as caught:
        assemble(paths, SETTINGS)
    assert "1.2.3.10" in str(caught.value)
    assert "471" not in str(caught.value)


def test_a_frame_of_reference_for_each_slice_says_nothing(tmp_path):
    paths = [
        write(tmp_path, n, ct_elements(n, FrameOfReferenceUID=f"1.2.8.{n}")) for n in range(1, 11)
    ]
    assert len(assemble(paths, SETTINGS).stacks) == 1
    paths.append(write(tmp_path, 11, ct_elements(11, FrameOfReferenceUID="1.2.8.1")))
    with pytest.raises(MixedSeries):
        assemble(paths, SETTINGS)


def test_a_localiser_may_have_its_own_frame_of_reference_but_not_its_own_patient(tmp_path):
    paths = write_series(tmp_path)
    localiser = {"ImageType": "ORIGINAL\\PRIMARY\\LOCALIZER", "FrameOfReferenceUID": "1.2.9"}
    scout = write(tmp_path, "scout", ct_elements(99, **localiser))
    assembly = assemble([*paths, scout], SETTINGS)
    assert [(each.frames, each.because) for each in assembly.ignored] == [(1, "localiser")]
    stranger = write(tmp_path, "scout", ct_elements(99, PatientID="PID-4712", **localiser))
    with pytest.raises(MixedSeries, match="patients"):
        assemble([*paths, stranger], SETTINGS)


def test_identical_repeats_count_once(tmp_path):
    paths = write_series(tmp_path)
    repeated = [shutil.copy(path, tmp_path / f"again-{path.name}") for path in paths[:4]]
    (stack,) = assemble([*paths, *repeated], SETTINGS).stacks
    assert len(stack.frames) == 10


def test_one_uid_with_other_bytes_is_a_conflict(tmp_path):
    paths = write_series(tmp_path)
    other = write(tmp_path, "other", ct_elements(4, PixelData=b"\1" * 48))
    with pytest.raises(ConflictingInstance, match=r"1\.2\.3\.4 "):
        assemble([*paths, other], SETTINGS)


def test_an_unreadable_file_refuses_the_series(tmp_path):
    paths = write_series(tmp_path)
    (tmp_path / "notes.txt").write_text("no DICOM here")
    with pytest.raises(DatasetMismatch):
        assemble([*paths, tmp_path / "notes.txt"], SETTINGS)


def test_other_objects_beside_the_slices_are_left_out(tmp_path):
    paths = write_series(tmp_path)
    paths.append(write(tmp_path, "sr", ct_elements(50, SOPClassUID=SR, SeriesInstanceUID="1.2.7")))
    (ignored,) = assemble(paths, SETTINGS).ignored
    assert ignored.because == "Comprehensive SR Storage is not a CT or MR image"


def test_reformats_are_left_out_only_beside_originals(tmp_path):
    derived = {"ImageType": "DERIVED\\SECONDARY\\REFORMATTED"}
    reformats = [write(tmp_path, f"r{n}", ct_elements(n, **derived)) for n in range(30, 50)]
    (whole,) = assemble(reformats, SETTINGS).stacks
    assert len(whole.frames) == 20
    assembly = assemble([*write_series(tmp_path), *reformats], SETTINGS)
    assert [len(stack.frames) for stack in assembly.stacks] == [10]
    assert [(each.frames, each.because) for each in assembly.ignored] == [
        (20, "reformatted from originals of the same series")
    ]


@pytest.mark.parametrize("kind", ["sr", "localisers", "nothing"])
def test_a_series_without_slices_is_not_an_image_series(tmp_path, kind):
    changes = {
        "sr": {"SOPClassUID": SR},
        "localisers": {"ImageType": "ORIGINAL\\PRIMARY\\LOCALIZER"},
    }
    paths = write_series(tmp_path, 3, **changes[kind]) if kind in changes else []
    with pytest.raises(NotAnImageSeries):
        assemble(paths, SETTINGS)


def test_one_bad_stack_does_not_spoil_the_other(tmp_path):
    paths = write_series(tmp_path)
    for n in (1, 2, 3, 5, 6, 7, 8, 9, 10):
        paths.append(write(tmp_path, f"c{n}", ct_elements(n, uid=f"1.2.4.{n}", Rows=8)))
    assembly = assemble(paths, SETTINGS)
    assert [len(stack.frames) for stack in assembly.stacks] == [10]
    assert [(each.frames, type(each.error)) for each in assembly.refused] == [(9, IncompleteSeries)]


def test_where_no_stack_is_usable_the_largest_says_why(tmp_path):
    paths = write_series(tmp_path)
    paths.append(write(tmp_path, "double", ct_elements(4, uid="1.2.4.4")))
    paths.append(write(tmp_path, "single", ct_elements(4, uid="1.2.4.5", Rows=8)))
    with pytest.raises(CollidingSlices, match="2 of 11 slices"):
        assemble(paths, SETTINGS)
    refused = examine(paths, SETTINGS).refused
    assert [type(each.error) for each in refused] == [CollidingSlices, IncompleteSeries]


def test_two_enhanced_objects_of_one_place_are_two_stacks(tmp_path):
    paths = [
        write(tmp_path, uid, enhanced_elements(line(12), uid=f"1.2.3.{uid}")) for uid in (500, 600)
    ]
    stacks = assemble(paths, SETTINGS).stacks
    assert [len(stack.frames) for stack in stacks] == [12, 12]
    assert [len(stack.paths) for stack in stacks] == [1, 1]
    assert stacks[0].facts.sop_class_uid == ENHANCED_MR
    assert stacks[0].facts.modality == "MR"


def test_frames_of_an_enhanced_object_are_sorted_and_split_by_echo(tmp_path):
    positions = np.repeat(line(12)[::-1], 2, axis=0)
    own = [{"MREchoSequence": [{"EffectiveEchoTime": bytes([k % 2]) * 8}]} for k in range(24)]
    stacks = assemble(
        [write(tmp_path, "e", enhanced_elements(positions, own=own))], SETTINGS
    ).stacks
    numbers = [[frame.source.frame for frame in stack.frames] for stack in stacks]
    assert numbers == [list(range(23, 0, -2)), list(range(24, 0, -2))]


def test_restacking_gives_the_planned_stack_whatever_came_since(tmp_path):
    paths = write_series(tmp_path)
    (planned,) = assemble(paths, SETTINGS).stacks
    frames = tuple(frame.source for frame in planned.frames)
    late = [
        write(tmp_path, "late", ct_elements(11)),
        write(tmp_path, "double", ct_elements(4, uid="1.2.4.4")),
        write(tmp_path, "stranger", ct_elements(12, PatientID="PID-4712")),
        write(tmp_path, "bad", ct_elements(13, ImagePositionPatient=None)),
    ]
    again = restack([*late, *reversed(paths)], frames, SETTINGS)
    assert again.frames == planned.frames
    assert again.facts == planned.facts
    assert np.array_equal(again.geometry.affine_lps, planned.geometry.affine_lps)


def test_restacking_misses_what_is_gone_and_refuses_another_order(tmp_path):
    paths = write_series(tmp_path)
    (planned,) = assemble(paths, SETTINGS).stacks
    frames = tuple(frame.source for frame in planned.frames)
    with pytest.raises(IncompleteSeries, match="1 of 10 planned frames"):
        restack(paths[1:], frames, SETTINGS)
    with pytest.raises(GeometryMismatch, match="order"):
        restack(paths, frames[::-1], SETTINGS)
    with pytest.raises(IncompleteSeries):
        restack(paths, (*frames[:-1], SourceFrame("1.2.3.10", 2)), SETTINGS)
