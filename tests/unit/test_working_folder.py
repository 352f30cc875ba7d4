"""No child process runs code of the working folder: it may be a results folder from anywhere."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import peers
from viscera.config import load_settings
from viscera.errors import ModelRefused
from viscera.jobs.heartbeat import Heartbeat
from viscera.models.nnunet.build import build
from viscera.models.nnunet.request import Request
from viscera.segment.building import PlanBuild
from viscera.segment.tensorrt_build import BuildRequest
from viscera.supervise import Supervisor

TRAP = (
    'open({ran!r}, "a").write(__name__ + "\\n")\nraise SystemExit("code of the working folder")\n'
)


@pytest.fixture
def ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where code of the working folder would say that it ran."""
    ran, folder = tmp_path / "ran", tmp_path / "downloaded"
    folder.mkdir()
    for name in ("torch", "json", "tensorrt", "viscera"):
        (folder / f"{name}.py").write_text(TRAP.format(ran=str(ran)))
    monkeypatch.chdir(folder)
    return ran


def importing(tmp_path: Path) -> None:
    with pytest.raises(ModelRefused) as refused:
        build(Request(folder=tmp_path, name="x", version="1"))
    assert "ended with status" not in str(refused.value)


def building_a_plan(tmp_path: Path) -> None:
    paths = {name: str(tmp_path / name) for name in ("onnx", "plan", "timing")}
    request = BuildRequest(library="tensorrt", tile_batch=1, half=False, chip="SM90", **paths)
    build = PlanBuild(request, lambda _: None)
    with pytest.raises(ModelRefused):
        build.require_success()
    build.stop()


def beating(tmp_path: Path) -> None:
    beat = Heartbeat(f"sqlite:///{tmp_path}/jobs.db", 3.0, 600.0)
    beat.ensure()
    beat.close()


def serving(tmp_path: Path) -> None:
    config = peers.write_config(tmp_path, model_repo=tmp_path, model="none")
    supervisor = Supervisor(["--config", str(config)], load_settings(config), ("api",))
    stop = threading.Event()
    thread = threading.Thread(target=supervisor.run, args=(stop,))
    thread.start()
    try:
        peers.wait_for(supervisor.is_ready, 60, "the role's start")
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("act", [importing, building_a_plan, beating, serving])
def test_code_of_the_working_folder_is_not_run(
    act: Callable[[Path], None], ran: Path, tmp_path: Path
) -> None:
    act(tmp_path)
    assert not ran.exists(), ran.read_text()
