"""Numba's cache, threads and threading layer, in processes of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from viscera.errors import InvalidSettings
from viscera.segment import configure_numba
from viscera.segment.runtime import usable_threads

CONFIGURE = """
import sys
from pathlib import Path
from viscera import segment
from viscera.errors import InvalidSettings
assert not {"numba", "onnxruntime"} & set(sys.modules), "imported before it was configured"
segment.configure_numba(Path(sys.argv[1]), "omp", int(sys.argv[2]))
"""


def child(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("NUMBA_")}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("numba")


def test_kernels_are_compiled_once_into_the_given_folder(cache):
    code = f"""{CONFIGURE}
segment.warm_up()
import numba
assert numba.threading_layer() == "omp", numba.threading_layer()
assert numba.get_num_threads() == 1
"""
    first = child(code, cache, 1)
    assert first.returncode == 0, first.stderr
    compiled = {path: path.stat().st_mtime_ns for path in cache.rglob("*.nbc")}
    assert len(compiled) == 5
    second = child(code, cache, 1)
    assert second.returncode == 0, second.stderr
    assert compiled == {path: path.stat().st_mtime_ns for path in cache.rglob("*.nbc")}


def test_two_threads_may_segment_at_once(cache):
    """With the workqueue layer this aborts the process."""
    code = f"""{CONFIGURE}
import threading
sys.path.insert(0, sys.argv[3])
import numpy as np
from segment_fakes import FunctionEngine, make_model
segment.warm_up()
image = np.random.default_rng(0).standard_normal((4, 40, 40, 40)).astype(np.float32)
model = make_model(labels=3, channels=4, patch=(16, 16, 16))
def run(out):
    for _ in range(5):
        segment.segment(image, model, FunctionEngine(), out, lambda done: None)
maps = [np.zeros((60, 60, 60), np.uint8) for _ in range(3)]
threads = [threading.Thread(target=run, args=(out,)) for out in maps]
[t.start() for t in threads]
[t.join() for t in threads]
assert (maps[0] == maps[1]).all() and (maps[0] == maps[2]).all() and maps[0].any()
"""
    done = child(code, cache, 2, Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr


def test_another_layer_that_runs_already_is_named(cache):
    code = f"""
import numba, numpy as np
numba.config.THREADING_LAYER = "workqueue"
@numba.njit(parallel=True)
def total(n):
    s = 0
    for i in numba.prange(n):
        s += i
    return s
total(10)
{CONFIGURE.replace("assert not", "not")}
try:
    segment.warm_up()
except InvalidSettings as error:
    print(error)
"""
    done = child(code, cache, 0)
    assert done.returncode == 0, done.stderr
    assert "omp was asked for, workqueue runs already" in done.stdout


def test_more_threads_than_run_already_are_refused(cache):
    code = f"""{CONFIGURE}
segment.warm_up()
try:
    segment.configure_numba(Path(sys.argv[1]), "omp", 2)
except InvalidSettings as error:
    print(error)
"""
    done = child(code, cache, 1)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("engine.threads")


def test_a_cache_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidSettings, match="numba_cache"):
        configure_numba(tmp_path / "file", "omp", 1)


def test_zero_threads_are_the_cores_we_may_use():
    assert usable_threads(0) == len(os.sched_getaffinity(0))
    assert usable_threads(3) == 3
