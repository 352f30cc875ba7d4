import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
COMMITTED = ROOT / "service" / "viscera" / "api" / "v1"


def proto_recipe() -> list[str]:
    """The arguments that the Makefile's `proto` hands to protoc."""
    lines = (ROOT / "Makefile").read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("proto:"))
    words = lines[start + 1].split()
    return words[words.index("grpc_tools.protoc") + 1 :]


def test_generating_again_gives_the_committed_files(tmp_path: Path) -> None:
    arguments = [word.replace("_out=service", f"_out={tmp_path}") for word in proto_recipe()]
    assert any(str(tmp_path) in word for word in arguments)
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *arguments], cwd=ROOT, check=True)
    made = {p.name: p.read_text() for p in (tmp_path / "viscera/api/v1").iterdir()}
    assert set(made) == {p.name for p in COMMITTED.glob("viscera_pb2*")}
    for name, text in made.items():
        assert text == (COMMITTED / name).read_text(), f"{name}: run `make proto`"


def test_buf_finds_nothing() -> None:
    if shutil.which("npx") is None:
        pytest.skip("npx is not installed: buf cannot run")
    lint = subprocess.run(
        ["npx", "--yes", "@bufbuild/buf", "lint", "proto"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert lint.returncode == 0, lint.stdout + lint.stderr
