"""Bring what a bare GPU machine lacks, in pieces that each fit into one call.

Here, ``python tests/gpu/carry.py pack``: fetches wheels into ``.carry/`` (name it in
``.git/info/exclude``), cuts their archive into folders of at most 36 MiB (the working tree, 22 MiB,
goes with each) and prints the calls to make. There, ``python3 tests/gpu/carry.py unpack FOLDER``:
keeps the pieces in /tmp/carry; with the last one it installs all beside torch, whose libraries of
CUDA ONNX Runtime looks for there, in place of ONNX Runtime for CPUs. Standard library only.
"""

import json
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

CARRY, KEPT = Path(".carry"), Path("/tmp/carry")
PIECE = 36 * 2**20

# What viscera imports on its way to an engine and that machine's Python 3.12 lacks; the lock says
# which versions go together. NVVM is CUDA_HOME's there: a newer one than its linker is of no use.
LOCK = Path("deploy/locks/requirements-gpu.lock")
NEEDS = (
    *("annotated-types", "jaxtyping", "pydantic", "pydantic-core"),
    *("pydantic-settings", "python-dotenv", "structlog", "typing-inspection", "wadler-lindig"),
)
# TensorRT-RTX has no code for Hopper: only on another chip is it worth its calls.
ENGINES = {
    "onnx-cuda": ["onnxruntime-gpu==1.31.1"],
    "tensorrt-rtx": ["tensorrt-rtx-cu13-bindings==1.7.1.116", "tensorrt-rtx-cu13-libs==1.7.1.116"],
}
PLATFORMS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux_2_31")
SET = (
    "export PYTHONUNBUFFERED=1 PYTHONPATH=service:tests CUDA_HOME=/usr/local/cuda"
    " NUMBA_THREADING_LAYER=omp; "
)
RUNS = (
    # Without conftest.py: it takes pynetdicom.
    "python3 -m pytest --noconftest -rA -m gpu tests/gpu 2>&1 | tee $OUT/tests.txt",
    "python3 tests/gpu/bench_gpu.py --out $OUT/bench-gpu.json 2>&1 | tee $OUT/bench.txt",
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
    # Ourselves, for the version that metadata tells; what runs there is the tree that travels.
    build = ["--quiet", "--no-deps", "--wheel-dir", str(wheels), "."]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *build], check=True)
    folders = cut(wheels)
    print("One call after another, without a pause: an idle machine is taken back.")
    for folder in folders:
        call = f"python3 tests/gpu/carry.py unpack {folder} {len(folders)}"
        print(json.dumps({"carry": [str(folder)], "command": call}))
    for run in RUNS:
        print(json.dumps({"timeout_s": 600, "command": SET + run}))


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
    pip = [sys.executable, "-m", "pip"]
    wheels = sorted((KEPT / "wheels").glob("*.whl"))
    if any(wheel.name.startswith("onnxruntime_gpu") for wheel in wheels):
        subprocess.run([*pip, "uninstall", "--quiet", "--yes", "onnxruntime"], check=True)
    options = ["--quiet", "--no-index", "--no-deps", "--no-compile", "--upgrade"]
    subprocess.run([*pip, "install", *options, *wheels], check=True)
    # NVIDIA gives the name that one imports as a source distribution alone.
    site = Path(sysconfig.get_path("purelib"))
    if (site / "tensorrt_rtx_bindings").is_dir():
        (site / "tensorrt_rtx").mkdir(exist_ok=True)
        (site / "tensorrt_rtx" / "__init__.py").write_text(
            "from tensorrt_rtx_bindings import *\nfrom tensorrt_rtx_bindings import __version__\n"
        )
    print("installed", *(wheel.name for wheel in wheels))


if __name__ == "__main__":
    if sys.argv[1] == "pack":
        pack(sys.argv[2:] or ["onnx-cuda"])
    else:
        unpack(Path(sys.argv[2]), int(sys.argv[3]))
