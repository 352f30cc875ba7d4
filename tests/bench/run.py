"""Run every benchmark, show the rows as a table, and write them to bench.json.

Each row is ours beside a peer in the same run; a ratio above 1 is in our favour. Absolute numbers
belong to this machine, and to what else it was doing.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from viscera.errors import DeviceUnavailable
from viscera.segment.driver import probe_gpu

HERE = Path(__file__).parent
BENCHES = (
    "bench_receive.py",
    "bench_restore.py",
    "bench_seg.py",
    "bench_segment.py",
    "bench_nnunet.py",
)
GPU_ROWS = {
    "gpu_amos_volume_to_labels": "s",
    "gpu_cube_volume_to_labels": "s",
    "gpu_peak_memory": "MiB",
    "gpu_labels_as_on_cpu": "share",
}
"""What only `make bench-gpu` measures, in a file of its own."""

COLUMNS = ("ours", "peer", "ratio")
"""null where a peer is not installed: its name then says how to have it."""


def main() -> int:
    """Return 0 if every benchmark ran."""
    found, failed = [], []
    for bench in tqdm(BENCHES, unit="bench"):
        run = subprocess.run(
            [sys.executable, HERE / bench], stdout=subprocess.PIPE, text=True, check=False
        )
        lines = [line for line in run.stdout.splitlines() if line.startswith("{")]
        found += [json.loads(line) for line in lines]
        if run.returncode:
            failed.append(bench)
    found += list(_unmeasured())
    Path("bench.json").write_text(json.dumps(found, indent=1) + "\n")
    print(f"{'name':<27}{'ours':>10}{'peer':>10}{'ratio':>8}  unit, peer")
    for row in found:
        ours, peer, ratio = ("-" if row[key] is None else row[key] for key in COLUMNS)
        print(f"{row['name']:<27}{ours:>10}{peer:>10}{ratio:>8}  {row['unit']}, {row['peer_name']}")
    for bench in failed:
        print(f"FAILED: {bench}", file=sys.stderr)
    return len(failed)


def _unmeasured() -> Iterator[dict[str, str | None]]:
    try:
        probe_gpu()
        why = "NOT MEASURED: make bench-gpu"
    except DeviceUnavailable:
        why = "NOT MEASURED: no GPU here; make bench-gpu where there is one"
    for name, unit in GPU_ROWS.items():
        yield {"name": name, **dict.fromkeys(COLUMNS), "unit": unit, "peer_name": why}


if __name__ == "__main__":
    raise SystemExit(main())
