"""SIGKILL of the deliverer at random times: everything arrives, and every time the same bytes."""

import random
import subprocess
import sys
import time as clock
from collections import defaultdict
from pathlib import Path

import pytest
from pydicom.filebase import DicomBytesIO
from pynetdicom import AE, evt
from pynetdicom.sop_class import ComprehensiveSRStorage, SegmentationStorage

import peers
import small_deliverer
import store_rows as rows
from sendable import committed_job
from store_rows import PACS
from viscera.domain.jobs import DeliveryState


@pytest.mark.kill
def test_killed_deliverers_lose_nothing(tmp_path: Path) -> None:
    url, root = f"sqlite:///{tmp_path}/viscera.db", tmp_path / "results"
    store = rows.open_store(url, tmp_path, closing=lambda closing: closing.arrivals[0])
    store.migrate()
    jobs = [committed_job(store, root, PACS, number=n) for n in range(12)]
    received: dict[str, set[bytes]] = defaultdict(set)
    times: list[str] = []

    def take(event: evt.Event) -> int:
        clock.sleep(0.1)
        uid = str(event.request.AffectedSOPInstanceUID)
        data: DicomBytesIO = event.request.DataSet
        received[uid].add(data.getvalue())
        times.append(uid)
        clock.sleep(0.1)  # it has the object, the deliverer does not know yet
        return 0x0000

    ae = AE()
    for sop_class in (SegmentationStorage, ComprehensiveSRStorage):
        ae.add_supported_context(sop_class)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, take)])
    command = [sys.executable, small_deliverer.__file__, url, str(root),
               str(server.server_address[1])]  # fmt: skip
    chance = random.Random(5)

    def all_ended() -> bool:
        states = {d.state for job in jobs for d in store.deliveries(job.id)}
        return states == {DeliveryState.DELIVERED}

    try:
        for _ in range(6):
            victim = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
            assert victim.stderr is not None
            if not all_ended():
                victim.stderr.readline()  # it has claimed something
            clock.sleep(chance.uniform(0.0, 0.6))
            victim.kill()
            victim.wait()
            victim.stderr.close()
        last = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        peers.wait_for(all_ended, 60, "the end of all deliveries")
        last.kill()
        last.wait()
    finally:
        server.shutdown()
        store.close()
    expected = {f.sop_uid for job in jobs for f in job.results if f.sop_uid}
    assert set(received) == expected
    assert all(len(bytes_seen) == 1 for bytes_seen in received.values())
    assert len(times) > len(expected), "no kill hit a send: the test shows nothing"
