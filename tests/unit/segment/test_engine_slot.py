"""A faster engine is built in another process while one serves, and swapped in between jobs."""

import subprocess
import sys
import time

import psutil
import pytest
from structlog.testing import capture_logs

from segment_fakes import FunctionEngine, make_model, write_network
from viscera.config import EngineSettings
from viscera.errors import DeviceLost, ModelRefused
from viscera.metrics import Metrics
from viscera.segment import BuildTurn, EngineSlot, golden
from viscera.segment.building import PlanBuild, PlanNotBuilt
from viscera.segment.driver import Gpu
from viscera.segment.ladder import LADDER, Rung
from viscera.segment.onnx_cpu import OnnxCpuEngine
from viscera.segment.tensorrt_build import BuildRequest

PATCH = (6, 7, 8)
GPU = Gpu(name="fake", capability=(9, 0), cuda=13010, driver="580.95.05", memory_bytes=2**36)

# Says how far it is, waits until told, then writes the plan or fails.
BUILDER = """
import json, pathlib, sys, time
request = json.loads(sys.argv[1])
print("noise of a library", flush=True)
print("0.25", flush=True)
go = pathlib.Path(request["timing"])
while not go.exists():
    time.sleep(0.01)
if go.read_text() == "fail":
    sys.exit("Traceback\\nRuntimeError: no kernel fits")
print("1.0", flush=True)
pathlib.Path(request["plan"]).write_text("a plan")
"""


class Site:
    """A machine with a GPU, a builder that waits, and an engine that needs its plan."""

    def __init__(self, folder, strict=False, turn=None):
        folder.mkdir(exist_ok=True)
        path = write_network(folder / "m.onnx", labels=3)
        self.model = make_model(labels=2, patch=PATCH, onnx_path=path)
        self.right = OnnxCpuEngine(self.model, threads=1, tile_batch=1)
        self.golden = golden.make(self.right, self.model, seed=1)
        self.better = FunctionEngine(self.right.infer)
        self.better.name = "tensorrt"
        self.metrics = Metrics()
        self._plan, self._go = folder / "plan", folder / "go"
        self.builds = []
        self.slot = EngineSlot(
            self.model,
            self.golden,
            EngineSettings(strict=strict),
            self.metrics,
            (Rung("tensorrt", "numpy", self._load, needs_gpu=True), LADDER[-1]),
            lambda: GPU,
            self._build,
            turn,
        )

    def _load(self, model, settings, gpu):
        assert gpu is GPU
        if self._plan.exists():
            return self.better
        raise PlanNotBuilt(
            BuildRequest(
                library="x",
                onnx="x",
                tile_batch=1,
                half=True,
                plan=str(self._plan),
                timing=str(self._go),
                chip="SM90",
            )
        )

    def _build(self, request, progress):
        build = PlanBuild(request, progress, (sys.executable, "-c", BUILDER))
        self.builds.append(build)
        return build

    def finish(self, how="go"):
        self._go.write_text(how)
        self.builds[0]._process.wait(20)

    @property
    def progress(self):
        name = "viscera_engine_build_ratio"
        return self.metrics.registry.get_sample_value(name, {"engine": "tensorrt"})

    @property
    def demotions(self):
        name = "viscera_engine_fallbacks_total"
        return self.metrics.registry.get_sample_value(name, {"engine": "tensorrt"})


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path)
    yield made
    made.slot.close()


def test_the_first_job_does_not_wait_for_the_build(site):
    assert site.slot.between_jobs().name == "onnx-cpu"
    deadline = time.monotonic() + 20
    while site.progress != 0.25 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert site.progress == 0.25
    assert site.demotions is None, "an engine that is being built is not demoted"
    assert site.slot.between_jobs().name == "onnx-cpu"


def test_the_better_engine_serves_the_next_job(site):
    before = site.slot.between_jobs()
    site.finish()
    with capture_logs() as logs:
        assert site.slot.between_jobs() is site.better
    assert [entry["event"] for entry in logs] == ["gpu_found", "engine_ready", "engine_swapped"]
    assert site.progress == 1.0
    with pytest.raises(ModelRefused, match="closed"):
        before.infer(None)
    assert len(site.builds) == 1


def test_a_build_that_fails_is_a_demotion_and_the_old_engine_serves_on(site):
    site.finish("fail")
    with capture_logs() as logs:
        engine = site.slot.between_jobs()
    assert engine.name == "onnx-cpu"
    assert site.demotions == 1
    assert "no kernel fits" in logs[0]["why"]
    assert site.slot.between_jobs() is engine, "it is not tried again before the next start"
    assert len(site.builds) == 1


def test_a_better_engine_that_answers_wrongly_never_serves(site):
    site.better._function = lambda tiles: site.right.infer(tiles) * 2
    site.finish()
    assert site.slot.between_jobs().name == "onnx-cpu"
    assert site.demotions == 1


def test_networks_of_one_worker_are_built_one_after_the_other(tmp_path):
    turn = BuildTurn()
    first, second = (Site(tmp_path / name, turn=turn) for name in ("first", "second"))
    assert (len(first.builds), len(second.builds)) == (1, 0)
    second.slot.between_jobs()
    assert not second.builds
    first.finish("fail")
    first.slot.between_jobs()
    second.slot.between_jobs()
    assert (len(first.builds), len(second.builds)) == (1, 1)
    second.finish()
    assert second.slot.between_jobs() is second.better
    first.slot.close()
    second.slot.close()


def test_a_build_that_fails_is_fatal_in_strict_mode(tmp_path):
    site = Site(tmp_path, strict=True)
    site.finish("fail")
    with pytest.raises(DeviceLost, match="no kernel fits") as caught:
        site.slot.between_jobs()
    assert caught.value.retry, "the job is not to blame"
    site.slot.close()


def test_closing_ends_the_build(tmp_path):
    site = Site(tmp_path)
    site.slot.close()
    site.slot.close()
    assert site.builds[0].is_over


def test_a_build_ends_with_its_worker():
    """Also where the worker is killed: a build that goes on would hold the GPU's memory."""
    build = (
        "import time; from viscera.segment.tensorrt_build import stand_back; stand_back();"
        "print('up', flush=True); time.sleep(100)"
    )
    worker = (
        "import subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, '-c', {build!r}], stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(100)\n"
    )
    with subprocess.Popen([sys.executable, "-c", worker], stdout=subprocess.PIPE) as running:
        builder = psutil.Process(int(running.stdout.readline()))
        assert builder.nice() >= 10
        running.kill()
    gone, _ = psutil.wait_procs([builder], timeout=20)
    assert gone
