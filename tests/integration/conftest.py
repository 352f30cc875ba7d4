"""Commands on a model repository of the test's own."""

from pathlib import Path

import pytest

from brought import Viscera
from viscera.cli import main


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return tmp_path / "model_repo"


@pytest.fixture
def viscera(
    repo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Viscera:
    """Run one command on `repo`; return its status and what it said."""
    monkeypatch.setenv("VISCERA_MODELS__REPO", str(repo))

    def run(*arguments: object) -> tuple[int, str]:
        capsys.readouterr()
        status = main([str(one) for one in arguments])
        said = capsys.readouterr()
        return status, said.out + said.err

    return run
