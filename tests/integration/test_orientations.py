"""A known body scanned in 48 orientations and three gantry tilts, through the whole pipeline.

The band model's labels follow from the intensities, and the intensities from the place in the
patient. What the pipeline wrote is read by pydicom alone: every frame of the SEG is laid into the
patient by the SEG's own position and orientation, and compared with the body there.
"""

import itertools
import json
import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pydicom
import pytest

import band
import synthetic
from judges import highdicom_labels, segment_titles
from submissions import NOON, submission_of
from viscera.config import SeriesSettings, Settings
from viscera.domain.organs import AMOS
from viscera.domain.results import ResultKind
from viscera.domain.sources import SourceFrame
from viscera.encode import ResultContext
from viscera.encode.results import write_seg
from viscera.encode.segments import resolve
from viscera.encode.sources import read_sources
from viscera.errors import CollidingSlices, IncompleteSeries
from viscera.metrics import Metrics
from viscera.pipeline import Pipeline, job_without_store
from viscera.series import assemble, read_header
from viscera.series.stacks import build_stacks
from viscera.volume import DecodePool, load_volume

SERIES = SeriesSettings()
SHAPE = (9, 16, 14)
SPACING_MM = (4.0, 3.0, 3.5)
CENTRE_LPS = np.array([3.0, -7.0, 40.0])
TILTS_DEGREES = ((0.0, 0.0), (4.9, 0.0), (-2.5, 3.0))
"""(down the column, along the row): how far each next slice is shifted."""
RIGHT_KIDNEY_HU, LEFT_KIDNEY_HU = -160, -100
VALUES = {label.title: label.value for label in AMOS} | {"Uterus": 15}

ORIENTATIONS = [
    (np.array(row, float), np.array(column, float), sign)
    for row, column in itertools.permutations(
        [sign * axis for axis in np.eye(3) for sign in (1, -1)], 2
    )
    if abs(np.dot(row, column)) < 0.5
    for sign in (1, -1)
]
"""Directions along a row and down a column, and whether slices follow or oppose the normal."""


def body_hu(points_lps: np.ndarray) -> np.ndarray:
    """Return HU by place: bands that no mirror maps to themselves, a kidney on each side."""
    x, y, z = np.moveaxis(points_lps - CENTRE_LPS, -1, 0)
    slabs = (3 * np.rint(y / 7) + np.rint(z / 9) + 2 * np.rint(x / 13)).astype(int) % 5
    hu = np.array([-1000, -60, 10, 100, 400])[slabs]
    hu[(x > 8) & (abs(y) < 12)] = LEFT_KIDNEY_HU
    hu[(x < -8) & (abs(y - 4) < 12)] = RIGHT_KIDNEY_HU
    return hu.astype(np.int16)


def scan(row: np.ndarray, column: np.ndarray, sign: int, tilt: tuple[float, float]) -> "Scan":
    """Return the body on one grid around its centre."""
    normal = sign * np.cross(row, column)
    shear = np.tan(np.radians(tilt))
    step = SPACING_MM[0] * (normal + shear[0] * column + shear[1] * row)
    down, along = SPACING_MM[1] * column, SPACING_MM[2] * row
    axes = np.column_stack([step, down, along])
    first = CENTRE_LPS - axes @ ((np.array(SHAPE) - 1) / 2)
    index = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1)
    points = first + index @ axes.T
    hu = body_hu(points)
    slices = synthetic.Slices(
        stored=(hu + 1024).astype(np.int16),
        orientation=(*row, *column),
        first_position=tuple(first),
        step=tuple(step),
        spacing=SPACING_MM[1:],
    )
    return Scan(slices, hu, first, axes)


@dataclass(frozen=True)
class Scan:
    """One series of the body and its truth."""

    slices: synthetic.Slices
    hu: np.ndarray
    first_lps: np.ndarray
    axes_mm: np.ndarray
    """(3, 3): columns are the steps along slice, row and column."""

    def index_of(self, points_lps: np.ndarray) -> np.ndarray:
        """Return the voxel at each point; every point must be a voxel's centre."""
        exact = (points_lps - self.first_lps) @ np.linalg.inv(self.axes_mm).T
        index = np.rint(exact).astype(int)
        assert np.abs(exact - index).max() < 0.01
        return index


@dataclass(frozen=True)
class Parts:
    """What the pipeline is made of, warm."""

    pipeline: Pipeline
    pool: DecodePool


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    repo = tmp_path_factory.mktemp("models")
    band.write_band_package(repo, patch=(16, 16, 16), step=1.0)
    settings = Settings.model_validate(
        {
            "models": {"repo": repo, "default": "band"},
            "decode": {"processes": 1},
            "engine": {"threads": 1},
        }
    )
    with closing(Pipeline(settings, Metrics())) as pipeline, DecodePool(settings.decode) as pool:
        yield Parts(pipeline, pool)


def segment(parts: Parts, paths: list[Path], folder: Path) -> Path:
    """Stack, decode, segment and write one series as `Pipeline.run` does; return its SEG.

    The report is left out: it takes most of the time and says nothing about places.
    """
    stack = assemble(paths, SERIES).stacks[0]
    volume = load_volume(stack, parts.pool)
    model, found = parts.pipeline.segment([volume], "band", lambda *_: None)
    context = ResultContext(
        job_id="1", job_key="1", created_at=NOON, model=model, engine=found.engine
    )
    organs = resolve(found.measurements, stack.facts.patient_sex)
    folder.mkdir()
    write_seg(found.labels, organs, read_sources(stack), context, folder, folder)
    return folder / "segmentation.dcm"


def labels_in_world(seg: Path, truth: Scan) -> np.ndarray:
    """Return the SEG's labels on the scan's grid, each frame placed by its own plane."""
    ds = pydicom.dcmread(seg)
    shared = ds.SharedFunctionalGroupsSequence[0]
    titles = segment_titles(seg)
    labels = np.zeros(SHAPE, dtype=np.uint8)
    pixels = ds.pixel_array.reshape(-1, ds.Rows, ds.Columns)
    for mask, group in zip(pixels, ds.PerFrameFunctionalGroupsSequence, strict=True):
        measures = shared.PixelMeasuresSequence[0].PixelSpacing
        cosines = shared.PlaneOrientationSequence[0].ImageOrientationPatient
        along, down = np.array(cosines, float).reshape(2, 3)
        rows, columns = np.nonzero(mask)
        points = (
            np.array(group.PlanePositionSequence[0].ImagePositionPatient, float)
            + columns[:, None] * along * float(measures[1])
            + rows[:, None] * down * float(measures[0])
        )
        number = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        title = titles[number]
        if "kidney" in title:
            side = 1 if title.startswith("Left") else -1
            assert (side * (points[:, 0] - CENTRE_LPS[0]) > 8).all()
        index = truth.index_of(points)
        assert (labels[tuple(index.T)] == 0).all()
        labels[tuple(index.T)] = VALUES[title]
    return labels


@pytest.mark.parametrize("tilt", TILTS_DEGREES, ids=str)
def test_the_body_is_right_in_world_coordinates(
    parts: Parts, tmp_path: Path, tilt: tuple[float, float]
) -> None:
    assert len(ORIENTATIONS) == 48
    for number, orientation in enumerate(ORIENTATIONS):
        truth = scan(*orientation, tilt)
        paths = synthetic.write_series(truth.slices, tmp_path / f"in{number}")
        seg = segment(parts, paths, tmp_path / f"out{number}")
        expected = band.expected_labels(truth.hu)
        assert {2, 3} < set(np.unique(expected))
        np.testing.assert_array_equal(labels_in_world(seg, truth), expected)


@pytest.mark.parametrize("number", range(6))
def test_a_whole_job_is_right_too(parts: Parts, tmp_path: Path, number: int) -> None:
    """As a worker runs it: plan, run, round-trip proof, report; the SEG is read by highdicom."""
    truth = scan(*ORIENTATIONS[8 * number + number % 4], TILTS_DEGREES[2])
    paths = synthetic.write_series(truth.slices, tmp_path / "in")
    (planned,) = parts.pipeline.plan(submission_of(paths)).jobs
    job = job_without_store(planned, truth.slices.series_uid, NOON)
    (tmp_path / "out").mkdir()
    outcome = parts.pipeline.run(job, paths, tmp_path / "out", lambda *_: None)
    files = {file.kind: tmp_path / "out" / file.path.name for file in outcome.results}
    expected = band.expected_labels(truth.hu)
    np.testing.assert_array_equal(labels_in_world(files[ResultKind.SEG], truth), expected)
    titles = segment_titles(files[ResultKind.SEG])
    values = np.array([0, *(VALUES[titles[n]] for n in sorted(titles))], np.uint8)
    read = highdicom_labels(files[ResultKind.SEG])
    for path, labels in zip(paths, expected, strict=True):
        sop_uid = str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID)
        seen = values[read[sop_uid]] if sop_uid in read else np.zeros_like(labels)
        np.testing.assert_array_equal(seen, labels)
    organs = json.loads(files[ResultKind.VOLUMES].read_text())["organs"]
    told = {one["label"]: one["voxels"] for one in organs}
    assert told == {value: int((expected == value).sum()) for value in range(1, 16)}


def places_named(error: Exception) -> np.ndarray:
    """Return the positions in an error's text."""
    numbers = re.findall(r"-?\d+\.\d\d(?=[,)])", str(error))
    return np.array(numbers, dtype=float).reshape(-1, 3)


@pytest.mark.parametrize("tilt", TILTS_DEGREES, ids=str)
def test_every_gap_and_every_collision_is_refused_by_its_place(
    tmp_path: Path, tilt: tuple[float, float]
) -> None:
    for number, orientation in enumerate(ORIENTATIONS):
        truth = scan(*orientation, tilt)
        paths = synthetic.write_series(truth.slices, tmp_path / str(number))
        facts = assemble(paths, SERIES).stacks[0].facts
        slices = [each for path in paths for each in read_header(path).slices]
        for k, (one, place) in enumerate(
            (s, truth.first_lps + k * truth.axes_mm[:, 0]) for k, s in enumerate(slices)
        ):
            again = replace(one.frame, source=SourceFrame("1.2.3", 1))
            broken = {CollidingSlices: [*slices, replace(one, frame=again)]}
            if 0 < k < len(slices) - 1:
                broken[IncompleteSeries] = slices[:k] + slices[k + 1 :]
            for error_class, given in broken.items():
                stacks, (refused,) = build_stacks(given, facts, SERIES)
                assert stacks == ()
                assert type(refused.error) is error_class
                assert np.abs(places_named(refused.error) - place).max() <= 0.011
