"""Several series become one job in the service: over gRPC, and from a PACS by a rule."""

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from api_harness import stub

from two_channels import Study, import_package, write_study
from viscera.api.client import requests, segment_files
from viscera.api.grpc_server import GrpcServer
from viscera.api.v1 import viscera_pb2 as pb
from viscera.cli import main
from viscera.config import DicomSettings, GrpcSettings, Settings, load_settings
from viscera.domain.jobs import Job
from viscera.domain.sources import Origin
from viscera.jobs.spool import Spool
from viscera.jobs.store import SqlJobStore
from viscera.jobs.worker import WorkerLoop
from viscera.metrics import Metrics
from viscera.pipeline import Pipeline
from viscera.receive import PacsArchive

RULES = """
[[series.rules]]
name = "both"
model = "two"
modality = ["CT"]
[[series.rules.channels]]
channel = "after"
description = "after"
[[series.rules.channels]]
channel = "before"
description = "before"
"""


def now() -> datetime:
    return datetime.now(UTC)


@dataclass(kw_only=True)
class Service:
    """Store, spool, pipeline and worker, driven step by step."""

    settings: Settings
    store: SqlJobStore
    spool: Spool
    pipeline: Pipeline
    loop: WorkerLoop

    def push(self, paths: Sequence[Path]) -> None:
        """A PACS sends a series, which is then quiet."""
        arrivals = [
            self.spool.put(origin=Origin.DICOM, principal="pacs", part10=path.read_bytes()).arrival
            for path in paths
        ]
        self.store.record_arrivals(arrivals)

    def choices(self, series_uid: str) -> list[tuple[str, str]]:
        """Of the newest version."""
        found = self.store.why(series_uid)[-1][1]
        return [(choice.what, choice.because) for choice in found]

    def run(self) -> dict[str, Any]:
        """Run the one job; return the organ of its volumes.json."""
        assert self.loop.run_one(threading.Event())
        (job,) = [one for one in self.store.list_jobs() if one.results]
        return self.organ(job)

    def organ(self, job: Job) -> dict[str, Any]:
        file = next(one for one in job.results if one.kind == "volumes")
        told = json.loads((self.settings.jobs.results / file.path).read_text())
        (organ,) = [one for one in told["organs"] if one["name"] == "brighter"]
        return dict(organ)


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    config = tmp_path / "viscera.toml"
    config.write_text(
        f'[models]\nrepo = "{tmp_path}/repo"\n[jobs]\nurl = "sqlite:///{tmp_path}/v.db"\n'
        f'results = "{tmp_path}/results"\npoll_s = 0.02\n{RULES}'
    )
    monkeypatch.setenv("VISCERA_MODELS__REPO", str(tmp_path / "repo"))
    import_package(tmp_path)
    settings = load_settings(config)
    store = SqlJobStore(
        settings.jobs.url.get_secret_value(),
        clock=now,
        settings=settings.jobs,
        close_after=lambda closing: closing.arrivals[0],
        spool_root=tmp_path / "spool",
    )
    store.migrate()
    with closing(store), closing(Pipeline(settings, Metrics())) as pipeline:
        loop = WorkerLoop(
            store,
            settings.jobs,
            plan=lambda submission: pipeline.plan(submission, store.beside),
            run=pipeline.run,
            addresses=lambda job, outcome: (),
        )
        try:
            yield Service(
                settings=settings,
                store=store,
                spool=Spool(tmp_path / "spool", reserve_bytes=0, clock=now),
                pipeline=pipeline,
                loop=loop,
            )
        finally:
            loop._heartbeat.close()


def test_a_job_waits_for_the_last_of_its_channels(
    service: Service, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = write_study(tmp_path / "study")
    first = study.series_uids["after"]
    service.push(study.series["after"])
    assert service.loop.plan_one()
    ((what, because),) = service.choices(first)
    assert what == "wait"
    assert because.startswith("rule both matches")
    assert because.endswith("; waits for channel before")
    assert service.store.list_jobs() == ()
    assert main(["--config", str(tmp_path / "viscera.toml"), "why", first]) == 0
    assert "waits for channel before" in capsys.readouterr().out

    service.push(study.series["before"])
    assert service.loop.plan_one()
    assert not service.loop.plan_one()
    (job,) = service.store.list_jobs()
    assert [len(stack) for stack in job.stacks] == [len(study.series["before"])] * 2
    assert service.run()["voxels"] == study.brighter
    assert service.choices(first) == [
        ("segment", f"a channel of job {job.id}, with series {study.series_uids['before']}")
    ]
    # Sent once more, whichever it is: the same answer.
    service.push(study.series["after"])
    assert service.loop.plan_one()
    assert [one.id for one in service.store.list_jobs()] == [job.id]
    assert service.choices(first)[0][0] == "segment"
    # What both series' job needs stays as long as the job is young.
    assert service.store.expired_submissions(1.0) == ()
    assert len(service.store.job_paths(job.id)) == 2 * len(study.series["before"])


def test_two_series_that_close_at_once_become_one_job(service: Service, tmp_path: Path) -> None:
    study = write_study(tmp_path / "study")
    for paths in study.series.values():
        service.push(paths)
    claimed = [service.store.claim_submission(name) for name in ("one", "other")]
    settled = []
    for found in claimed:  # each plans before the other has settled
        assert found is not None
        plan = service.pipeline.plan(found[1], service.store.beside)
        assert [choice.what for choice in plan.choices] == ["wait"]
        settled.append((*found, plan))
    again = []
    for claim, submission, plan in settled:
        service.store.settle_submission(claim, plan.choices, plan.jobs, plan.refusal)
        again.append(service.store.look_again(submission.id, plan.looked_at))
    assert again == [False, True]
    assert service.loop.plan_one()
    (job,) = service.store.list_jobs()
    assert len(job.stacks) == 2


@pytest.mark.parametrize(
    ("differing", "says"),
    [
        ({"FrameOfReferenceUID": "1.2.826.9"}, "two frames of reference"),
        ({"PixelSpacing": [5.0, 5.0]}, "other grids"),
        ({"StudyInstanceUID": "1.2.826.99"}, "waits for channel"),
        ({"SeriesDescription": "unknown"}, "none of the 1 rules matches"),
        ({"SeriesDescription": "before, again"}, "waits for channel after"),
    ],
)
def test_what_does_not_fit_is_told(
    differing: dict[str, Any], says: str, service: Service, tmp_path: Path
) -> None:
    study = write_study(tmp_path / "study", **differing)
    for name in ("before", "after"):
        service.push(study.series[name])
        assert service.loop.plan_one()
    ((what, because),) = service.choices(study.series_uids["after"])
    assert what == ("wait" if "waits" in says else "refuse")
    assert says in because
    assert service.store.list_jobs() == ()


def upload(study: Study, service: Service, **channels: str) -> list[pb.SegmentSeriesResponse]:
    stop = threading.Event()
    worker = threading.Thread(target=service.loop.run, args=(stop,))
    worker.start()
    paths = [path for name in ("after", "before") for path in study.series[name]]
    try:
        with serving(service) as server, grpc.insecure_channel(f"127.0.0.1:{server.port}") as line:
            return list(segment_files(line, paths, "two", channels=channels))
    finally:
        stop.set()
        worker.join()


class serving:  # noqa: N801 - a context
    def __init__(self, service: Service) -> None:
        self._server = GrpcServer(
            GrpcSettings(port=0),
            store=service.store,
            spool=service.spool,
            list_models=lambda: (service.pipeline.serve("two")[0],),
            results_root=service.settings.jobs.results,
            max_queued=10,
            archive=PacsArchive(DicomSettings()),
            poll_s=0.02,
        )

    def __enter__(self) -> GrpcServer:
        self._server.start()
        return self._server

    def __exit__(self, *_: object) -> None:
        self._server.stop(grace_s=0.2)


def test_a_client_says_which_series_is_which_channel(service: Service, tmp_path: Path) -> None:
    study = write_study(tmp_path / "study")
    answers = upload(study, service, **study.series_uids)
    assert answers[-1].WhichOneof("part") == "finished"
    finished = service.store.get_job(answers[-1].finished.id)
    assert service.organ(finished)["voxels"] == study.brighter
    assert finished.series_uid == study.series_uids["before"]
    (choice,) = next(one for one in answers if one.HasField("planned")).planned.choices
    assert "a series for each channel: before, after" in choice.because
    swapped = dict(zip(study.series_uids, reversed(study.series_uids.values()), strict=True))
    other = service.store.get_job(upload(study, service, **swapped)[-1].finished.id)
    assert other.key != finished.key
    assert service.organ(other)["voxels"] != study.brighter


def test_channels_that_make_no_sense_are_refused(service: Service, tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", FrameOfReferenceUID="1.2.826.9")
    uids = study.series_uids
    bad = {
        "is of series": {"before": uids["before"]},
        "no instance came of series": {**uids, "more": "1.2.3"},
        "name one twice": {"before": uids["after"], "after": uids["after"]},
        "has a name and a series UID": {**uids, "more": "x"},
        "name each of them once": {"x": uids["before"], "after": uids["after"]},
        "two frames of reference": uids,
    }
    for says, channels in bad.items():
        with pytest.raises(grpc.RpcError, match=says):
            upload(study, service, **channels)
    with serving(service) as server, stub(server) as api:
        messages = list(requests(study.series["before"], "", uids))
        with pytest.raises(grpc.RpcError, match="name the model"):
            list(api.SegmentSeries(iter(messages)))
    assert service.store.list_jobs() == ()
