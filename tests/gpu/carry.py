"""Bring what a bare GPU machine lacks, in pieces that each fit into one call.

Here, ``python tests/gpu/carry.py pack``: fetches wheels into ``.carry/`` (name it in
``.git/info/exclude``), cuts their archive into folders of at most 50 MiB and prints the calls to
make. There, ``python3 tests/gpu/carry.py unpack FOLDER``: keeps the pieces in /tmp/carry; with the
last one it installs all into /tmp/site. Standard library only.
"""

import json
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

CARRY, KEPT, SITE = Path(".carry"), Path("/tmp/carry"), Path("/tmp/site")
PIECE = 50 * 2**20

# What viscera imports on its way to an engine and that machine's Python 3.12 lacks; the lock says
# which versions go together.
LOCK = Path("deploy/locks/requirements-gpu.lock")
NEEDS = (
    *("annotated-types", "jaxtyping", "nvidia-nvvm", "pydantic", "pydantic-core"),
    *("pydantic-settings", "python-dotenv", "structlog", "typing-inspection", "wadler-lindig"),
)
ENGINES = {
    "onnx-cuda": ["onnxruntime-gpu==1.31.1"],
    "tensorrt-rtx": ["tensorrt-rtx-cu13-bindings==1.7.1.116", "tensorrt-rtx-cu13-libs==1.7.1.116"],
}
PLATFORMS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux_2_31")
RUN = (
    "export PYTHONUNBUFFERED=1 PYTHONPATH=/tmp/site:service:tests; python3 -m pytest -rA -m gpu"
    " tests/gpu 2>&1 | tee $OUT/tests.txt; python3 tests/gpu/bench_gpu.py --out $OUT/bench-gpu.json"
)


def pack(engines):
    """Fetch the wheels, cut them, print the plan."""
    shutil.rmtree(CARRY, ignore_errors=True)
    wheels = CARRY / "wheels"
    pins = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", LOCK.read_text(), re.MULTILINE))
    names = [f"{name}=={pins[name]}" for name in NEEDS]
    names += [name for engine in engines for name in ENGINES[engine]]
    options = ["--quiet", "--no-deps", "--only-binary=:all:", "--python-version=3.12"]
    options += ["--implementation=cp", *(f"--platform={name}_x86_64" for name in PLATFORMS)]
    options += ["--platform=manylinux2014_x86_64", "--dest", str(wheels)]
    command = [sys.executable, "-m", "pip", "download", *options, *names]
    subprocess.run(command, check=True)
    folders = cut(wheels)
    print("One call after another, without a pause: an idle machine is taken back.")
    for folder in folders:
        call = f"python3 tests/gpu/carry.py unpack {folder} {len(folders)}"
        print(json.dumps({"carry": [str(folder)], "command": call}))
    print(json.dumps({"timeout_s": 600, "command": RUN}))


def cut(wheels):
    """Turn a folder of wheels into numbered folders that hold a piece of their archive each."""
    archive = CARRY / "wheels.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(wheels, "wheels")
    shutil.rmtree(wheels)
    folders = []
    with archive.open("rb") as file:
        while piece := file.read(PIECE):
            folders.append(CARRY / f"{len(folders):02}")
            folders[-1].mkdir()
            (folders[-1] / f"piece.{len(folders):02}").write_bytes(piece)
    archive.unlink()
    return folders


def unpack(folder, count):
    """Keep the piece; install once all are here."""
    KEPT.mkdir(exist_ok=True)
    for piece in folder.iterdir():
        shutil.copy(piece, KEPT)
    pieces = sorted(KEPT.glob("piece.*"))
    print(f"{len(pieces)} of {count} pieces")
    if len(pieces) < count:
        return
    archive = KEPT / "wheels.tar"
    archive.write_bytes(b"".join(piece.read_bytes() for piece in pieces))
    with tarfile.open(archive) as tar:
        tar.extractall(KEPT, filter="data")
    options = ["--quiet", "--no-index", "--no-deps", "--no-compile", "--upgrade", "--target", SITE]
    wheels = sorted((KEPT / "wheels").glob("*.whl"))
    subprocess.run([sys.executable, "-m", "pip", "install", *options, *wheels], check=True)
    # NVIDIA gives the name that one imports as a source distribution alone.
    if (SITE / "tensorrt_rtx_bindings").is_dir():
        (SITE / "tensorrt_rtx").mkdir()
        (SITE / "tensorrt_rtx" / "__init__.py").write_text(
            "from tensorrt_rtx_bindings import *\nfrom tensorrt_rtx_bindings import __version__\n"
        )
    print("installed", *(wheel.name for wheel in wheels))


if __name__ == "__main__":
    if sys.argv[1] == "pack":
        pack(sys.argv[2:] or list(ENGINES))
    else:
        unpack(Path(sys.argv[2]), int(sys.argv[3]))
