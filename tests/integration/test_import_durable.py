"""A package that was imported survives a power cut; an import that was killed leaves nothing."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from brought import BANDS, Viscera, brought

DAY_S = 86_400


@pytest.fixture
def bring(viscera: Viscera, tmp_path: Path):
    def one(version: str) -> tuple[int, str]:
        network, manifest = brought(tmp_path, version=version, output={"labels": list(BANDS)})
        return viscera("model", "import", "onnx", network, "--manifest", manifest)

    return one


def watched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Note which file is synced and which folder gets its name, in order."""
    calls: list[tuple[str, str]] = []
    fsync, rename = os.fsync, os.rename

    def synced(fd: int) -> None:
        fsync(fd)
        calls.append(("fsync", str(Path(f"/proc/self/fd/{fd}").readlink())))

    def renamed(source: Path, target: Path) -> None:
        rename(source, target)
        calls.append(("rename", str(target)))

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "rename", renamed)
    return calls


def test_everything_is_on_the_disk_before_the_version_has_its_name(
    repo: Path, bring, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = watched(monkeypatch)
    status, said = bring("1")
    assert status == 0, said
    named = calls.index(("rename", str(repo / "mine" / "1")))
    before = {Path(path) for call, path in calls[:named] if call == "fsync"}
    (staged,) = {path.parent for path in before if path.name == "model.onnx"}
    # The manifest is synced under the name that it has while it is written.
    written = {path.name for path in before if path.parent == staged}
    files = {path.name for path in (repo / "mine" / "1").iterdir()}
    assert files - {"manifest.toml"} <= written
    assert "manifest.toml.part" in written
    assert staged in before
    assert {repo.parent, repo} <= before  # the repository and the family are new, too
    assert ("fsync", str(repo / "mine")) in calls[named:]


def test_leftovers_of_an_import_that_was_killed_are_removed(repo: Path, bring) -> None:
    assert bring("1")[0] == 0
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom viscera.files.staging import staged\n"
        "with staged(Path(sys.argv[1]), '.importing-') as folder:\n"
        "    (folder / 'mine').mkdir()\n    print(folder, flush=True)\n    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, repo], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        left = Path(other.stdout.readline().decode().strip())
        try:
            assert bring("2")[0] == 0
            assert (left / "mine").is_dir()  # somebody is at work there
        finally:
            other.send_signal(signal.SIGKILL)
    assert left.exists()
    assert bring("3")[0] == 0
    assert sorted(path.name for path in repo.iterdir()) == ["mine"]


def test_leftovers_without_a_lock_are_removed_after_a_day(repo: Path, bring) -> None:
    old, young = repo / ".importing-old", repo / ".importing-young"
    for folder in (old, young):
        (folder / "mine" / "1").mkdir(parents=True)
    os.utime(old, (time.time() - 1.1 * DAY_S,) * 2)
    assert bring("1")[0] == 0
    assert (old.exists(), young.exists()) == (False, True)
