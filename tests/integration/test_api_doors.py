"""Who gets in, how many at once, and what they are told: over real sockets."""

import http.client
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from api_harness import CONTENTS, House, a_house, refusal_of, serving, stub, write_series
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from viscera.api.client import requests
from viscera.api.grpc_server import SERVICE
from viscera.api.http_server import HttpServer
from viscera.api.v1 import viscera_pb2 as pb
from viscera.api.v1.viscera_pb2_grpc import SegmentationServiceStub
from viscera.domain.results import ResultKind
from viscera.errors import InvalidSettings

WARD, LAB = "the-token-of-the-ward", "the-token-of-the-lab-"
SERVING = health_pb2.HealthCheckResponse.SERVING
UNAUTHENTICATED = (grpc.StatusCode.UNAUTHENTICATED, "NotAuthorised", False)
NOT_FOUND = (grpc.StatusCode.NOT_FOUND, "JobNotFound", False)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with a_house(tmp_path) as house:
        yield house


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    path = tmp_path / "tokens.toml"
    path.write_text(f'ward = "{WARD}"\nlab = "{LAB}"\n')
    return path


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, a server's pair for localhost, a client's pair for `ward`; by openssl."""
    folder = tmp_path_factory.mktemp("pki")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    for authority in ("ca", "strangers"):
        openssl(
            *f"req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={authority}".split(),
            *f"-keyout {authority}.key -out {authority}.pem".split(),
        )
    (folder / "san").write_text("subjectAltName=DNS:localhost")
    for name, authority in (("localhost", "ca"), ("ward", "ca"), ("mallory", "strangers")):
        openssl(
            *f"req -newkey rsa:2048 -nodes -subj /CN={name}".split(),
            *f"-keyout {name}.key -out {name}.csr".split(),
        )
        openssl(
            *f"x509 -req -in {name}.csr -CA {authority}.pem -CAkey {authority}.key".split(),
            *f"-CAcreateserial -days 2 -extfile san -out {name}.pem".split(),
        )
    return folder


def tls(pki: Path) -> dict[str, Path]:
    return {"tls_certificate": pki / "localhost.pem", "tls_key": pki / "localhost.key"}


def secure_stub(port: int, pki: Path, name: str = "", trusted: str = "ca") -> Any:
    pair = [(pki / f"{name}.{kind}").read_bytes() if name else None for kind in ("key", "pem")]
    credentials = grpc.ssl_channel_credentials((pki / f"{trusted}.pem").read_bytes(), *pair)
    return grpc.secure_channel(f"localhost:{port}", credentials)


def bearing(token: str) -> dict[str, Any]:
    return {"metadata": (("authorization", f"Bearer {token}"),), "timeout": 10}


def every_call(job_id: str) -> list[Callable[..., Any]]:
    """Each method, on a stub, with the call's options."""
    request = {"job_id": job_id}
    return [
        lambda api, **o: api.GetJob(pb.GetJobRequest(**request), **o),
        lambda api, **o: api.WatchJob(pb.WatchJobRequest(**request), **o),
        lambda api, **o: api.CancelJob(pb.CancelJobRequest(**request), **o),
        lambda api, **o: api.RetryJob(pb.RetryJobRequest(**request), **o),
        lambda api, **o: api.FetchResult(pb.FetchResultRequest(**request, kind=1), **o),
    ]


@pytest.mark.parametrize("options", [{}, bearing("the-token-of-nobody--"), bearing("")])
def test_without_a_known_token_no_call_is_answered(
    options: dict[str, Any], house: House, tokens: Path, tmp_path: Path
) -> None:
    series = write_series(tmp_path / "series")
    with serving(house, tokens_file=tokens) as server, stub(server) as api:
        for ask in every_call("any"):
            assert refusal_of(lambda: ask(api, **options)) == UNAUTHENTICATED  # noqa: B023
        for ask in (
            lambda: api.ListJobs(pb.ListJobsRequest(), **options),
            lambda: api.ListModels(pb.ListModelsRequest(), **options),
            lambda: api.SegmentSeries(requests(series), **options),
        ):
            assert refusal_of(ask) == UNAUTHENTICATED
    assert list(house.spool.uploads()) == []


def test_a_job_is_its_principals_alone(house: House, tokens: Path, tmp_path: Path) -> None:
    series = write_series(tmp_path / "series")
    with serving(house, tokens_file=tokens) as server, stub(server) as api, house.working():
        answers = list(api.SegmentSeries(requests(series), **bearing(WARD)))
        handle, job_id = answers[0].accepted.job_id, answers[-1].finished.id
        for name in (handle, job_id):
            assert api.GetJob(pb.GetJobRequest(job_id=name), **bearing(WARD)).job.id == job_id
            for ask in every_call(name):
                assert refusal_of(lambda: ask(api, **bearing(LAB))) == NOT_FOUND  # noqa: B023
        assert len(api.ListJobs(pb.ListJobsRequest(), **bearing(WARD)).jobs) == 1
        assert len(api.ListJobs(pb.ListJobsRequest(), **bearing(LAB)).jobs) == 0
        # Nor does one principal's upload answer another's: it gets a job of its own.
        other = list(api.SegmentSeries(requests(series), **bearing(LAB)))
        assert other[-1].finished.id != job_id


def test_tls_with_tokens(house: House, tokens: Path, pki: Path) -> None:
    with (
        serving(house, host="0.0.0.0", tokens_file=tokens, **tls(pki)) as server,
        secure_stub(server.port, pki) as channel,
        stub(server) as plain,
    ):
        api = SegmentationServiceStub(channel)
        assert list(api.ListModels(pb.ListModelsRequest(), **bearing(WARD)).models) == []
        assert refusal_of(lambda: api.ListModels(pb.ListModelsRequest())) == UNAUTHENTICATED
        with pytest.raises(grpc.RpcError) as raised:
            plain.ListModels(pb.ListModelsRequest(), **bearing(WARD))
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE


def test_client_certificates_name_the_principal(house: House, pki: Path, tmp_path: Path) -> None:
    series = write_series(tmp_path / "series")
    with serving(house, host="0.0.0.0", tls_client_ca=pki / "ca.pem", **tls(pki)) as server:
        with secure_stub(server.port, pki, "ward") as channel:
            call = SegmentationServiceStub(channel).SegmentSeries(requests(series))
            handle = next(call).accepted.job_id
            while next(call).WhichOneof("part") != "complete":
                pass
            call.cancel()
        assert house.store.get_submission(handle).principal == "ward"
        for name in ("", "mallory"):
            with secure_stub(server.port, pki, name) as channel:
                with pytest.raises(grpc.RpcError) as raised:
                    SegmentationServiceStub(channel).ListModels(pb.ListModelsRequest(), timeout=10)
                assert raised.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_beyond_loopback_nothing_starts_unprotected(host: str, house: House) -> None:
    with pytest.raises(InvalidSettings, match="beyond loopback"), serving(house, host=host):
        pass


def test_a_taken_port_is_told(house: House) -> None:
    with (
        serving(house) as server,
        pytest.raises(InvalidSettings, match=str(server.port)),
        serving(house, port=server.port),
    ):
        pass


def test_health_needs_no_token_and_says_when_it_stops(house: House, tokens: Path) -> None:
    with (
        serving(house, tokens_file=tokens) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        health = health_pb2_grpc.HealthStub(channel)
        for name in ("", SERVICE):
            answer = health.Check(health_pb2.HealthCheckRequest(service=name))
            assert answer.status == SERVING
        unknown = health_pb2.HealthCheckRequest(service="viscera.v0.Nothing")
        with pytest.raises(grpc.RpcError) as raised:
            health.Check(unknown)
        assert raised.value.code() is grpc.StatusCode.NOT_FOUND
        request = health_pb2.HealthCheckRequest(service=SERVICE)
        assert refusal_of(lambda: health.Watch(request)) == UNAUTHENTICATED
        watch = health.Watch(request, **bearing(WARD))
        assert next(watch).status == SERVING
        threading.Thread(target=server.stop).start()
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING


def test_streams_leave_room_for_short_calls(house: House, tmp_path: Path) -> None:
    series = write_series(tmp_path / "series")
    with serving(house, max_streams=2) as server, stub(server) as api:
        calls = [api.SegmentSeries(requests(series)) for _ in range(2)]
        handles = [next(call).accepted.job_id for call in calls]
        answer = refusal_of(lambda: api.SegmentSeries(requests(series)))
        assert answer == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TooManyCalls", True)
        watch = pb.WatchJobRequest(job_id=handles[0])
        assert refusal_of(lambda: api.WatchJob(watch))[1] == "TooManyCalls"
        request = pb.GetJobRequest(job_id=handles[0])
        futures = [api.GetJob.future(request, timeout=10) for _ in range(8)]
        assert {future.result().job.state for future in futures} == {pb.JOB_STATE_PENDING}
        calls[0].cancel()
        following = _first_answer_in_time(api, series)
        assert following.WhichOneof("part") == "accepted"


HEADER = pb.SegmentSeriesRequest(header=pb.SeriesHeader())


def eventually(condition: Callable[[], bool], within_s: float = 5.0) -> bool:
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _then_nothing(*messages: pb.SegmentSeriesRequest) -> Iterator[pb.SegmentSeriesRequest]:
    yield from messages
    threading.Event().wait(60)


@pytest.mark.parametrize("sent", [(), (HEADER,)])
def test_a_silent_upload_gives_its_stream_back(
    sent: tuple[pb.SegmentSeriesRequest, ...], house: House, tmp_path: Path
) -> None:
    series = write_series(tmp_path / "series")
    with serving(house, max_streams=1, idle_timeout_s=0.3) as server, stub(server) as api:
        began = time.monotonic()
        answer = refusal_of(lambda: api.SegmentSeries(_then_nothing(*sent), timeout=20))
        assert answer == (grpc.StatusCode.ABORTED, "ClientSilent", True)
        assert time.monotonic() - began < 5
        assert _first_answer_in_time(api, series).WhichOneof("part") == "accepted"
    readers = [t for t in threading.enumerate() if t.name == "request-reader"]
    assert eventually(lambda: not any(t.is_alive() for t in readers))


def test_a_client_that_takes_nothing_gives_its_stream_back(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CONTENTS, ResultKind.SEG, bytes(40_000_000))
    series = write_series(tmp_path / "series")
    with serving(house, max_streams=1, idle_timeout_s=1) as server, stub(server) as api:
        with house.working():
            job_id = list(api.SegmentSeries(requests(series)))[-1].finished.id
        fetch = pb.FetchResultRequest(job_id=job_id, kind=pb.RESULT_KIND_SEG)
        stuck = api.FetchResult(fetch)  # larger than what is sent to who does not read
        next(stuck)
        assert refusal_of(lambda: api.FetchResult(fetch))[1] == "TooManyCalls"
        assert _first_answer_in_time(api, series).WhichOneof("part") == "accepted"
        with pytest.raises(grpc.RpcError) as raised:
            list(stuck)
        assert raised.value.code() is grpc.StatusCode.CANCELLED


def test_a_client_may_take_its_results_slowly(house: House, tmp_path: Path) -> None:
    series = write_series(tmp_path / "series")
    with serving(house, idle_timeout_s=1) as server, stub(server) as api:
        with house.working():
            job_id = list(api.SegmentSeries(requests(series)))[-1].finished.id
        got = b""
        for answer in api.FetchResult(
            pb.FetchResultRequest(job_id=job_id, kind=pb.RESULT_KIND_SEG)
        ):
            got += answer.chunk.data
            time.sleep(0.6)
    assert got == CONTENTS["seg"]


def _without_its_message(channel: grpc.Channel, method: str, **options: Any) -> Callable[[], Any]:
    ask = channel.stream_unary(f"/{method}")
    return lambda: ask(_then_nothing(), **{"timeout": 20, **options})


def test_a_call_without_its_message_asks_for_a_token_first_and_then_ends(
    house: House, tokens: Path
) -> None:
    settings = {"tokens_file": tokens, "max_streams": 1, "idle_timeout_s": 0.3}
    with (
        serving(house, **settings) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        for name in ("GetJob", "SegmentByUid", "SegmentSeries"):
            began = time.monotonic()
            assert refusal_of(_without_its_message(channel, f"{SERVICE}/{name}")) == UNAUTHENTICATED
            assert time.monotonic() - began < 5
        for method in (f"{SERVICE}/GetJob", f"{SERVICE}/WatchJob", "grpc.health.v1.Health/Check"):
            ask = _without_its_message(channel, method, **bearing(WARD))
            assert refusal_of(ask) == (grpc.StatusCode.ABORTED, "ClientSilent", True)


def test_a_call_that_ends_without_its_message_is_told_so(house: House) -> None:
    with (
        serving(house) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        ask = channel.stream_unary(f"/{SERVICE}/GetJob")
        answer = refusal_of(lambda: ask(iter(()), timeout=20))
    assert answer == (grpc.StatusCode.INVALID_ARGUMENT, "InvalidRequest", False)


def test_an_upload_may_take_its_time_and_its_job_any_time(house: House, tmp_path: Path) -> None:
    def slowly() -> Iterator[pb.SegmentSeriesRequest]:
        for message in requests(write_series(tmp_path / "series")):
            threading.Event().wait(0.3)
            yield message

    with serving(house, idle_timeout_s=1) as server, stub(server) as api:
        answers = api.SegmentSeries(slowly(), timeout=30)
        while next(answers).WhichOneof("part") != "complete":
            pass
        threading.Event().wait(1.5)
        with house.working():
            assert [a.WhichOneof("part") for a in answers][-1] == "finished"


def test_all_that_was_announced_counts_though_the_client_fell_silent(
    house: House, tmp_path: Path
) -> None:
    messages = list(requests(write_series(tmp_path / "series")))
    messages[0].header.instances = 4
    with serving(house, idle_timeout_s=0.5) as server, stub(server) as api:
        answers = api.SegmentSeries(_then_nothing(*messages), timeout=30)
        with house.working():
            assert [a.WhichOneof("part") for a in answers][-1] == "finished"


@pytest.mark.parametrize(("settings", "allowed"), [({}, 2), ({"max_streams_per_principal": 3}, 3)])
def test_one_principal_leaves_streams_to_the_others(
    settings: dict[str, int], allowed: int, house: House, tokens: Path, tmp_path: Path
) -> None:
    series = write_series(tmp_path / "series")
    with (
        serving(house, tokens_file=tokens, max_streams=4, **settings) as server,
        stub(server) as api,
    ):
        mine = [api.SegmentSeries(requests(series), **bearing(WARD)) for _ in range(allowed)]
        for call in mine:
            next(call)
        answer = refusal_of(lambda: api.SegmentSeries(requests(series), **bearing(WARD)))
        assert answer == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TooManyCalls", True)
        other = api.SegmentSeries(requests(series), **bearing(LAB))
        assert next(other).WhichOneof("part") == "accepted"
        mine[0].cancel()
        assert _first_answer_in_time(api, series, **bearing(WARD)).WhichOneof("part") == "accepted"
        other.cancel()


def _first_answer_in_time(api: Any, series: list[Path], **options: Any) -> pb.SegmentSeriesResponse:
    """The slot of a cancelled call is free once the server has heard of it."""
    for _ in range(100):
        try:
            return next(api.SegmentSeries(requests(series), **options))
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED  # noqa: PT017
            threading.Event().wait(0.05)
    raise AssertionError("the slot never came free")


def test_a_chunk_beyond_the_limit_is_refused_with_the_limit(house: House) -> None:
    big = pb.SegmentSeriesRequest(chunk=pb.InstanceChunk(data=bytes(1_100_000)))
    with serving(house, max_message_mb=1) as server, stub(server) as api:
        ask = api.SegmentSeries(iter([HEADER, big]))
        with pytest.raises(grpc.RpcError, match="chunks of at most 1 MB") as raised:
            list(ask)
        assert "grpc.max_message_mb" in raised.value.details()
        answer = refusal_of(lambda: api.SegmentSeries(iter([HEADER, big])))
    assert answer == (grpc.StatusCode.INVALID_ARGUMENT, "InvalidRequest", False)


def test_a_chunk_of_the_very_limit_is_taken(house: House, tmp_path: Path) -> None:
    whole = write_series(tmp_path / "series", 1)[0].read_bytes()
    first = pb.InstanceChunk(data=whole + bytes(1_000_000 - len(whole)))
    last = pb.SegmentSeriesRequest(chunk=pb.InstanceChunk(last=True))
    with serving(house, max_message_mb=1) as server, stub(server) as api:
        call = api.SegmentSeries(iter([HEADER, pb.SegmentSeriesRequest(chunk=first), last]))
        names = [next(call).WhichOneof("part") for _ in range(2)]
        assert names == ["accepted", "stored"]
        call.cancel()


def test_what_grpc_itself_refuses_has_no_details_as_the_documentation_says(house: House) -> None:
    huge = pb.SegmentSeriesRequest(chunk=pb.InstanceChunk(data=bytes(2_100_000)))
    with serving(house, max_message_mb=1) as server, stub(server) as api:
        with pytest.raises(grpc.RpcError) as raised:
            list(api.SegmentSeries(iter([HEADER, huge])))
        assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert rpc_status.from_call(raised.value) is None


@pytest.mark.parametrize("setting", ["max_instance_mb", "max_upload_mb"])
def test_an_upload_beyond_the_limit_is_refused_as_it_comes(setting: str, house: House) -> None:
    def endless() -> Iterator[pb.SegmentSeriesRequest]:
        yield pb.SegmentSeriesRequest(header=pb.SeriesHeader())
        while True:
            yield pb.SegmentSeriesRequest(chunk=pb.InstanceChunk(data=bytes(300_000)))

    with serving(house, **{setting: 2}) as server, stub(server) as api:
        answer = refusal_of(lambda: api.SegmentSeries(endless()))
    assert answer == (grpc.StatusCode.INVALID_ARGUMENT, "InvalidRequest", False)


def test_a_fault_of_ours_tells_its_class_and_not_its_words(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("DOE^JANE")

    monkeypatch.setattr(house.store, "list_jobs", fail)
    with serving(house) as server, stub(server) as api, pytest.raises(grpc.RpcError) as raised:
        api.ListJobs(pb.ListJobsRequest())
    assert raised.value.code() is grpc.StatusCode.INTERNAL
    assert "ValueError" in raised.value.details()
    assert "DOE" not in str(raised.value)


@pytest.fixture
def web() -> Iterator[tuple[HttpServer, dict[str, Any]]]:
    state: dict[str, Any] = {"page": b"# one page\n", "health": True, "ready": False}
    server = HttpServer(
        "127.0.0.1",
        0,
        lambda: state["page"] if isinstance(state["page"], bytes) else 1 // 0,  # type: ignore[return-value]
        lambda: state["health"],
        lambda: state["ready"],
    )
    server.start()
    yield server, state
    server.stop()


def _ask(server: HttpServer, path: str, method: str = "GET") -> tuple[int, bytes]:
    url = f"http://127.0.0.1:{server.port}{path}"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=5) as a:
            return a.status, a.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_http_has_three_pages(web: tuple[HttpServer, dict[str, Any]]) -> None:
    server, state = web
    assert _ask(server, "/metrics") == (200, b"# one page\n")
    assert _ask(server, "/healthz") == (200, b"healthy\n")
    assert _ask(server, "/readyz") == (503, b"not ready\n")
    state.update(health=False, ready=True)
    assert _ask(server, "/healthz")[0] == 503
    assert _ask(server, "/readyz")[0] == 200
    for path in ("/", "/metrics/", "/etc/passwd", "/%2e%2e/metrics"):
        assert _ask(server, path)[0] == 404
    assert _ask(server, "/metrics", "POST")[0] == 405
    assert _ask(server, "/metrics", "HEAD") == (200, b"")


def test_http_answers_while_a_page_fails_or_a_client_is_silent(
    web: tuple[HttpServer, dict[str, Any]],
) -> None:
    server, state = web
    silent = http.client.HTTPConnection("127.0.0.1", server.port)
    silent.connect()
    state["page"] = None
    assert _ask(server, "/metrics")[0] == 500
    state["page"] = b"back\n"
    assert _ask(server, "/metrics") == (200, b"back\n")
    silent.close()
