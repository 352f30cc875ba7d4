"""Time durable C-STORE beside Orthanc with SyncStorageArea; one JSON row a line.

300 CT images of 512 x 512 go over one association, then over four and eight, from dcmtk's storescu
with TCP_NODELAY=1 at every end; ours is `viscera receive` with as many processes as it takes by
itself, which fsync file and folder before they answer. Rounds alternate and the best of each
counts: other load only ever slows.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))
import peers
import synthetic

IMAGES = 300
ROUNDS = 3


def make_series(folder: Path, seed: int) -> list[Path]:
    """Write one series of new UIDs: a receiver that knows an image already stores nothing."""
    noise = np.random.default_rng(seed).integers(0, 4096, (IMAGES, 512, 512), dtype=np.uint16)
    return synthetic.write_series(synthetic.Slices(stored=noise), folder)


def send(port: int, called: str, parts: Sequence[Sequence[Path]]) -> float:
    """Return the seconds until every sender of `parts` has all its answers."""
    program = peers.need("/usr/bin/storescu")
    commands = [
        [program, "-aet", "PACS", "-aec", called, "127.0.0.1", str(port), *map(str, part)]
        for part in parts
    ]
    start = time.perf_counter()
    senders = [
        subprocess.Popen(command, env=peers.ENVIRONMENT, stderr=subprocess.DEVNULL)
        for command in commands
    ]
    if any(sender.wait() for sender in senders):
        raise SystemExit("a sender failed")
    return time.perf_counter() - start


def cpu_s(pid: int) -> float:
    """Return user and system seconds of a process and its children so far."""
    process = psutil.Process(pid)
    times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def rows(folder: Path, ours: peers.Service, orthanc: peers.Orthanc, associations: int):
    """Yield images/s and CPU seconds per 1000 images, ours beside Orthanc's."""
    rates: dict[str, list[float]] = {"ours": [], "peer": []}
    costs: dict[str, list[float]] = {"ours": [], "peer": []}
    ends = {
        "ours": (ours.ports["dicom_port"], "VISCERA", ours.process.pid),
        "peer": (orthanc.dicom_port, orthanc.ae_title, orthanc.process.pid),
    }
    for turn in range(ROUNDS):
        for who, (port, called, pid) in ends.items():
            paths = make_series(folder / "in", seed=1000 * associations + turn)
            before = cpu_s(pid)
            took_s = send(port, called, [paths[k::associations] for k in range(associations)])
            rates[who].append(IMAGES / took_s)
            costs[who].append((cpu_s(pid) - before) * 1000 / IMAGES)
    name = f"receive_{associations}"
    mine, theirs = max(rates["ours"]), max(rates["peer"])
    yield row(name, mine, theirs, "images/s", mine / theirs)
    mine, theirs = min(costs["ours"]), min(costs["peer"])
    yield row(f"{name}_cpu", mine, theirs, "CPU s per 1000 images", theirs / mine)


def row(name: str, ours: float, peer: float, unit: str, ratio: float) -> dict[str, object]:
    """Return one row; a ratio above 1 is in our favour."""
    return {
        "name": name, "ours": round(ours, 2), "peer": round(peer, 2),
        "peer_name": "Orthanc, SyncStorageArea", "unit": unit, "ratio": round(ratio, 3),
    }  # fmt: skip


def main() -> None:
    """Print the rows."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = peers.write_config(folder, model_repo=folder, model="none", quiet_s=600.0)
        with (
            peers.orthanc(folder / "orthanc") as orthanc,
            peers.service(config, "receive", folder=folder) as ours,
        ):
            for associations in (1, 4, 8):
                for one in rows(folder, ours, orthanc, associations):
                    print(json.dumps(one), flush=True)


if __name__ == "__main__":
    main()
