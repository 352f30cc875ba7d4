"""The command line as its users meet it: what it says, and with which status it ends."""

import os
import re
import subprocess
import sys
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

import store_rows
from band import write_band_package
from synthetic import Slices, write_series
from viscera import cli, log, segment
from viscera.config import load_settings
from viscera.config_text import describe_settings
from viscera.domain.jobs import Choice, Job
from viscera.domain.results import Decision, ResultKind, Verdict

ROOT = Path(__file__).parents[2]
TRACEBACK = "Traceback (most recent call last)"


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings but the test's own; log and Numba of the testing process stay as they are."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("VISCERA_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(log, "configure", lambda *_: None)
    monkeypatch.setattr(segment, "configure_numba", lambda *_: None)


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]):
    """Run a command that cannot succeed; return the one line that it says."""

    def run(*arguments: str, status: int = 2) -> str:
        assert cli.main(list(arguments)) == status
        said = capsys.readouterr()
        assert said.err.count("\n") == 1, said.err
        if status == 2:
            assert said.err.startswith("viscera: ")
        return said.err

    return run


@pytest.fixture
def succeeds(capsys: pytest.CaptureFixture[str]):
    """Run a command; return its lines."""

    def run(*arguments: str) -> list[str]:
        assert cli.main(list(arguments)) == 0
        said = capsys.readouterr()
        assert said.err == ""
        return said.out.splitlines()

    return run


def write(path: str, text: str) -> str:
    Path(path).write_text(text)
    return path


# Settings


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[dicom]\nprot = 1\n", r"dicom\.prot: no such setting, did you mean port\?"),
        ("[dicmo]\nport = 1\n", r"dicmo: no such setting, did you mean dicom\?"),
        ("[dicom]\nzzz = 1\n", r"dicom\.zzz: no such setting; `viscera config show`"),
        ("[dicom]\nport = 70000\n", r"dicom\.port: .*65535"),
        ('[dicom]\nport = "x"\nmax_pdu_bytes = 1\n', r"dicom\.port: .*; .*dicom\.max_pdu_bytes: "),
        ('[[dicom.peers]]\nname = "A B"\nae_title = "X"\n', r"dicom\.peers\.0\.name: "),
        ("[dicom\n", r"line 1"),
        ("dicom = 3\n", r"dicom: "),
        ('[jobs]\ntimezone = "Berlin"\n', r"jobs\.timezone: .*'Berlin' is no time zone"),
        (
            '[deliver]\ndestinations = [{name = "out", kind = "folder", folder = "a"},'
            ' {name = "out", kind = "folder", folder = "b"}]\n',
            r"deliver: .*two destinations are called out",
        ),
    ],
)
def test_a_wrong_settings_file_is_one_line_that_names_the_key(fails, text: str, told: str) -> None:
    line = fails("--config", write("c.toml", text), "config", "check")
    assert line.startswith("viscera: InvalidSettings: c.toml: ")
    assert re.search(told, line)


def test_a_settings_file_that_cannot_be_read(fails, tmp_path: Path) -> None:
    Path("c.toml").write_bytes(b"\xff\xfe")
    assert "not UTF-8" in fails("--config", "c.toml", "config", "check")
    assert "nope.toml: No such file" in fails("--config", "nope.toml", "config", "check")
    assert "Is a directory" in fails("--config", str(tmp_path), "config", "check")


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("VISCERA_DCIOM__PORT", "1", "VISCERA_DCIOM__PORT: no such section"),
        ("VISCERA_DICOM_PORT", "1", "two underscores"),
        ("VISCERA_DICOM__PROT", "1", "VISCERA_DICOM__PROT: dicom.prot: no such setting, did you"),
        ("VISCERA_DICOM__PORT", "x", "variable VISCERA_DICOM__PORT: dicom.port: "),
        ("VISCERA_DICOM", "x", "VISCERA_DICOM: lists and tables are written as JSON"),
        ("VISCERA_DICOM__PEERS", "x", "VISCERA_DICOM__PEERS: lists and tables are written as JSON"),
    ],
)
def test_a_wrong_environment_is_one_line_that_names_the_variable(
    fails, monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str
) -> None:
    monkeypatch.setenv(name, value)
    assert told in fails("--config", write("c.toml", ""), "config", "show")


def test_a_secret_is_in_no_complaint(fails, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISCERA_JOBS__URL", "nonsense://user:hunter2@host/db")
    assert "hunter2" not in fails("jobs", "list")
    assert "hunter2" not in fails("config", "check")


def test_what_config_show_prints_is_a_settings_file(succeeds) -> None:
    shown = "\n".join(succeeds("config", "show"))
    path = Path(write("shown.toml", shown))
    assert load_settings(path) == load_settings(None)
    assert "sqlite:///var/viscera.db" in shown  # the default is no secret


def test_config_show_keeps_peers_and_hides_the_url(succeeds) -> None:
    text = """
[jobs]
url = "postgresql://viscera:hunter2@db/viscera"
[[dicom.peers]]
name = "pacs"
ae_title = 'A"B'
networks = ["10.0.0.0/8"]
[[series.rules]]
name = "liver"
description = 'le?ber\\b|"liver"'
[[deliver.destinations]]
name = "out"
kind = "folder"
folder = "/tmp/ü out"
"""
    config = write("c.toml", text)
    shown = "\n".join(succeeds("--config", config, "config", "show"))
    assert "hunter2" not in shown
    again, before = load_settings(Path(write("d.toml", shown))), load_settings(Path(config))
    for section in set(type(before).model_fields) - {"jobs"}:
        assert getattr(again, section) == getattr(before, section), section
    assert describe_settings(again).replace("# url", "url") != shown  # the default URL is shown


def test_config_check_tells_what_is_open_before_it_fails(capsys) -> None:
    assert cli.main(["config", "check"]) == 2
    said = capsys.readouterr()
    assert "peers: none, so nobody may send" in said.out
    assert "destinations: none" in said.out
    assert said.err.startswith("viscera: InvalidSettings: models.default: no model")
    assert said.err.count("\n") == 1


def test_config_check_of_a_good_set(succeeds, tmp_path: Path) -> None:
    write_band_package(tmp_path / "repo")
    text = """
[models]
repo = "repo"
default = "band"
[[dicom.peers]]
name = "pacs"
ae_title = "PACS"
networks = ["10.0.0.0/8"]
[[dicom.peers]]
name = "lab"
ae_title = "LAB"
[[deliver.destinations]]
name = "pacs"
kind = "dicom"
host = "pacs"
"""
    lines = succeeds("--config", write("c.toml", text), "config", "check")
    assert lines == [
        "settings: every key is known",
        "peer: pacs, from 10.0.0.0/8",
        "peer: lab, from nowhere: set networks, or it is not admitted",
        "destination: pacs, but nothing of a research model: set allow_unvalidated to try it",
        "model: band/1, grade research",
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[grpc]\nhost = "0.0.0.0"\n', "grpc.host"),
        ('[[dicom.peers]]\nname = "a"\nae_title = "A"\naccept_and_drop = ["XX"]\n', "names XX"),
        ('[jobs]\nurl = "sqlite://"\n', "jobs.url"),
        ('[[series.rules]]\nname = "r"\nmodel = "gone/2"\n', "series.rules: r: no model gone/2"),
    ],
)
def test_config_check_finds_what_a_role_would_refuse(
    capsys, tmp_path: Path, text: str, told: str
) -> None:
    write_band_package(tmp_path / "repo")
    config = write("c.toml", f'{text}[models]\nrepo = "repo"\ndefault = "band"\n')
    assert cli.main(["--config", config, "config", "check"]) == 2
    assert told in capsys.readouterr().err


# Models


def test_a_repository_without_packages(fails) -> None:
    for action in ("list", "check"):
        assert "no model package in model_repo" in fails("model", action, status=1)
    Path("model_repo").mkdir()
    assert "no model package" in fails("model", "list", status=1)


def test_every_broken_package_is_listed(succeeds, tmp_path: Path) -> None:
    good = write_band_package(tmp_path / "model_repo")
    broken = tmp_path / "model_repo" / "odd" / "2"
    broken.mkdir(parents=True)
    (broken / "manifest.toml").write_text("format = 99\n")
    bad, fine = sorted(succeeds("model", "list"), key=lambda line: "ModelRefused" not in line)
    assert bad.split()[:2] == ["odd/2", "ModelRefused;"]
    assert fine.split()[:2] == [good.full_name, "research"]


@pytest.mark.parametrize("name", ["nope", "band/9", "../x", "nope/"])
def test_checking_a_model_that_is_not_there(capsys, tmp_path: Path, name: str) -> None:
    write_band_package(tmp_path / "model_repo")
    assert cli.main(["model", "check", name]) == 1
    said = capsys.readouterr()
    assert f"{name}: ModelNotFound: " in said.out
    assert said.err == ""


def test_checking_all_models_reports_each_also_after_one_that_fails(tmp_path: Path) -> None:
    good = write_band_package(tmp_path / "model_repo")
    (tmp_path / "model_repo" / "aa" / "1").mkdir(parents=True)
    (tmp_path / "model_repo" / "aa" / "1" / "manifest.toml").write_text("format = 99\nx = 1\n")
    changed = tmp_path / "model_repo" / "zz"
    (tmp_path / "model_repo" / good.name).rename(changed)
    write_band_package(tmp_path / "model_repo")
    command = [sys.executable, "-m", "viscera", "model", "check"]
    cache = {"VISCERA_ENGINE__NUMBA_CACHE": str(ROOT / ".cache" / "numba")}
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | cache, capture_output=True, text=True, check=False
    )
    first, second, third = done.stdout.splitlines()
    assert first.startswith("aa/1: ModelRefused: the manifest of aa/1 is wrong")
    assert second.startswith("band/1: digests and golden tile agree on ")
    assert third.startswith("zz/1: ModelRefused: ")
    assert (done.returncode, done.stderr) == (1, "")


# Jobs


def test_where_no_service_ran_no_store_is_made(fails, tmp_path: Path) -> None:
    """Elsewhere the same relative path is another file: an empty store would say "all is well"."""
    for command in (["jobs", "list"], ["jobs", "show", "x"], ["why"]):
        said = fails(*command)
        assert f"InvalidSettings: there is no job store at {tmp_path}/var/viscera.db" in said
    assert not (tmp_path / "var").exists()


def empty_store(tmp_path: Path) -> None:
    (tmp_path / "var").mkdir()
    url = load_settings(None).jobs.url.get_secret_value()
    with closing(store_rows.open_store(url, tmp_path / "spool")) as store:
        store.migrate()


def test_an_empty_store(fails, tmp_path: Path) -> None:
    empty_store(tmp_path)
    assert fails("jobs", "list", status=1) == "no job yet\n"
    assert fails("jobs", "list", "--state", "failed", status=1) == "no such job in the job store\n"
    assert "no instance of series 1.2.3 was received" in fails("why", "1.2.3", status=1)
    for action in ("show", "retry"):
        assert "JobNotFound: no job NOPE" in fails("jobs", action, "NOPE")


def test_a_state_that_is_none(fails) -> None:
    line = fails("jobs", "list", "--state", "nope")
    assert "'nope' is not a valid JobState; there are queued, running, done, " in line


def test_a_store_that_is_no_store(fails, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VISCERA_JOBS__URL", f"sqlite:///{tmp_path}/x.db")
    write("x.db", "This is not a database, although its name may say so." * 10)
    assert "StoreUnavailable: the job store does not answer: " in fails("jobs", "list")


def job_in_store(tmp_path: Path) -> Job:
    """Receive three instances in the store of the default settings, and plan them."""
    (tmp_path / "var").mkdir(exist_ok=True)
    time = store_rows.Time()
    url = load_settings(None).jobs.url.get_secret_value()
    store = store_rows.open_store(url, tmp_path / "spool", time)
    store.migrate()
    arrivals = [store_rows.arrival(n, time.wall) for n in range(3)]
    store.record_arrivals(arrivals)
    time.wall += timedelta(seconds=store_rows.QUIET_S + 1)
    time.uptime_s += store_rows.QUIET_S + 1
    claimed = store.claim_submission("planner")
    assert claimed is not None
    choices = (
        Choice(what="segment", because="rule liver matches", frames=2, model="band"),
        Choice(what="refuse", because="gap", frames=1, reason="IncompleteSeries"),
    )
    (job,) = store.settle_submission(claimed[0], choices, [store_rows.plan("key", 2)])
    store.close()
    return job


def test_jobs_and_why(succeeds, tmp_path: Path) -> None:
    job = job_in_store(tmp_path)
    (line,) = succeeds("jobs", "list", "--state", "queued")
    assert line.split() == [job.id, "2026-03-01", "12:00:31", "queued", "band/1"]
    assert f"job         {job.id}" in succeeds("jobs", "show", job.id)
    assert succeeds("jobs", "retry", job.id) == [f"{job.id} is queued"]
    assert succeeds("why", job.series_uid) == succeeds("why")
    assert succeeds("why") == [
        f"{job.series_uid}  2026-03-01 12:00:00 UTC",
        "  version 1 from pacs: closed, 3 instances",
        "  segment  2 frames with band: rule liver matches",
        "  refuse   1 frames: gap",
    ]


def test_delivering_a_withheld_result_says_what_is_not_there(fails, tmp_path: Path) -> None:
    write_band_package(tmp_path / "model_repo")
    job = job_in_store(tmp_path)
    url = load_settings(None).jobs.url.get_secret_value()
    store = store_rows.open_store(url, tmp_path / "spool", store_rows.Time())
    claimed = store.claim_job("worker")
    assert claimed is not None
    files = [store_rows.result(ResultKind.QC, job.id, claimed[0].fence)]
    store.finish_job(claimed[0], files, Verdict(Decision.WITHHOLD), ())
    pacs = '[[deliver.destinations]]\nname = "pacs"\nkind = "dicom"\nhost = "127.0.0.1"\n'
    config = write("c.toml", f"{pacs}allow_unvalidated = true\n")
    told = fails("--config", config, "jobs", "deliver", job.id)
    assert "the result (withhold) holds nothing that these destinations take" in told
    assert store.deliveries(job.id) == ()
    store.close()


# Segment and phantom


def junk(folder: Path) -> Path:
    folder.mkdir()
    (folder / "a.dcm").write_bytes(np.random.default_rng(1).bytes(4000))
    (folder / "notes.txt").write_text("hello")
    return folder


def test_segment_without_anything_to_segment(fails, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "zero.dcm").touch()
    inputs = [empty, junk(tmp_path / "junk"), tmp_path / "junk/notes.txt", tmp_path / "zero.dcm"]
    for path in inputs:
        assert "no DICOM file here" in fails("segment", str(path), "--out", "out")
    assert "does not exist" in fails("segment", "missing", "--out", "out")
    assert not Path("out").exists()


def test_segment_names_the_file_that_is_broken(fails, tmp_path: Path) -> None:
    path = tmp_path / "slice.dcm"
    path.write_bytes(bytes(128) + b"DICM" + np.random.default_rng(1).bytes(3000))
    assert f": {path}: " in fails("segment", str(path), "--out", "out")


def test_segment_passes_over_the_index_of_a_disk(fails, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "DICOMDIR").write_bytes(bytes(128) + b"DICM" + bytes(100))
    assert "no DICOM file here" in fails("segment", "disk", "--out", "out")


def test_segment_with_a_volume_that_is_none(fails, tmp_path: Path) -> None:
    write("scan.nii.gz", "hello")
    assert "UndecodablePixels" in fails("segment", "scan.nii.gz", "--out", "out")


def test_segment_with_a_model_that_is_not_there(capsys, tmp_path: Path) -> None:
    slices = Slices(stored=np.zeros((9, 16, 16), np.int16))
    write_series(slices, tmp_path / "series")
    assert cli.main(["segment", "series", "--out", "out", "--model", "gone"]) == 1
    told = f"{slices.series_uid}: refuse 9 frames with gone: no model gone"
    assert capsys.readouterr().out.startswith(told)


def test_a_series_that_fails_keeps_no_other_from_being_segmented(tmp_path: Path) -> None:
    write_band_package(tmp_path / "model_repo")
    uids = ("1.2.1", "1.2.2", "1.2.3")
    for uid in uids:
        slices = Slices(stored=np.full((12, 48, 48), 1064, np.int16), series_uid=uid)
        paths = write_series(slices, tmp_path / "series" / uid)
        if uid == "1.2.1":
            paths[3].write_bytes(paths[3].read_bytes()[:-3000])
    command = [*(sys.executable, "-m", "viscera", "segment", "series"), "--out", "out"]
    cache = {"VISCERA_ENGINE__NUMBA_CACHE": str(ROOT / ".cache" / "numba")}
    done = subprocess.run(
        [*command, "--model", "band"],
        cwd=tmp_path,
        env=os.environ | cache,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "1.2.1: UndecodablePixels: " in done.stdout
    made = {path.parent.name for path in (tmp_path / "out").glob("*/segmentation.dcm")}
    assert made == {"1.2.2", "1.2.3"}


def test_an_out_folder_that_is_a_file(fails, monkeypatch: pytest.MonkeyPatch) -> None:
    write("taken", "")
    # Making the body takes seconds, and writing it is what fails.
    monkeypatch.setattr("viscera.phantom.make_phantom", lambda seed: None)
    assert fails("phantom", "--out", "taken") == "viscera: taken: File exists\n"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["frobnicate"],
        ["jobs"],
        ["jobs", "list", "--limit", "-3"],
        ["jobs", "list", "--limit", "0"],  # "no job yet" would be untrue
        ["why", "--limit", "0"],
        ["phantom", "--out", "x", "--seed", "-1"],
        ["phantom", "--out", "x", "--seed", "one"],
        ["segment", "x"],
        ["segment", "x", "--out", "y", "--modality", "PET"],
    ],
)
def test_a_wrong_command_line_is_told_with_its_usage(arguments: list[str], capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("usage: viscera")
    assert TRACEBACK not in said
