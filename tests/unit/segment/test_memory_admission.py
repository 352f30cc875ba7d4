"""The peak is known before a job starts: computed, measured, and held against what is free."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from segment_fakes import FunctionEngine, make_model
from viscera.domain.geometry import Geometry
from viscera.domain.models import Normalisation, NormalisationScheme
from viscera.domain.volumes import Volume
from viscera.errors import HostMemoryFull
from viscera.segment import require_memory, segment
from viscera.segment.memory import free_host_bytes, job_needs
from viscera.volume import prepare

MIB = 2**20


def made(labels=16, patch=(16, 32, 32)):
    model = make_model(labels=labels - 1, patch=patch)
    answer = np.zeros((1, labels, *patch), np.float32)
    return model, FunctionEngine(lambda tiles: answer)


def machine(folder, available_kib, limit="max", used=0, files=0):
    """A root with what Linux says of memory."""
    (folder / "proc").mkdir()
    (folder / "proc/meminfo").write_text(
        f"MemTotal: 9 kB\nMemAvailable:   {available_kib} kB\nBuffers: 1 kB\n"
    )
    group = folder / "sys/fs/cgroup"
    group.mkdir(parents=True)
    (group / "memory.max").write_text(f"{limit}\n")
    (group / "memory.current").write_text(f"{used}\n")
    (group / "memory.stat").write_text(f"anon 5\ninactive_file {files}\n")
    return folder


@pytest.mark.parametrize(
    ("shape", "target"),
    [((40, 96, 96), (40, 96, 96)), ((40, 96, 96), (80, 256, 256)), ((160, 64, 64), (20, 64, 64))],
)
def test_what_is_computed_is_what_is_taken(shape, target):
    model, engine = made()
    need = job_needs(model, engine, shape, target)

    def job():
        image, labels = np.zeros((1, *shape), np.float32), np.zeros(target, np.uint8)
        segment(image, model, engine, labels, lambda done: None)

    job()  # imports and caches
    tracemalloc.start()
    try:
        job()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= need.host
    assert need.host < 1.35 * peak, "jobs that fit must not be refused"
    assert need.device == 0


def test_cubic_resampling_takes_a_volume_more():
    model, engine = made()
    shape, target = (40, 96, 96), (80, 256, 256)
    cubic = job_needs(replace(model, image_order=3), engine, shape, target)
    assert cubic.host > 4 * (40 * 96 * 96 + 80 * 256 * 256)
    assert cubic.host > job_needs(model, engine, shape, target).host


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("image_order", [1, 3])
def test_what_preparing_takes_is_counted(masked, image_order):
    """Tiles so small that the window takes less than what comes before it."""
    model, engine = made(labels=2, patch=(8, 8, 8))
    how = Normalisation(scheme=NormalisationScheme.ZSCORE, masked=masked)
    model = replace(
        model, spacing_mm=(2, 2, 2), normalisation={"CT": (how,)}, image_order=image_order
    )
    voxels = np.random.default_rng(0).integers(0, 500, (60, 128, 128), np.int16)
    affine = np.diag([1.5, 1.5, 2.0, 1.0])
    scan = Volume(
        voxels=voxels, geometry=Geometry(shape=voxels.shape, affine_lps=affine), modality="CT"
    )
    shape = prepare(scan, model).image.shape[1:]
    tracemalloc.start()
    try:
        prepare(scan, model)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    need = job_needs(model, engine, shape, voxels.shape)
    assert peak <= need.host
    if masked or image_order == 3:
        assert need.host < 1.35 * peak, "jobs that fit must not be refused"


def test_a_job_that_fits_is_let_in_and_one_that_does_not_is_told(tmp_path):
    model, engine = made()
    shape = target = (40, 96, 96)
    need = job_needs(model, engine, shape, target).host
    root = machine(tmp_path, need // 1024 + 1)
    require_memory(model, engine, shape, target, root)
    with pytest.raises(HostMemoryFull, match=r"needs \d+ MiB .* are free"):
        require_memory(model, engine, (41, 96, 96), (41, 96, 96), root)


def test_the_containers_limit_counts_and_its_file_pages_are_free(tmp_path):
    root = machine(tmp_path, 900 * 1024, limit=500 * MIB, used=300 * MIB, files=50 * MIB)
    assert free_host_bytes(root) == 250 * MIB


def test_without_a_limit_the_machine_counts(tmp_path):
    assert free_host_bytes(machine(tmp_path, 900 * 1024)) == 900 * MIB


def test_a_machine_that_does_not_say_refuses_nothing(tmp_path):
    assert free_host_bytes(tmp_path) is None
    model, engine = made()
    require_memory(model, engine, (9, 9, 9), (9, 9, 9), tmp_path)


def test_this_machine_says():
    assert free_host_bytes() > 100 * MIB
