"""Row `seg_binary`: a SEG of 15 organs on 300 slices, ours beside plain highdicom.

Both read the headers of the source series and end with a file on disk. Ours is `write_seg` as the
service calls it: segments chosen and described, references, derived UIDs, the file synced, its
digest, and the round trip that decodes every frame again. The peer is highdicom handed the same
3-D label map and all source headers, saved, and nothing else.
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
from viscera.encode.identity import Identity, digest_of
from viscera.encode.results import write_seg
from viscera.encode.segments import resolve
from viscera.encode.sources import read_sources
from viscera.measure import measure

SHAPE = (300, 512, 512)
ROUNDS = 3


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
    sources, ctx = read_sources(stack), context()
    identity = Identity(job_key=ctx.job_key, labels_sha256=digest_of(labels))
    write_seg(labels, resolve(rows, "M"), sources, ctx, identity, folder, folder)


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


def seconds(what: Callable[[], None]) -> float:
    start = time.perf_counter()
    what()
    return time.perf_counter() - start


def main() -> None:
    """Print the row: the best of alternating rounds, which other load disturbed least."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stack = stack_of(write_single_frames(folder, shape=SHAPE))
        labels = organs()
        volume = Volume(
            voxels=np.zeros(SHAPE, dtype=np.int16), geometry=stack.geometry, modality="CT"
        )
        rows = measure(labels, volume, context().model)
        pairs = [
            (
                seconds(lambda: ours(labels, stack, rows, folder)),
                seconds(lambda: peers(labels, stack, folder)),
            )
            for _ in range(ROUNDS)
        ]
    mine, theirs = (round(min(column), 3) for column in zip(*pairs, strict=True))
    row = {
        "name": "seg_binary", "ours": mine, "peer": theirs, "peer_name": "highdicom",
        "unit": "s", "ratio": round(theirs / mine, 3),
    }  # fmt: skip
    print(json.dumps(row))


if __name__ == "__main__":
    main()
