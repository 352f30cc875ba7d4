"""Time durable C-STORE beside Orthanc with SyncStorageArea; one JSON row a line.

300 CT images of 512 x 512 go over one association, then over four and eight, from dcmtk's storescu
with TCP_NODELAY=1 at every end; ours is `viscera receive` with as many processes as it takes by
itself, which fsync file and folder before they answer. Then the same beside one process of ours:
the CPU seconds of an image say what a process can take, and whether several cost each other
anything (docs/throughput.md). Rounds alternate and the best of each counts: other load only slows.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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


@dataclass(frozen=True)
class End:
    """A receiver."""

    name: str
    port: int
    called: str
    pid: int


def rows(
    folder: Path, ours: End, peer: End, associations: int, name: str
) -> Iterator[dict[str, object]]:
    """Yield images/s and CPU seconds per 1000 images, ours beside the peer's."""
    rates: dict[End, list[float]] = {ours: [], peer: []}
    costs: dict[End, list[float]] = {ours: [], peer: []}
    for turn in range(ROUNDS):
        for end in (ours, peer):
            paths = make_series(folder / "in", seed=1000 * associations + turn)
            before = cpu_s(end.pid)
            parts = [paths[k::associations] for k in range(associations)]
            rates[end].append(IMAGES / send(end.port, end.called, parts))
            costs[end].append((cpu_s(end.pid) - before) * 1000 / IMAGES)
    mine, theirs = max(rates[ours]), max(rates[peer])
    yield row(name, mine, theirs, peer, "images/s", mine / theirs)
    mine, theirs = min(costs[ours]), min(costs[peer])
    yield row(f"{name}_cpu", mine, theirs, peer, "CPU s per 1000 images", theirs / mine)


def row(
    name: str, ours: float, theirs: float, peer: End, unit: str, ratio: float
) -> dict[str, object]:
    """Return one row; a ratio above 1 is in our favour."""
    return {
        "name": name, "ours": round(ours, 2), "peer": round(theirs, 2),
        "peer_name": peer.name, "unit": unit, "ratio": round(ratio, 3),
    }  # fmt: skip


@contextmanager
def receiving(folder: Path, processes: int) -> Iterator[End]:
    """Run `viscera receive`; 0 processes: as many as it takes by itself."""
    folder.mkdir()
    config = peers.write_config(folder, model_repo=folder, model="none", quiet_s=600.0)
    text = config.read_text().replace("[dicom]\n", f"[dicom]\nprocesses = {processes}\n")
    config.write_text(text)
    ready = "role_ready" if processes == 1 else "serve_ready"
    with peers.service(config, "receive", folder=folder, ready=ready) as ours:
        port = ours.ports["dicom_port"]
        yield End(f"viscera, {processes or 'all'} processes", port, "VISCERA", ours.process.pid)


def show(found: Iterator[dict[str, object]]) -> None:
    """Print rows as they come."""
    for one in found:
        print(json.dumps(one), flush=True)


def main() -> None:
    """Print the rows."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with receiving(folder / "all", 0) as ours:
            with peers.orthanc(folder / "orthanc") as pacs:
                assert pacs.process is not None
                name = "Orthanc, SyncStorageArea"
                orthanc = End(name, pacs.dicom_port, pacs.ae_title, pacs.process.pid)
                for associations in (1, 4, 8):
                    show(rows(folder, ours, orthanc, associations, f"receive_{associations}"))
            with receiving(folder / "one", 1) as alone:
                show(rows(folder, ours, alone, 4, "receive_4_beside_one_process"))


if __name__ == "__main__":
    main()
