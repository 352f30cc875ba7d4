"""The demonstration: starts Viscera, pushes a phantom series over DICOM, shows what comes back.

``make demo`` runs it. Everything it writes is in ``demo-out/``; nothing listens beyond loopback.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from pydicom import dcmread
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage
from tqdm import tqdm

from viscera.phantom import Phantom, make_phantom, write_series

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 240  # the first start compiles the kernels
RESULT_TIMEOUT_S = 240

SETTINGS = """\
# Written by the demonstration.
[dicom]
host = "127.0.0.1"
port = 0
[[dicom.peers]]
name = "demo-pacs"
ae_title = "DEMO_PACS"
networks = ["127.0.0.0/8"]
[series]
quiet_s = 4.0
[spool]
folder = "{state}/spool"
[models]
repo = "{models}"
[jobs]
url = "sqlite:///{state}/viscera.db"
results = "{state}/results"
poll_s = 0.1
[engine]
numba_cache = "{cache}"
[[deliver.destinations]]
name = "demo-out"
kind = "folder"
folder = "{out}"
allow_unvalidated = true
[grpc]
port = 0
[http]
port = 0
"""


def main() -> int:
    """Run the demonstration; return 0 if all came back."""
    options = _options()
    out: Path = options.out.resolve()
    shutil.rmtree(out, ignore_errors=True)
    state = out / "state"
    state.mkdir(parents=True)

    print("1. Making a phantom torso with 15 organs of known volume ...")
    phantom = make_phantom(options.seed)
    paths = write_series(phantom, out / "phantom-series")

    print("2. Starting the service (viscera serve) ...")
    config = state / "viscera.toml"
    config.write_text(
        SETTINGS.format(
            state=state, out=out / "result", models=ROOT / "model_repo", cache=ROOT / ".cache/numba"
        )
    )
    with serving(config, state / "log.jsonl") as ports:
        print(f"3. Pushing {len(paths)} slices by C-STORE to port {ports['dicom_port']} ...")
        push(paths, ports["dicom_port"])
        print("4. Waiting: the series closes after a quiet moment, then it is segmented ...")
        volumes = wait_for_result(out / "result")
    for path in volumes.parent.iterdir():
        shutil.move(path, out / path.name)
    shutil.rmtree(out / "result")
    print_table(json.loads((out / "volumes.json").read_text()), phantom)
    print(f"\nIn {os.path.relpath(out)}/:")
    for path in sorted(p for p in out.iterdir() if p.is_file()):
        print(f"  {path.name}")
    print("The network has seen phantoms and one person. NOT FOR CLINICAL USE.")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("demo-out"), help="folder (is emptied)")
    parser.add_argument("--seed", type=int, default=7, help="which body")
    return parser.parse_args()


@contextlib.contextmanager
def serving(config: Path, log: Path) -> Iterator[dict[str, int]]:
    """Run `viscera serve`; yield its ports; stop it as an operator would."""
    command = [sys.executable, "-m", "viscera", "--config", str(config), "serve"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    ports: dict[str, int] = {}
    ready = threading.Event()

    def follow() -> None:
        assert process.stderr is not None
        with log.open("w") as copy:
            for line in process.stderr:
                copy.write(line)
                if '"serve_ready"' in line:
                    ports.update(json.loads(line))
                    ready.set()
        ready.set()

    threading.Thread(target=follow, daemon=True).start()
    try:
        if not ready.wait(START_TIMEOUT_S) or not ports:
            raise SystemExit(f"the service did not start; see {log}")
        yield ports
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def push(paths: tuple[Path, ...], port: int) -> None:
    """Send the series as a PACS would."""
    ae = AE("DEMO_PACS")
    ae.add_requested_context(CTImageStorage)
    association = ae.associate("127.0.0.1", port, ae_title="VISCERA")
    if not association.is_established:
        raise SystemExit("the service refused the association")
    for path in tqdm(paths, unit="slice", file=sys.stdout):
        status = association.send_c_store(dcmread(path))
        if status.Status != 0x0000:
            raise SystemExit(f"C-STORE answered {status.Status:#06x}")
    association.release()


def wait_for_result(folder: Path) -> Path:
    """Return the path of volumes.json once the whole result is there."""
    deadline = time.monotonic() + RESULT_TIMEOUT_S
    while time.monotonic() < deadline:
        found = list(folder.rglob("volumes.json")) if folder.is_dir() else []
        if found and len(list(found[0].parent.glob("*.dcm"))) >= 2:
            time.sleep(1)  # the picture may be the last to arrive
            return found[0]
        time.sleep(0.2)
    raise SystemExit("no result came back; see demo-out/state/log.jsonl")


def print_table(volumes: dict, phantom: Phantom) -> None:
    """Print each organ with its true and its measured volume."""
    print(f"\n{'organ':<22}{'true mL':>9}{'measured mL':>13}   presence")
    for organ in volumes["organs"]:
        true_ml = phantom.true_ml[organ["name"]]
        print(
            f"{organ['title']:<22}{true_ml:>9.1f}{organ['volume_ml']:>13.1f}   {organ['presence']}"
        )
    verdict = volumes["verdict"]
    print(f"verdict: {verdict['decision']}", *verdict["reasons"], sep="\n  ")


if __name__ == "__main__":
    raise SystemExit(main())
