"""Multi-frame series through the pipeline: the SEG's references lead to the very source frames.

highdicom made the converted objects and reads the SEG by source frame; the expected labels come
from the source's own pixels by pydicom.
"""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest

import band
from judges import dciodvfy_errors, segment_titles
from oddities.case import Case, write
from oddities.frame_cases import CASES
from submissions import NOON, submission_of
from viscera.config import Settings
from viscera.domain.organs import AMOS
from viscera.metrics import Metrics
from viscera.pipeline import Pipeline, job_without_store

VALUES = {label.title: label.value for label in AMOS} | {"Uterus": 15, "Prostate": 15}


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    repo = tmp_path_factory.mktemp("models")
    band.write_band_package(repo, patch=(16, 32, 32), step=1.0)
    settings = Settings.model_validate(
        {
            "models": {"repo": repo, "default": "band"},
            "decode": {"processes": 1},
            "engine": {"threads": 1},
        }
    )
    with closing(Pipeline(settings, Metrics())) as running:
        yield running


def segmented(pipeline: Pipeline, paths: list[Path], out: Path) -> list[Path]:
    """Plan and run a series; return the SEG of each of its stacks."""
    jobs = [job_without_store(one, "", NOON) for one in pipeline.plan(submission_of(paths)).jobs]
    for number, job in enumerate(jobs):
        pipeline.run(job, paths, out / str(number), lambda *_: None)
    return [out / str(number) / "segmentation.dcm" for number in range(len(jobs))]


def expected_of(ds: pydicom.Dataset, frame: int) -> np.ndarray:
    """Return the band model's labels of one source frame (from 1)."""
    shared = ds.SharedFunctionalGroupsSequence[0]
    own = ds.PerFrameFunctionalGroupsSequence[frame - 1]
    group = own if "PixelValueTransformationSequence" in own else shared
    rescale = group.PixelValueTransformationSequence[0]
    stored = ds.pixel_array[frame - 1].astype(float)
    hu = stored * float(rescale.RescaleSlope) + float(rescale.RescaleIntercept)
    return band.expected_labels(hu)


def position_of(group: pydicom.Dataset) -> np.ndarray:
    return np.array(group.PlanePositionSequence[0].ImagePositionPatient, float)


USABLE = [case for case in CASES if case.usable]


@pytest.mark.parametrize("case", USABLE, ids=lambda case: case.name)
def test_each_seg_frame_refers_to_the_frame_that_it_shows(
    pipeline: Pipeline, case: Case, tmp_path: Path
) -> None:
    files = case.make()
    (tmp_path / "in").mkdir()
    write(files, tmp_path / "in")
    paths = sorted((tmp_path / "in").iterdir())
    sources = {str(ds.SOPInstanceUID): ds for ds in map(pydicom.dcmread, paths)}
    seen: list[tuple[str, int]] = []
    for seg in segmented(pipeline, paths, tmp_path / "out"):
        assert dciodvfy_errors(seg) == []
        seen += frames_referred_to(seg, sources)
        assert_labels_by_source_frame(seg, sources)
    with_organs = [
        (uid, number)
        for uid, ds in sources.items()
        for number in range(1, ds.NumberOfFrames + 1)
        if expected_of(ds, number).any()
    ]
    assert len(with_organs) > 5
    assert sorted(seen) == sorted(with_organs)


def frames_referred_to(seg: Path, sources: dict[str, pydicom.Dataset]) -> list[tuple[str, int]]:
    """Return each source frame once; its plane must be the SEG frame's."""
    ds = pydicom.dcmread(seg)
    found = set()
    for group in ds.PerFrameFunctionalGroupsSequence:
        (derivation,) = group.DerivationImageSequence
        (reference,) = derivation.SourceImageSequence
        source = sources[str(reference.ReferencedSOPInstanceUID)]
        assert reference.ReferencedSOPClassUID == source.SOPClassUID
        number = int(reference.ReferencedFrameNumber)
        theirs = source.PerFrameFunctionalGroupsSequence[number - 1]
        np.testing.assert_allclose(position_of(group), position_of(theirs), atol=1e-4)
        found.add((str(source.SOPInstanceUID), number))
    return list(found)


def assert_labels_by_source_frame(seg: Path, sources: dict[str, pydicom.Dataset]) -> None:
    read = highdicom.seg.segread(str(seg))
    titles = segment_titles(seg)
    for uid, numbers in frames_by_source(seg).items():
        masks = read.get_pixels_by_source_frame(
            uid,
            sorted(numbers),
            ignore_spatial_locations=True,
            assert_missing_frames_are_empty=True,
        )
        for number, planes in zip(sorted(numbers), masks, strict=True):
            labels = np.zeros(planes.shape[:2], np.uint8)
            for segment, title in titles.items():
                labels[planes[..., segment - 1] > 0] = VALUES[title]
            np.testing.assert_array_equal(labels, expected_of(sources[uid], number))


def frames_by_source(seg: Path) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for group in pydicom.dcmread(seg).PerFrameFunctionalGroupsSequence:
        reference = group.DerivationImageSequence[0].SourceImageSequence[0]
        numbers = found.setdefault(str(reference.ReferencedSOPInstanceUID), set())
        numbers.add(int(reference.ReferencedFrameNumber))
    return found
