"""What every job store must do; on SQLite, and on PostgreSQL where TEST_POSTGRES_URL names one."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

import store_rows as rows
from store_rows import QUIET_S, Time, arrival, finish, open_store, plan, submit
from viscera.domain.jobs import Address, Choice, Claim, DeliveryState, JobKind, JobState
from viscera.domain.results import Decision, ResultKind, Verdict
from viscera.domain.sources import SubmissionState
from viscera.errors import IncompleteSeries, InvalidRequest, JobNotFound, LeaseLost
from viscera.jobs import listening
from viscera.jobs.owners import this_process
from viscera.jobs.store import SqlJobStore

_POSTGRES = os.environ.get("TEST_POSTGRES_URL", "")


@pytest.fixture(params=["sqlite", *(["postgresql"] if _POSTGRES else [])])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/viscera.db"
    engine = sa.create_engine(_POSTGRES)
    with engine.begin() as connection:
        connection.execute(sa.text("DROP SCHEMA public CASCADE"))
        connection.execute(sa.text("CREATE SCHEMA public"))
    engine.dispose()
    return _POSTGRES


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def store(url: str, time: Time, tmp_path: Path) -> Iterator[SqlJobStore]:
    opened = open_store(url, tmp_path, time)
    opened.migrate()
    yield opened
    opened.close()


# --- arrivals and closing


def test_a_series_closes_after_the_peer_was_quiet(store: SqlJobStore, time: Time) -> None:
    store.record_arrivals([arrival(n, time.wall) for n in range(3)])
    time.pass_by(QUIET_S - 1)
    assert store.claim_submission("a") is None
    store.record_arrivals([arrival(3, time.wall)])
    time.pass_by(QUIET_S - 1)
    assert store.claim_submission("a") is None
    time.pass_by(2)
    claimed = store.claim_submission("a")
    assert claimed is not None
    assert len(claimed[1].paths) == 4
    assert claimed[1].version == 1


def test_another_series_of_the_peer_keeps_it_open(store: SqlJobStore, time: Time) -> None:
    store.record_arrivals([arrival(0, time.wall)])
    time.pass_by(QUIET_S - 1)
    store.record_arrivals([arrival(0, time.wall, series="1.2.840.2")])
    store.record_arrivals([arrival(0, time.wall, principal="elsewhere", series="1.2.840.3")])
    time.pass_by(2)
    assert store.claim_submission("a") is None
    time.pass_by(QUIET_S)
    seen = [store.claim_submission("a") for _ in range(3)]
    assert {s[1].series_uid for s in seen if s} == {"1.2.840.1", "1.2.840.2", "1.2.840.3"}


def test_the_expected_count_closes_at_once(store: SqlJobStore, time: Time) -> None:
    store.record_arrivals([arrival(n, time.wall, expected=3) for n in range(2)])
    assert store.claim_submission("a") is None
    store.record_arrivals([arrival(2, time.wall, expected=3)])
    assert store.claim_submission("a") is not None


def test_the_same_path_again_is_nothing(store: SqlJobStore, time: Time) -> None:
    submit(store, time, "k")
    store.record_arrivals([arrival(n, time.wall) for n in range(3)] * 2)
    time.pass_by(10 * QUIET_S)
    assert store.claim_submission("a") is None
    assert len(store.known_paths()) == 3


def test_a_refused_series_that_is_sent_again_is_planned_again(
    store: SqlJobStore, time: Time
) -> None:
    same = [arrival(n, time.wall) for n in range(3)]
    store.record_arrivals(same)
    time.pass_by(QUIET_S + 1)
    claim, _ = _must(store.claim_submission("a"))
    store.settle_submission(claim, (), [], "NoModelForSeries: add a rule")
    store.record_arrivals(same[:1])
    time.pass_by(QUIET_S - 1)
    store.record_arrivals(same[1:])  # one version, however many batches it comes in
    time.pass_by(QUIET_S + 1)
    claim, again = _must(store.claim_submission("a"))
    assert (again.version, len(again.paths)) == (2, 3)
    job = store.settle_submission(claim, (), [plan("k")])[0]
    assert job.state is JobState.QUEUED
    store.record_arrivals(same)
    time.pass_by(QUIET_S + 1)
    assert store.claim_submission("a") is None
    assert len(store.known_paths()) == 3


@pytest.mark.parametrize("end", ["refused", "cancelled"])
def test_a_series_whose_job_ended_badly_is_tried_again_when_it_is_sent_again(
    store: SqlJobStore, time: Time, end: str
) -> None:
    first = submit(store, time, "k")[0]
    if end == "refused":
        store.refuse_job(_must(store.claim_job("w"))[0], "UndecodablePixels", "cut off")
    else:
        store.cancel(first.id)
    second = submit(store, time, "k")[0]
    assert second.id != first.id
    assert (second.state, second.submission_version) == (JobState.QUEUED, 2)
    claimed = _must(store.claim_job("w"))[1]
    assert len(store.get_submission(claimed.submission_id).paths) == 3
    assert [s.version for s, _, _ in store.why("1.2.840.1")] == [1, 2]


def test_an_expired_series_that_is_sent_again_has_its_result_delivered_again(
    store: SqlJobStore, time: Time
) -> None:
    first = submit(store, time, "k")[0]
    finish(store)
    time.pass_by(5)
    took = [store.delivered(_must(store.claim_delivery("d"))[0]) for _ in range(2)]
    assert took == [None, 5.0]
    # While the instances are here, the same ones again are nothing.
    store.record_arrivals([arrival(n, time.wall) for n in range(3)])
    time.pass_by(8 * 86400)
    assert store.claim_submission("a") is None
    assert store.claim_delivery("d") is None
    for submission_id, _ in store.expired_submissions(7):
        store.forget_instances(submission_id)
    assert submit(store, time, "k")[0].id == first.id
    time.pass_by(5)
    claim, delivery = _must(store.claim_delivery("d"))
    assert delivery.file.kind is ResultKind.SEG
    assert store.delivered(claim) is None
    assert store.delivered(_must(store.claim_delivery("d"))[0]) == 5.0
    # A late instance that changes nothing sends nothing again.
    submit(store, time, "k", first=3, count=1)
    assert store.claim_delivery("d") is None


def test_closing_is_told_of_associations_and_positions(
    url: str, time: Time, tmp_path: Path
) -> None:
    told = []

    def keep(closing):
        told.append(closing)
        return time.wall + timedelta(days=1)

    store = open_store(url, tmp_path, time, closing=keep)
    store.migrate()
    store.record_arrivals([arrival(n, time.wall) for n in range(100)])
    store.note_associations("pacs", 4)
    store.note_associations("other", 0)
    assert store.claim_submission("a") is None
    assert [c.peer_associations_open for c in told] == [0]
    store.record_arrivals([arrival(100, time.wall)])
    store.note_associations("pacs", 0)
    assert store.claim_submission("a") is None
    assert [c.peer_associations_open for c in told] == [0, 4, 0]
    store.close()
    assert told[-1].instances == len(told[-1].positions_lps) == 101
    assert len(told[-1].arrivals) == 64


def test_a_late_instance_opens_a_version_that_holds_all(store: SqlJobStore, time: Time) -> None:
    submit(store, time, "k1")
    store.record_arrivals([arrival(7, time.wall)])
    time.pass_by(QUIET_S + 1)
    claimed = store.claim_submission("a")
    assert claimed is not None
    assert claimed[1].version == 2
    assert [path.name for path in claimed[1].paths] == ["0.dcm", "1.dcm", "2.dcm", "7.dcm"]
    assert all(path.is_absolute() for path in claimed[1].paths)


def test_what_comes_while_it_is_planned_is_the_next_version(store: SqlJobStore, time: Time) -> None:
    store.record_arrivals([arrival(0, time.wall)])
    time.pass_by(QUIET_S + 1)
    claimed = store.claim_submission("a")
    assert claimed is not None
    store.record_arrivals([arrival(1, time.wall)])
    assert len(store.get_submission(claimed[1].id).paths) == 1
    store.settle_submission(claimed[0], (), [plan("k")])
    assert len(store.get_submission(claimed[1].id).paths) == 1
    time.pass_by(QUIET_S + 1)
    following = store.claim_submission("a")
    assert following is not None
    assert (following[1].version, len(following[1].paths)) == (2, 2)


def test_a_planner_that_died_costs_no_instance(store: SqlJobStore, time: Time) -> None:
    store.record_arrivals([arrival(0, time.wall)])
    time.pass_by(QUIET_S + 1)
    first = store.claim_submission("a")
    store.record_arrivals([arrival(1, time.wall)])
    time.pass_by(QUIET_S + 31)
    second = store.claim_submission("b")
    assert first is not None
    assert second is not None
    assert (second[1].version, len(second[1].paths)) == (1, 2)
    with pytest.raises(LeaseLost):
        store.settle_submission(first[0], (), [plan("k")])
    assert store.list_jobs() == ()


def test_a_released_submission_waits_and_one_that_breaks_planners_is_refused(
    store: SqlJobStore, time: Time
) -> None:
    store.record_arrivals([arrival(0, time.wall)])
    time.pass_by(QUIET_S + 1)
    for _ in range(5):  # transient: as often as it takes
        claim, submission = _must(store.claim_submission("a"))
        store.release_submission(claim)
        assert store.claim_submission("a") is None
        time.pass_by(300)
    for _ in range(3):
        claim, _submission = _must(store.claim_submission("a"))
        store.release_submission(claim, counted=True)
        time.pass_by(300)
    assert store.claim_submission("a") is None
    assert store.get_submission(submission.id).state is SubmissionState.REFUSED
    assert [refusal.split(":")[0] for _, _, refusal in store.why("1.2.840.1")] == ["Poison"]


def test_a_release_brings_the_closing_forward(url: str, time: Time, tmp_path: Path) -> None:
    def shorter(closing):
        quiet_s = 30 if closing.peer_associations_open else 10
        return closing.peer_last_arrival + timedelta(seconds=quiet_s)

    store = open_store(url, tmp_path, time, closing=shorter)
    store.migrate()
    store.note_associations("pacs", 1)
    store.record_arrivals([arrival(0, time.wall)])
    time.pass_by(5)
    store.note_associations("pacs", 0)
    assert store.claim_submission("a") is None
    time.pass_by(6)
    assert store.claim_submission("a") is not None
    store.close()


def test_a_peer_has_associations_open_with_several_listeners(
    url: str, time: Time, tmp_path: Path
) -> None:
    told = []

    def keep(closing):
        told.append(closing.peer_associations_open)
        return closing.peer_last_arrival + timedelta(days=1)

    def told_after(*notes) -> int:
        for note in notes:
            store.note_associations("pacs", *note)
        store.record_arrivals([arrival(len(told), time.wall)])
        return told[-1]

    boot, namespace = this_process("receive").split("/")[1:3]
    dead = f"receive/{boot}/{namespace}/{2**22 + 1}/1"
    store = open_store(url, tmp_path, time, closing=keep)
    store.migrate()
    assert told_after((2, "a"), (1, this_process("receive"))) == 3
    assert told_after((0, "a")) == 1
    assert told_after((5, dead)) == 1  # its host can see that it ended
    assert told_after((0, this_process("receive")), (3, "another host's")) == 3
    time.pass_by(listening.NOTED_FOR_S + 1)
    assert told_after() == 0  # and nobody told it again
    store.close()


# --- uploads


def test_uploads_are_never_merged(store: SqlJobStore, time: Time) -> None:
    for upload in ("u1", "u2"):
        store.open_upload(upload, "client", "band/1")
        store.open_upload(upload, "client", "band/1")
        store.record_arrivals(
            [arrival(n, time.wall, upload=upload, principal="client") for n in range(2)]
        )
    time.pass_by(10 * QUIET_S)
    assert store.claim_submission("a") is None
    store.close_upload("u2")
    claim, submission = _must(store.claim_submission("a"))
    assert (submission.id, submission.model, len(submission.paths)) == ("u2", "band/1", 2)
    assert (submission.series_uid, submission.version) == ("1.2.840.1", 1)
    assert store.settle_submission(claim, (), [], "IncompleteSeries: too few") == ()
    assert store.claim_submission("a") is None
    with pytest.raises(JobNotFound):
        store.close_upload("u3")
    with pytest.raises(InvalidRequest):
        store.open_upload("u1", "somebody", "")


def test_the_same_question_by_grpc_has_one_job(store: SqlJobStore, time: Time) -> None:
    jobs = [submit(store, time, "k", upload=u, principal="client") for u in ("u1", "u2")]
    other = submit(store, time, "k", upload="u3", principal="other")
    assert jobs[0][0].id == jobs[1][0].id != other[0].id
    assert [j.id for j in store.list_jobs("client", submission_id="u2")] == [jobs[0][0].id]
    finish(store)
    again = submit(store, time, "k", upload="u4", principal="client")
    assert (again[0].id, again[0].state) == (jobs[0][0].id, JobState.DONE)


# --- several series, one job

BEFORE, AFTER = "1.2.840.1", "1.2.840.2"


def _closed(store: SqlJobStore, time: Time, series: str, **who: str) -> tuple[Claim, str]:
    """Let a series come and be claimed; return its claim and its id."""
    store.record_arrivals([arrival(n, time.wall, series=series, **who) for n in range(2)])
    time.pass_by(QUIET_S + 1)
    claim, submission = _must(store.claim_submission("a"))
    return claim, submission.id


def test_an_upload_says_which_series_is_which_channel(store: SqlJobStore, time: Time) -> None:
    channels = (("before", BEFORE), ("after", AFTER))
    assert store.open_upload("u1", "client", "two", channels).channels == channels
    of = {"upload": "u1", "principal": "client"}
    for series in (BEFORE, AFTER):
        store.record_arrivals([arrival(n, time.wall, series=series, **of) for n in range(2)])
    store.close_upload("u1")
    _, submission = _must(store.claim_submission("a"))
    assert (submission.channels, submission.series_uid) == (channels, BEFORE)
    assert len(submission.paths) == 4


def test_only_closed_series_of_the_study_lie_beside(store: SqlJobStore, time: Time) -> None:
    claim, before = _closed(store, time, BEFORE)
    assert store.beside(before) == ()
    store.settle_submission(claim, (), [])
    claim, _ = _closed(store, time, "1.2.840.3", principal="elsewhere")
    store.settle_submission(claim, (), [])
    claim, after = _closed(store, time, AFTER)
    (found,) = store.beside(after)
    assert (found.id, len(found.paths)) == (before, 2)
    store.settle_submission(claim, (), [], "NoModelForSeries: refused")
    assert store.beside(before) == ()
    store.record_arrivals([arrival(9, time.wall, series=BEFORE)])  # a later version, not closed
    assert [one.version for one in store.beside(after)] == [1]


def test_a_job_of_several_series_has_all_their_instances(store: SqlJobStore, time: Time) -> None:
    claim, before = _closed(store, time, BEFORE)
    waits = Choice(what="wait", because="rule both", frames=2, model="two")
    store.settle_submission(claim, (waits,), [])
    assert not store.look_again(before, ())
    claim, after = _closed(store, time, AFTER)
    both = replace(plan("k", 2), stacks=(*plan("", 2).stacks, *plan("", 2, AFTER).stacks))
    (job,) = store.settle_submission(claim, (), [replace(both, beside=(before,))])
    assert job.series_uid == AFTER
    assert {path.parent.name for path in store.job_paths(job.id)} == {BEFORE, AFTER}
    assert len(store.job_paths(job.id)) == 4
    ((_, (choice,), _),) = store.why(BEFORE)
    assert (choice.what, job.id in choice.because) == ("segment", True)
    # Neither series goes while the job is young.
    time.pass_by(86400 * 3)
    assert store.expired_submissions(1.0) == ()
    finish(store)
    time.pass_by(86400 * 3)
    assert {one for one, _ in store.expired_submissions(1.0)} == {before, after}


def test_a_series_that_waits_is_planned_again_if_another_closed_meanwhile(
    store: SqlJobStore, time: Time
) -> None:
    for series in (BEFORE, AFTER):
        store.record_arrivals([arrival(n, time.wall, series=series) for n in range(2)])
    time.pass_by(QUIET_S + 1)
    claimed = [_must(store.claim_submission(name)) for name in ("a", "b")]
    again = []
    for claim, submission in claimed:
        store.settle_submission(claim, (), [])
        again.append(store.look_again(submission.id, ()))
    assert again == [False, True]
    _, second = claimed[1]
    assert not store.look_again(second.id, (claimed[0][1].id,))
    time.pass_by(QUIET_S + 1)
    _, following = _must(store.claim_submission("a"))
    assert (following.series_uid, following.version) == (second.series_uid, 2)
    assert len(following.paths) == 2


# --- versions


def test_an_undelivered_job_is_superseded(store: SqlJobStore, time: Time) -> None:
    queued = submit(store, time, "k1")[0]
    running = store.claim_job("w")
    second = submit(store, time, "k2", first=3, count=1)[0]
    assert store.get_job(queued.id).state is JobState.SUPERSEDED
    assert (second.kind, second.parent_id) == (JobKind.SEGMENT, None)
    with pytest.raises(LeaseLost):
        store.report(_must(running)[0], "segment", 0.5)
    finish(store)
    submit(store, time, "k3", first=4, count=1)
    assert store.get_job(second.id).state is JobState.SUPERSEDED
    assert store.claim_delivery("d") is None
    assert {d.state for d in store.deliveries(second.id)} == {DeliveryState.FAILED}


@pytest.mark.parametrize("ended", [True, False])
def test_a_delivered_job_becomes_the_parent(store: SqlJobStore, time: Time, ended: bool) -> None:
    first = submit(store, time, "k1")[0]
    finish(store)
    delivery = _must(store.claim_delivery("d"))
    if ended:  # the other case is as bad: nobody knows whether it has arrived
        store.delivered(delivery[0])
    second = submit(store, time, "k2", first=3, count=1)[0]
    assert store.get_job(first.id).state is JobState.DONE
    assert (second.kind, second.parent_id) == (JobKind.CORRECT, first.id)


def test_a_late_instance_that_changes_nothing_keeps_the_job(store: SqlJobStore, time: Time) -> None:
    first = submit(store, time, "k1")[0]
    again = submit(store, time, "k1", first=3, count=1)[0]
    assert again == first


def test_a_refused_version_replaces_nothing(store: SqlJobStore, time: Time) -> None:
    first = submit(store, time, "k1")[0]
    store.record_arrivals([arrival(9, time.wall)])
    time.pass_by(QUIET_S + 1)
    claim, _ = _must(store.claim_submission("a"))
    choice = Choice(what="refuse", because="slice 4", frames=4, reason="CollidingSlices")
    store.settle_submission(claim, [choice], [], "CollidingSlices: slice 4")
    assert store.get_job(first.id).state is JobState.QUEUED
    versions = list(store.why("1.2.840.1"))
    assert [s.state for s, _, _ in versions] == [SubmissionState.CLOSED, SubmissionState.REFUSED]
    assert versions[1][1:] == ((choice,), "CollidingSlices: slice 4")


# --- leases and fences


def test_a_job_is_one_workers_until_its_lease_runs_out(store: SqlJobStore, time: Time) -> None:
    submit(store, time, "k")
    first, job = _must(store.claim_job("a"))
    assert job.attempts == 1
    time.pass_by(29)
    assert store.claim_job("b") is None
    store.report(first, "decode", 0.0)  # which extends it
    time.pass_by(29)
    assert store.claim_job("b") is None
    time.pass_by(2)
    second, job = _must(store.claim_job("b"))
    assert (second.fence, job.attempts) == (first.fence + 1, 2)


@pytest.mark.parametrize(
    "write",
    [
        lambda s, c: s.report(c, "segment", 0.5),
        lambda s, c: s.finish_job(c, [], rows.DELIVER, rows.PACS),
        lambda s, c: s.refuse_job(c, "UnevenSpacing", "x"),
        lambda s, c: s.retry_later(c, "HostMemoryFull", "x"),
        lambda s, c: s.release_job(c),
    ],
)
def test_a_stale_fence_writes_nothing(
    store: SqlJobStore, time: Time, write: Callable[[SqlJobStore, Claim], None]
) -> None:
    submit(store, time, "k")
    stale, _ = _must(store.claim_job("a"))
    time.pass_by(31)
    fresh, before = _must(store.claim_job("a"))  # the same owner: only the fence tells
    with pytest.raises(LeaseLost):
        write(store, stale)
    assert store.get_job(before.id) == before
    store.finish_job(fresh, [], rows.DELIVER, [])
    with pytest.raises(LeaseLost):
        write(store, fresh)


def test_a_dead_owners_lease_is_taken_at_once(store: SqlJobStore, time: Time) -> None:
    submit(store, time, "k")
    print_owner = "from viscera.jobs.owners import this_process; print(this_process('work'))"
    child = subprocess.run(
        [sys.executable, "-c", print_owner], capture_output=True, text=True, check=True
    )
    dead = child.stdout.strip()
    _must(store.claim_job(dead))
    assert _must(store.claim_job("b"))[1].attempts == 2


@pytest.mark.parametrize("wall_s", [-3600, 3600])
def test_a_wall_clock_that_is_set_moves_no_lease(
    store: SqlJobStore, time: Time, wall_s: float
) -> None:
    submit(store, time, "k")
    _must(store.claim_job("a"))
    time.set_wall(wall_s)
    time.pass_by(29)
    assert store.claim_job("b") is None
    time.pass_by(2)
    assert store.claim_job("b") is not None


def test_a_wall_clock_set_back_prolongs_no_pause(store: SqlJobStore, time: Time) -> None:
    store.record_arrivals([arrival(n, time.wall) for n in range(3)])
    time.set_wall(-3600)
    time.pass_by(QUIET_S - 1)
    assert store.claim_submission("a") is None
    store.record_arrivals([arrival(3, time.wall)])
    time.set_wall(-3600)
    time.pass_by(QUIET_S + 1)
    claim, _ = _must(store.claim_submission("a"))
    store.settle_submission(claim, (), [plan("k")])
    claim, _ = _must(store.claim_job("a"))
    store.retry_later(claim, "HostMemoryFull", "x")
    time.set_wall(-3600)
    time.pass_by(6)
    finish(store)
    delivery, _ = _must(store.claim_delivery("d"))
    store.deliver_later(delivery, time.wall + timedelta(seconds=60), "x")
    time.set_wall(-3600)
    time.pass_by(59)
    assert store.claim_delivery("d") is None
    time.pass_by(2)
    assert store.claim_delivery("d") is not None


def test_poison_is_stopped(store: SqlJobStore, time: Time) -> None:
    job = submit(store, time, "k")[0]
    for attempt in range(1, 4):
        assert _must(store.claim_job("a"))[1].attempts == attempt
        time.pass_by(31)
    assert store.claim_job("a") is None
    failed = store.get_job(job.id)
    assert (failed.state, failed.error_reason) == (JobState.FAILED, "Poison")


# --- ends


def test_transient_faults_come_back_later_and_end(store: SqlJobStore, time: Time) -> None:
    job = submit(store, time, "k")[0]
    for _ in range(3):
        claim, _running = _must(store.claim_job("a"))
        store.retry_later(claim, "HostMemoryFull", "no room")
        assert store.claim_job("a") is None
        time.pass_by(60)
    failed = store.get_job(job.id)
    assert (failed.state, failed.error_reason) == (JobState.FAILED, "HostMemoryFull")
    assert store.retry(job.id).attempts == 0
    assert _must(store.claim_job("a"))[1].attempts == 1


def test_a_released_job_is_there_at_once_and_uncounted(store: SqlJobStore, time: Time) -> None:
    submit(store, time, "k")
    for _ in range(5):
        claim, job = _must(store.claim_job("a"))
        assert job.attempts == 1
        store.release_job(claim)


def test_a_commit_keeps_everything(store: SqlJobStore, time: Time) -> None:
    submit(store, time, "k")
    claim, job = _must(store.claim_job("a"))
    store.report(claim, "segment", 0.25, "onnx-cpu")
    assert (store.get_job(job.id).stage, store.get_job(job.id).progress) == ("segment", 0.25)
    files = [rows.result(kind, job.id, claim.fence) for kind in ResultKind]
    verdict = Verdict(Decision.FLAG, ("liver: cut by the array's edge",))
    disk = Address(destination="disk", kinds=tuple(ResultKind))
    store.finish_job(claim, files, verdict, [*rows.PACS, disk])
    done = store.get_job(job.id)
    assert (done.state, done.verdict, done.engine) == (JobState.DONE, verdict, "onnx-cpu")
    assert done.results == tuple(files)
    sent = {(d.destination, d.file.kind) for d in store.deliveries(job.id)}
    assert sent == {("pacs", ResultKind.SEG), ("pacs", ResultKind.SR)} | {
        ("disk", kind) for kind in ResultKind
    }
    events = store.events(job.id)
    assert [(e.state, e.stage) for e in events] == [
        (JobState.QUEUED, ""),
        (JobState.RUNNING, ""),
        (JobState.RUNNING, "segment"),
        (JobState.DONE, ""),
    ]
    assert store.events(job.id, after=events[1].sequence) == events[2:]
    assert store.events(job.id, after=2**64 - 1) == ()


def test_cancel_is_noticed_and_can_be_taken_back(store: SqlJobStore, time: Time) -> None:
    job = submit(store, time, "k")[0]
    claim, _ = _must(store.claim_job("a"))
    assert store.cancel(job.id).state is JobState.CANCELLED
    with pytest.raises(LeaseLost):
        store.report(claim, "segment", 0.5)
    with pytest.raises(LeaseLost):
        store.finish_job(claim, [], rows.DELIVER, [])
    assert store.claim_job("a") is None
    assert store.retry(job.id).state is JobState.QUEUED
    assert store.retry(job.id).state is JobState.QUEUED
    finish(store)
    assert store.cancel(job.id).state is JobState.DONE


def test_retry_gives_way_to_a_later_job_of_the_same_key(store: SqlJobStore, time: Time) -> None:
    job = submit(store, time, "k", upload="u1", principal="client")[0]
    store.cancel(job.id)
    submit(store, time, "k", upload="u2", principal="client")
    with pytest.raises(InvalidRequest):
        store.retry(job.id)
    assert store.get_job(job.id).state is JobState.CANCELLED


def test_a_principal_sees_its_own(store: SqlJobStore, time: Time) -> None:
    mine = submit(store, time, "k1", upload="u1", principal="me")[0]
    submit(store, time, "k2", upload="u2", principal="you")
    assert [j.id for j in store.list_jobs("me")] == [mine.id]
    for ask in (store.get_job, store.cancel, store.retry):
        assert ask(mine.id, "me")
        with pytest.raises(JobNotFound):
            ask(mine.id, "you")
    with pytest.raises(JobNotFound):
        store.get_submission("u1", "you")
    with pytest.raises(JobNotFound):
        store.get_job("nothing")


def test_jobs_are_listed_newest_first_by_the_page(store: SqlJobStore, time: Time) -> None:
    ids = [submit(store, time, f"k{n}", upload=f"u{n}", principal="c")[0].id for n in range(5)]
    page = store.list_jobs(limit=2)
    assert [j.id for j in page] == ids[:2:-1]
    assert [j.id for j in store.list_jobs(limit=9, before_id=page[-1].id)] == ids[2::-1]
    finish(store)
    assert [j.id for j in store.list_jobs(states=[JobState.DONE])] == ids[:1]
    assert store.counts()[JobState.QUEUED] == 4
    assert store.counts()[JobState.FAILED] == 0
    assert store.backlog().oldest_job == store.get_job(ids[1]).created_at
    assert store.backlog().jobs[JobState.QUEUED] == 4


def test_what_waits_is_told_with_its_age(store: SqlJobStore, time: Time) -> None:
    store.record_arrivals([arrival(0, time.wall)])
    due = time.wall + timedelta(seconds=QUIET_S)
    time.pass_by(QUIET_S - 1)
    assert store.backlog().oldest_series is None, "it is not complete yet"
    time.pass_by(2)
    assert store.backlog().oldest_series == due
    claim, _ = _must(store.claim_submission("a"))
    assert store.backlog().oldest_series == due, "looked at, and not done with"
    store.settle_submission(claim, (), [], "NoModelForSeries: add a rule")
    assert store.backlog().oldest_series is None
    assert store.backlog().refused_series == 1
    submit(store, time, "k", upload="u", principal="c")
    _, job = finish(store)
    time.pass_by(99)
    assert store.backlog().oldest_result == store.get_job(job.id).finished_at
    for _ in range(2):
        claim, _ = _must(store.claim_delivery("d"))
        assert store.backlog().oldest_result is not None
        store.delivered(claim)
    assert store.backlog().oldest_result is None


# --- deliveries


def test_a_report_waits_for_its_segmentation_and_destinations_for_nobody(
    store: SqlJobStore, time: Time
) -> None:
    submit(store, time, "k")
    _, job = finish(store, ("a", "b"))
    seg, first = _must(store.claim_delivery("d", ("a",)))
    assert (first.file.kind, first.state) == (ResultKind.SEG, DeliveryState.SENDING)
    assert store.claim_delivery("d", ("a",)) is None
    other, _ = _must(store.claim_delivery("d", ("b",)))
    store.deliver_later(seg, time.wall + timedelta(seconds=60), "PeerUnreachable: x")
    assert store.claim_delivery("d", ("a",)) is None
    time.pass_by(20)
    store.heartbeat_delivery(other)
    time.pass_by(20)
    assert store.undeliverable(other, "PeerRefused: x") is None
    report, delivery = _must(store.claim_delivery("d"))
    assert (delivery.destination, delivery.file.kind) == ("b", ResultKind.SR)
    assert store.delivered(report) is None
    time.pass_by(21)
    seg, delivery = _must(store.claim_delivery("d"))
    assert (delivery.attempts, delivery.last_error) == (2, "PeerUnreachable: x")
    assert store.delivered(seg) is None
    report, _ = _must(store.claim_delivery("d"))
    assert store.delivered(report) == 61.0
    assert [d.state.value for d in store.deliveries(job.id)] == [
        "delivered", "delivered", "failed", "delivered",
    ]  # fmt: skip


def test_a_stale_deliverer_writes_nothing(store: SqlJobStore, time: Time) -> None:
    submit(store, time, "k")
    finish(store)
    stale, _ = _must(store.claim_delivery("d"))
    time.pass_by(31)
    _must(store.claim_delivery("d"))
    for write in (
        lambda: store.delivered(stale),
        lambda: store.undeliverable(stale, "x"),
        lambda: store.deliver_later(stale, time.wall, "x"),
        lambda: store.heartbeat_delivery(stale),
    ):
        with pytest.raises(LeaseLost):
            write()


def test_an_object_that_awaits_commitment_is_claimed_for_nothing_else(
    store: SqlJobStore, time: Time
) -> None:
    submit(store, time, "k")
    _, job = finish(store)
    claim, _ = _must(store.claim_delivery("d"))
    store.stored(claim, "2.25.1", time.wall + timedelta(seconds=60))
    with pytest.raises(LeaseLost):  # the report may come now: nobody holds it
        store.delivered(claim)
    # The report of organs goes: its segmentation is there.
    report, other = _must(store.claim_delivery("d"))
    assert other.file.kind is ResultKind.SR
    assert store.delivered(report) is None
    assert store.claim_delivery("d") is None
    assert store.expired_jobs(0.0) == ()
    time.pass_by(61)
    claim, again = _must(store.claim_delivery("d"))
    assert (again.state, again.requests) == (DeliveryState.SENT, 1)
    assert store.claim_delivery("e") is None
    store.stored(claim, "2.25.2", time.wall + timedelta(seconds=60), "a note")
    assert store.deliveries(job.id)[0].last_error == "a note"
    time.pass_by(9)
    assert store.committed("2.25.1") == 70.0
    assert [one.state for one in store.deliveries(job.id)] == [DeliveryState.DELIVERED] * 2
    assert (store.committed("2.25.1"), store.asked_by("2.25.2")) == (None, None)
    assert len(store.expired_jobs(0.0)) == 1
    store.forget_job(job.id)


def test_only_the_latest_request_can_fail_and_then_all_are_forgotten(
    store: SqlJobStore, time: Time
) -> None:
    submit(store, time, "k")
    finish(store)
    claim, _ = _must(store.claim_delivery("d"))
    store.stored(claim, "2.25.0", time.wall)
    report, _ = _must(store.claim_delivery("d"))
    store.delivered(report)
    claim, _ = _must(store.claim_delivery("d"))
    store.stored(claim, "2.25.1", time.wall)
    assert _must(store.asked_by("2.25.0")) == _must(store.asked_by("2.25.1"))
    assert not store.not_committed("2.25.0", time.wall, "x")
    assert store.not_committed("2.25.1", time.wall + timedelta(seconds=5), "NotCommitted: x")
    assert (store.committed("2.25.0"), store.asked_by("2.25.1")) == (None, None)
    assert store.claim_delivery("d") is None
    time.pass_by(6)
    _, delivery = _must(store.claim_delivery("d"))
    assert (delivery.state, delivery.last_error) == (DeliveryState.SENDING, "NotCommitted: x")
    assert not store.not_committed("2.25.9", time.wall, "never asked")


def test_what_was_never_sent_goes_before_what_is_asked_about_again(
    store: SqlJobStore, time: Time
) -> None:
    submit(store, time, "old", series="1.2.1")
    finish(store)
    claim, old = _must(store.claim_delivery("d"))
    store.stored(claim, "2.25.1", time.wall + timedelta(seconds=60))
    report, _ = _must(store.claim_delivery("d"))
    store.delivered(report)
    submit(store, time, "new", series="1.2.2")
    finish(store)
    time.pass_by(61)
    _, first = _must(store.claim_delivery("d"))
    _, second = _must(store.claim_delivery("d"))
    assert first.job_id != old.job_id
    assert (second.id, second.state) == (old.id, DeliveryState.SENT)
    assert store.waiting_by_destination() == {"pacs": 3}


def test_a_request_that_failed_is_made_again_without_sending(
    store: SqlJobStore, time: Time
) -> None:
    submit(store, time, "k")
    finish(store)
    claim, _ = _must(store.claim_delivery("d"))
    store.stored(claim, "2.25.1", time.wall + timedelta(seconds=600))
    store.not_asked("2.25.1", time.wall + timedelta(seconds=5), "PeerUnreachable: x")
    report, _ = _must(store.claim_delivery("d"))
    store.delivered(report)
    time.pass_by(6)
    claim, delivery = _must(store.claim_delivery("d"))
    assert (delivery.state, delivery.requests) == (DeliveryState.SENT, 0)
    # A deliverer that died while it asked: another one asks, and does not send either.
    time.pass_by(31)
    claim, delivery = _must(store.claim_delivery("e"))
    assert (delivery.state, delivery.attempts) == (DeliveryState.SENT, 3)
    # Commitment is wanted no more, and this was the last of them.
    assert store.delivered(claim) is not None


def test_a_barred_result_waits_for_somebody_to_ask_again(store: SqlJobStore, time: Time) -> None:
    submit(store, time, "k")
    claim, job = _must(store.claim_job("a"))
    files = [rows.result(kind, job.id, claim.fence) for kind in (ResultKind.SEG, ResultKind.SR)]
    barred = [replace(one, barred="no demonstration here") for one in rows.addresses("a", "b")]
    store.finish_job(claim, files, rows.DELIVER, [barred[0], *rows.addresses("c")])
    sent, _ = _must(store.claim_delivery("d"))
    assert store.delivered(sent) is None
    assert store.claim_delivery("d", ("a",)) is None
    told = {(d.destination, d.state, d.last_error) for d in store.deliveries(job.id)}
    assert ("a", DeliveryState.BARRED, "no demonstration here") in told
    # It now goes to a, is kept from b, and c's report, under way there, is not begun anew.
    under_way, _ = _must(store.claim_delivery("d", ("c",)))
    store.deliver_again(job.id, [*rows.addresses("a", "c"), barred[1]])
    states = [(d.destination, d.state.value) for d in store.deliveries(job.id)]
    assert sorted(states) == [
        ("a", "queued"), ("a", "queued"), ("b", "barred"), ("b", "barred"),
        ("c", "queued"), ("c", "sending"),
    ]  # fmt: skip
    assert store.delivered(under_way) is None
    assert _must(store.claim_delivery("d", ("a",)))[1].file.kind is ResultKind.SEG


def test_only_a_done_job_is_delivered_again(store: SqlJobStore, time: Time) -> None:
    (job,) = submit(store, time, "k")
    with pytest.raises(InvalidRequest, match="queued"):
        store.deliver_again(job.id, rows.PACS)
    finish(store)
    store.forget_job(job.id)
    with pytest.raises(InvalidRequest, match="expired"):
        store.deliver_again(job.id, rows.PACS)


# --- retention


def test_a_series_expires_as_a_whole(store: SqlJobStore, time: Time) -> None:
    submit(store, time, "k1")
    finish(store)
    time.pass_by(8 * 86400)
    submit(store, time, "k2", first=3, count=1)  # version 2 needs the instances of version 1
    assert store.expired_submissions(7) == ()
    finish(store)
    assert store.expired_submissions(7) == ()
    time.pass_by(8 * 86400)
    expired = store.expired_submissions(7)
    assert [len(paths) for _, paths in expired] == [3, 1]
    for submission_id, _ in expired:
        store.forget_instances(submission_id)
    assert store.expired_submissions(7) == ()
    assert store.known_paths() == set()


def test_a_job_expires_once_it_is_delivered(store: SqlJobStore, time: Time) -> None:
    submit(store, time, "k")
    claim, job = finish(store)
    assert store.live_fences(job.id) == {claim.fence}
    time.pass_by(31 * 86400)
    assert store.expired_jobs(30) == ()
    for _ in range(2):
        store.delivered(_must(store.claim_delivery("d"))[0])
    assert store.expired_jobs(30) == (job.id,)
    store.forget_job(job.id)
    assert store.expired_jobs(30) == ()
    assert store.live_fences(job.id) == frozenset()
    assert store.get_job(job.id).results == ()
    # What has gone does not answer: the same question is worked on again.
    again = submit(store, time, "k", first=3, count=1)[0]
    assert again.id != job.id


def test_an_upload_whose_client_went_away_is_refused(store: SqlJobStore, time: Time) -> None:
    store.open_upload("u1", "client", "")
    assert store.unclosed_uploads() == ("u1",)
    time.pass_by(6 * 86400)
    assert store.unclosed_uploads(7) == ()
    time.pass_by(2 * 86400)
    assert store.unclosed_uploads(7) == ("u1",)
    assert not store.is_abandoned("u1")
    assert store.refuse_upload("u1", "IncompleteSeries: gone")
    assert store.get_submission("u1").state is SubmissionState.REFUSED
    assert store.is_abandoned("u1")
    assert store.unclosed_uploads() == ()
    assert not store.refuse_upload("u1", "again")
    assert not store.refuse_upload("unknown", "never opened")
    with pytest.raises(IncompleteSeries, match="send the series again"):
        store.close_upload("u1")


def test_an_upload_that_was_closed_is_refused_by_its_plan_alone(
    store: SqlJobStore, time: Time
) -> None:
    store.open_upload("u1", "client", "")
    store.record_arrivals([arrival(1, time.wall, upload="u1", principal="client")])
    store.close_upload("u1")
    assert store.unclosed_uploads() == ()
    assert not store.refuse_upload("u1", "IncompleteSeries: gone")
    claim, _ = _must(store.claim_submission("planner"))
    store.settle_submission(claim, (), (), "UnevenSpacing: gaps")
    assert not store.is_abandoned("u1")
    store.close_upload("u1")  # a door that is late


def test_another_process_sees_the_same(
    store: SqlJobStore, url: str, time: Time, tmp_path: Path
) -> None:
    job = submit(store, time, "k")[0]
    other = open_store(url, tmp_path, time)
    other.migrate()
    assert other.get_job(job.id) == store.get_job(job.id)
    other.close()


def _must(value):
    assert value is not None
    return value
