"""Rows `seg_binary` and `seg_proof`: a SEG of 15 organs on 300 slices, ours beside highdicom.

`seg_binary` begins with the source series and ends with a file on disk. Ours is `write_seg` as the
service calls it: the label map's digest, segments chosen and described, references, derived UIDs,
the file synced, its own digest. The peer is highdicom handed the same 3-D label map and all source
headers, saved, and nothing else: no digest, no sync.

`seg_proof` begins with that file and ends with the word that every voxel is where it was meant to
be. Ours is `check_seg`; the peer reads the file by highdicom's `segread` and
`get_pixels_by_source_instance`, and compares with the label map.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import highdicom
import numpy as np
import pydicom
from pydicom.dataset import Dataset

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "encode"))

from encode_series import write_single_frames
from encode_stacks import context, stack_of

from viscera.domain.organs import AMOS
from viscera.domain.results import OrganMeasurement
from viscera.domain.sources import Stack
from viscera.domain.volumes import Volume
from viscera.encode import warm_up
from viscera.encode.results import write_seg
from viscera.encode.roundtrip import check_seg
from viscera.encode.segments import resolve, segments_of
from viscera.encode.sources import read_sources
from viscera.measure import measure

SHAPE = (300, 512, 512)
ROUNDS = 5


def organs() -> np.ndarray:
    """Return 15 ellipsoids that fill about a tenth of the volume, as organs do."""
    labels = np.zeros(SHAPE, dtype=np.uint8)
    rng = np.random.default_rng(7)
    for value in range(1, 16):
        centre = rng.uniform(0.25, 0.75, 3) * SHAPE
        radii = rng.uniform(0.10, 0.22, 3) * SHAPE
        low = np.maximum(centre - radii, 0).astype(int)
        high = np.minimum(centre + radii + 1, SHAPE).astype(int)
        grid = np.ogrid[tuple(map(slice, low, high))]
        inside = sum(((grid[k] - centre[k]) / radii[k]) ** 2 for k in range(3)) <= 1
        labels[tuple(map(slice, low, high))][inside] = value
    return labels


def ours(
    labels: np.ndarray, stack: Stack, rows: tuple[OrganMeasurement, ...], folder: Path
) -> None:
    write_seg(labels, resolve(rows, "M"), read_sources(stack), context(), folder, folder)


def peers(labels: np.ndarray, stack: Stack, folder: Path) -> None:
    headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in stack.paths]
    algorithm = highdicom.AlgorithmIdentificationSequence(
        name="organs", version="3", family=pydicom.sr.codedict.codes.DCM.ArtificialIntelligence
    )
    seg: Dataset = highdicom.seg.Segmentation(
        source_images=headers,
        pixel_array=labels,
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[
            highdicom.seg.SegmentDescription(
                segment_number=label.value,
                segment_label=label.title,
                segmented_property_category=highdicom.sr.CodedConcept(
                    label.category.value, label.category.scheme, label.category.meaning
                ),
                segmented_property_type=highdicom.sr.CodedConcept(
                    label.type.value, label.type.scheme, label.type.meaning
                ),
                algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
                algorithm_identification=algorithm,
            )
            for label in AMOS
        ],
        series_instance_uid=highdicom.UID(),
        series_number=2,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer="m",
        manufacturer_model_name="m",
        software_versions="1",
        device_serial_number="1",
    )
    seg.save_as(folder / "peer.dcm", enforce_file_format=True)


def proved(
    labels: np.ndarray, stack: Stack, rows: tuple[OrganMeasurement, ...], path: Path
) -> None:
    segments = segments_of(resolve(rows, "M"), context().model, "M")
    check_seg(path, labels, segments, stack.geometry)


def read_by_highdicom(labels: np.ndarray, stack: Stack, path: Path) -> None:
    seg = highdicom.seg.segread(path)
    planes = seg.get_pixels_by_source_instance(
        [frame.source.sop_uid for frame in stack.frames],
        combine_segments=True,
        assert_missing_frames_are_empty=True,
    )
    if not np.array_equal(planes, labels):
        raise SystemExit("highdicom reads another label map")


def best(*what: Callable[[], None]) -> list[float]:
    """Return the best time of each in alternating rounds, which other load disturbed least."""
    rounds = []
    for _ in range(ROUNDS):
        times = []
        for one in what:
            start = time.perf_counter()
            one()
            times.append(time.perf_counter() - start)
        rounds.append(times)
    return [round(min(column), 3) for column in zip(*rounds, strict=True)]


def row(name: str, mine: float, theirs: float, peer_name: str) -> dict[str, object]:
    return {
        "name": name, "ours": mine, "peer": theirs, "peer_name": peer_name,
        "unit": "s", "ratio": round(theirs / mine, 3),
    }  # fmt: skip


def main() -> None:
    """Print both rows."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stack = stack_of(write_single_frames(folder, shape=SHAPE))
        labels = organs()
        volume = Volume(
            voxels=np.zeros(SHAPE, dtype=np.int16), geometry=stack.geometry, modality="CT"
        )
        rows = measure(labels, volume, context().model)
        warm_up()
        written = best(
            lambda: ours(labels, stack, rows, folder), lambda: peers(labels, stack, folder)
        )
        path = folder / "segmentation.dcm"
        read = best(
            lambda: proved(labels, stack, rows, path),
            lambda: read_by_highdicom(labels, stack, path),
        )
    print(json.dumps(row("seg_binary", *written, "highdicom")))
    print(json.dumps(row("seg_proof", *read, "highdicom, read back")))


if __name__ == "__main__":
    main()
