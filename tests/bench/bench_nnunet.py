"""Time an imported network beside `nnUNetPredictor` itself, on the CPU; JSON rows.

Both take one volume of 300 x 512 x 512 in memory to its label map, with the same weights, step and
threads, without mirroring, each in a process of its own that has loaded the network and run it
once. ``nnunet_network`` is the time inside the network, ``nnunet_rest`` all else (preparing,
tiling, blending, resampling of logits, argmax), ``nnunet_peak_memory`` each process' high-water
mark with everything in it. The label maps must agree.

The peer lives in the environment of `make test-parity`; where that is not, the rows say so.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
PARITY = HERE.parents[1] / ".venv-parity"
DATA = HERE.parents[2] / "shared" / "data"
ROWS = {"nnunet_network": "s", "nnunet_rest": "s", "nnunet_peak_memory": "MiB"}
MIN_AGREEMENT = 0.999
"""The peer sums in half precision."""


def child(python: Path | str, script: str, case: Path, threads: int) -> dict[str, Any]:
    """Run `script`; return what it printed, and its ``peak_mib`` as the kernel has it."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(HERE.parent / "parity"), *_path()]),
        "nnUNet_def_n_proc": str(threads),  # nnU-Net resamples with a number of its own
        "OMP_WAIT_POLICY": "PASSIVE",  # what waits for the other's threads takes no core
    }
    with subprocess.Popen(
        [python, "-W", "ignore", HERE / script, case, str(threads)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        assert process.stdout is not None
        printed = process.stdout.read().splitlines()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{script} ended with {process.returncode}")
    return {**json.loads(printed[-1]), "peak_mib": usage.ru_maxrss / 1024}


def _path() -> list[str]:
    return [one for one in os.environ.get("PYTHONPATH", "").split(os.pathsep) if one]


def row(name: str, ours: float | None, peer: float | None, peer_name: str) -> str:
    """Return one row of bench.json, null where nothing was measured."""
    known = ours is not None and peer is not None
    return json.dumps(
        {
            "name": name,
            "ours": round(ours, 2) if known else None,
            "peer": round(peer, 2) if known else None,
            "peer_name": f"nnUNetPredictor, {peer_name}",
            "unit": ROWS[name],
            "ratio": round(peer / ours, 2) if known else None,
        }
    )


def missing() -> str:
    """Return why the peer cannot be run here, or nothing."""
    if not (PARITY / ".done").exists():
        return "not measured: it is not here; make .venv-parity/.done"
    return "" if DATA.is_dir() else f"not measured: no image to train on in {DATA.name}/"


def main() -> None:
    """Print the rows."""
    if why := missing():
        print(*(row(name, None, None, why) for name in ROWS), sep="\n")
        return
    threads = len(os.sched_getaffinity(0))
    python = PARITY / "bin" / "python"
    with tempfile.TemporaryDirectory() as name:
        case = Path(name)
        child(python, "nnunet_case.py", case, threads)
        ours = child(sys.executable, "nnunet_ours.py", case, threads)
        peer = child(python, "nnunet_peer.py", case, threads)
        labels = [np.load(case / f"{who}.npy") for who in ("ours", "peer")]
    agreement = float(np.mean(labels[0] == labels[1]))
    organs = np.unique(labels[1]).size - 1
    print(f"nnunet: {ours}, {peer}, {agreement:.5%} agree, {organs} organs", file=sys.stderr)
    if agreement < MIN_AGREEMENT or not organs:
        raise SystemExit(f"the label maps agree on {agreement:.4%} of the voxels only")
    what = f"{labels[1].shape} voxels, {threads} threads; {organs} organs, {agreement:.4%} agree"
    measured = {
        "nnunet_network": [one["network"] for one in (ours, peer)],
        "nnunet_rest": [one["all"] - one["network"] for one in (ours, peer)],
        "nnunet_peak_memory": [one["peak_mib"] for one in (ours, peer)],
    }
    print(*(row(name, *both, what) for name, both in measured.items()), sep="\n")


if __name__ == "__main__":
    main()
