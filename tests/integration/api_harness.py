"""A gRPC server over the real spool and job store, and a worker whose results are known."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from pydantic import SecretStr
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from viscera.api.by_uid import Archive
from viscera.api.grpc_server import GrpcServer
from viscera.api.v1.viscera_pb2_grpc import SegmentationServiceStub
from viscera.config import DicomSettings, GrpcSettings, JobSettings
from viscera.domain.jobs import Choice, Job, JobKind, PlannedJob
from viscera.domain.results import Decision, ResultFile, ResultKind, Verdict
from viscera.domain.sources import SourceFrame, Submission
from viscera.jobs.spool import Spool
from viscera.jobs.store import SqlJobStore
from viscera.metrics import Metrics
from viscera.receive import PacsArchive

CONTENTS = {
    ResultKind.SEG: b"a segmentation" * 100_000,
    ResultKind.SR: b"a report",
    ResultKind.VOLUMES: b'{"liver": 1500.0}',
    ResultKind.QC: b"a picture" * 9,
}
"""What every result holds; the SEG needs several chunks."""


def now() -> datetime:
    return datetime.now(UTC)


def write_series(folder: Path, count: int = 4, series_uid: str = "1.2.826.0.1") -> list[Path]:
    """Write CT slices with pydicom."""
    folder.mkdir(parents=True, exist_ok=True)
    return [_write_slice(folder / f"{n}.dcm", series_uid, n) for n in range(count)]


def _write_slice(path: Path, series_uid: str, number: int) -> Path:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = f"{series_uid}.{number + 1}"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset(path, {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.826", series_uid
    ds.Modality, ds.ImagePositionPatient = "CT", [0, 0, number]
    ds.PixelData = bytes(4096)
    ds["PixelData"].VR = "OW"
    ds.save_as(path, enforce_file_format=True)
    return path


@dataclass(kw_only=True)
class House:
    """What stands behind the door."""

    store: SqlJobStore
    spool: Spool
    results: Path

    def plan(self, jobs: int = 1) -> Submission | None:
        """Close one submission that is due: so many jobs, each over all its instances."""
        claimed = self.store.claim_submission("test")
        if claimed is None:
            return None
        claim, submission = claimed
        sops = sorted(path.name for path in submission.paths)
        planned = [
            PlannedJob(
                key=hashlib.sha256("".join([*sops, "+" * number]).encode()).hexdigest(),
                kind=JobKind.SEGMENT,
                stacks=(tuple(SourceFrame(f"1.2.{n}", 1) for n in range(len(sops))),),
                model="band/1",
            )
            for number in range(jobs)
        ]
        choice = Choice(what="segment", because="no rule", frames=len(sops), model="band/1")
        self.store.settle_submission(claim, (choice,), planned)
        return submission

    def refuse_plan(self, refusal: str) -> bool:
        """Close one submission that is due without a job."""
        claimed = self.store.claim_submission("test")
        if claimed is not None:
            self.store.settle_submission(claimed[0], (), (), refusal)
        return claimed is not None

    def run(self, decision: Decision = Decision.DELIVER) -> Job | None:
        """Work on one queued job to its end."""
        claimed = self.store.claim_job("test")
        if claimed is None:
            return None
        claim, job = claimed
        self.store.report(claim, "decode", 0.5)
        self.store.report(claim, "segment", 0.5, "onnx-cpu")
        files = [self._write(job, kind, data) for kind, data in CONTENTS.items()]
        self.store.finish_job(claim, files, Verdict(decision, ("for a test",)), ())
        return job

    def _write(self, job: Job, kind: ResultKind, data: bytes) -> ResultFile:
        path = Path(job.id) / kind.value
        (self.results / path).parent.mkdir(parents=True, exist_ok=True)
        (self.results / path).write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        return ResultFile(kind=kind, path=path, sha256=digest, size_bytes=len(data), sop_uid="1.2")

    @contextmanager
    def working(self) -> Iterator[None]:
        """Plan and run whatever comes, in the background."""
        stop = threading.Event()

        def work() -> None:
            while not stop.wait(0.01):
                self.plan()
                self.run()

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


@contextmanager
def a_house(folder: Path) -> Iterator[House]:
    """Build an empty spool, store and results folder."""
    store = SqlJobStore(
        f"sqlite:///{folder / 'jobs.db'}",
        clock=now,
        settings=JobSettings(url=SecretStr("sqlite://"), results=folder / "results"),
        close_after=lambda closing: closing.arrivals[0],
        spool_root=folder / "spool",
    )
    store.migrate()
    spool = Spool(folder / "spool", reserve_bytes=0, clock=now)
    try:
        yield House(store=store, spool=spool, results=folder / "results")
    finally:
        store.close()


@contextmanager
def serving(
    house: House,
    max_queued: int = 100,
    archive: Archive | None = None,
    metrics: Metrics | None = None,
    **settings: Any,
) -> Iterator[GrpcServer]:
    """Open the door on a free port."""
    server = GrpcServer(
        GrpcSettings(**{"port": 0, **settings}),
        store=house.store,
        spool=house.spool,
        list_models=lambda: (),
        results_root=house.results,
        max_queued=max_queued,
        archive=archive or PacsArchive(DicomSettings()),
        metrics=metrics,
        poll_s=0.02,
    )
    server.start()
    try:
        yield server
    finally:
        server.stop(grace_s=0.2)


@contextmanager
def stub(server: GrpcServer) -> Iterator[SegmentationServiceStub]:
    """Connect without TLS."""
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield SegmentationServiceStub(channel)


def refusal_of(ask: Callable[[], Any]) -> tuple[grpc.StatusCode, str, bool]:
    """Return code, ErrorInfo.reason and whether RetryInfo is there, of a call that must fail."""
    with pytest.raises(grpc.RpcError) as raised:
        _hear_out(ask())
    error = raised.value
    rich = rpc_status.from_call(error)
    assert rich is not None, f"no details: {error}"
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    assert any(detail.Unpack(info) for detail in rich.details)
    assert info.domain == "viscera"
    return error.code(), info.reason, any(detail.Unpack(retry) for detail in rich.details)


def _hear_out(answer: Any) -> None:
    if isinstance(answer, Iterator):
        list(answer)
