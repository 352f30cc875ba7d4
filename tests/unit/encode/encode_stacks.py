"""Stacks built by hand from files, without the room that builds them in the service."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pydicom

from viscera.domain.geometry import Geometry
from viscera.domain.models import (
    Grade,
    Label,
    Model,
    Normalisation,
    NormalisationScheme,
    VerdictPolicy,
)
from viscera.domain.organs import AMOS
from viscera.domain.sources import Frame, SeriesFacts, SourceFrame, Stack
from viscera.domain.volumes import Volume
from viscera.encode import ResultContext


def model(labels: tuple[Label, ...] = AMOS, **more) -> Model:
    here = Path()
    facts = {
        "name": "organs", "version": "3", "grade": Grade.RESEARCH, "digest": "ab" * 32,
        "folder": here, "onnx": here, "onnx_sha256": "", "golden": here, "labels": labels,
        "modalities": ("CT", "MR"), "axes": "SPL", "spacing_mm": None, "patch_size": (1, 1, 1),
        "normalisation": {"CT": (Normalisation(scheme=NormalisationScheme.NONE),)},
        "verdict": VerdictPolicy(sides=False),  # label maps are blobs
    }  # fmt: skip
    return Model(**(facts | more))


def context(**more) -> ResultContext:
    facts = {
        "job_id": "job-1",
        "job_key": hashlib.sha256(b"job").hexdigest(),
        "created_at": datetime(2026, 3, 4, 5, 6, 7, 890123, tzinfo=UTC),
        "model": model(),
        "engine": "onnx-cpu",
    }
    return ResultContext(**(facts | more))


def frames_of(path: Path) -> list[tuple[Frame, pydicom.Dataset]]:
    """Return the frames of one file, from its functional groups where it has them."""
    ds = pydicom.dcmread(path, stop_before_pixels=True)
    if "PerFrameFunctionalGroupsSequence" not in ds:
        return [(_frame(ds, path, 1, ds, ds, ds), ds)]
    shared, result = ds.SharedFunctionalGroupsSequence[0], []
    for number, own in enumerate(ds.PerFrameFunctionalGroupsSequence, 1):

        def group(keyword, own=own):
            return (own.get(keyword) or shared.get(keyword))[0]

        plane = [group(f"{name}Sequence") for name in _GROUPS]
        result.append((_frame(ds, path, number, *plane), ds))
    return result


_GROUPS = ("PlanePosition", "PlaneOrientation", "PixelMeasures")


def _frame(ds, path, number, position, orientation, measures) -> Frame:
    return Frame(
        source=SourceFrame(str(ds.SOPInstanceUID), number),
        path=path,
        sha256="",
        rows=ds.Rows,
        columns=ds.Columns,
        position_lps=tuple(float(x) for x in position.ImagePositionPatient),
        orientation_lps=tuple(float(x) for x in orientation.ImageOrientationPatient),
        spacing_mm=tuple(float(x) for x in measures.PixelSpacing),
    )


def stack_of(paths: list[Path], *, backwards: bool = False) -> Stack:
    pairs = [pair for path in paths for pair in frames_of(path)]
    ds = pairs[0][1]
    first = pairs[0][0]
    cosines = np.array(first.orientation_lps)
    normal = np.cross(cosines[:3], cosines[3:])
    frames = sorted(
        (frame for frame, _ in pairs),
        key=lambda frame: float(normal @ frame.position_lps),
        reverse=backwards,
    )
    positions = np.array([frame.position_lps for frame in frames])
    step = (positions[-1] - positions[0]) / (len(frames) - 1) if len(frames) > 1 else normal
    return Stack(
        facts=SeriesFacts(
            study_uid=str(ds.StudyInstanceUID),
            series_uid=str(ds.SeriesInstanceUID),
            sop_class_uid=str(ds.SOPClassUID),
            modality=str(ds.Modality),
            frame_of_reference_uid=str(ds.get("FrameOfReferenceUID", "")),
            patient_sex=str(ds.get("PatientSex", "")),
        ),
        frames=tuple(frames),
        geometry=Geometry.from_planes(
            (len(frames), first.rows, first.columns),
            positions[0],
            step,
            first.orientation_lps,
            first.spacing_mm,
        ),
    )


def volume_of(stack: Stack) -> Volume:
    """Return rescaled intensities of a single-frame CT, padding masked."""
    planes, padding = [], []
    for frame in stack.frames:
        ds = pydicom.dcmread(frame.path)
        stored = ds.pixel_array.astype(np.int32)
        pad = stored == ds.get("PixelPaddingValue", 1 << 20)
        hu = stored * int(ds.RescaleSlope) + int(ds.RescaleIntercept)
        planes.append(np.where(pad, -1024, hu).astype(np.int16))
        padding.append(pad)
    return Volume(
        voxels=np.stack(planes),
        geometry=stack.geometry,
        modality=stack.facts.modality,
        padding=np.stack(padding),
    )


def blobs(shape: tuple[int, int, int], values: range, seed: int = 1) -> np.ndarray:
    """Return a label map of ellipsoids that no flip or transposition maps onto itself."""
    rng = np.random.default_rng(seed)
    grid = np.indices(shape).astype(np.float32)
    labels = np.zeros(shape, dtype=np.uint8)
    size = np.array(shape)
    for value in values:
        centre, radii = rng.uniform(0.2, 0.8, 3) * size, rng.uniform(0.06, 0.16, 3) * size
        inside = sum(((grid[k] - centre[k]) / max(radii[k], 0.6)) ** 2 for k in range(3)) <= 1
        labels[inside] = value
    return labels
