"""A deliverer process: `python small_deliverer.py URL RESULTS PORT [COMMITMENT]`."""

import sys
import threading
from pathlib import Path

import store_rows as rows
from viscera import log
from viscera.config import DeliverSettings, Destination, LogSettings
from viscera.deliver import DeliverLoop
from viscera.jobs.owners import this_process
from viscera.jobs.reports import ReportFiles
from viscera.metrics import Metrics


def main() -> None:
    url, results, port, *commitment = sys.argv[1:]
    log.configure(LogSettings(), "deliver")
    pacs = Destination(
        name="pacs",
        kind="dicom",
        host="127.0.0.1",
        port=int(port),
        commitment=commitment[0] if commitment else "off",  # type: ignore[arg-type]
        commitment_timeout_s=1.0,
    )
    loop = DeliverLoop(
        rows.open_store(url, Path(results), lease_s=600),
        DeliverSettings(destinations=(pacs,), backoff_s=0.1),
        Path(results),
        transactions=ReportFiles(Path(results).parent),
        metrics=Metrics(),
        clock=rows.now,
        owner=this_process("deliver"),
        lease_s=600,
    )
    loop.run(threading.Event())


if __name__ == "__main__":
    main()
