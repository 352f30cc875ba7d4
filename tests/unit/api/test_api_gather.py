import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from viscera.api.gather import merge_pages
from viscera.metrics import Metrics


def page(metrics: Metrics) -> str:
    return generate_latest(metrics.registry).decode()


def busy_metrics() -> Metrics:
    metrics = Metrics()
    for stage in ("decode", "segment"):
        with metrics.stage(stage, "onnx-cpu"):
            pass
    metrics.series_seconds.labels("CT").observe(3)
    metrics.instances.labels("rejected", "InvalidUID").inc()
    metrics.associations_open.set(2)
    metrics.engine_fallbacks.labels("onnx-cpu").inc()
    metrics.deliveries.labels("delivered").inc()
    metrics.organ_volume.labels("liver").observe(1500)
    return metrics


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """As Prometheus' own client library reads a page."""
    return {
        (s.name, frozenset(s.labels.items())): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
    }


def test_every_sample_keeps_its_value_under_its_role() -> None:
    one, other = page(busy_metrics()), page(Metrics())
    merged = samples(merge_pages({"work": one, "receive": other}))
    expected = {
        (name, labels | {("role", role)}): value
        for role, text in (("work", one), ("receive", other))
        for (name, labels), value in samples(text).items()
    }
    up = {("viscera_role_up", frozenset({("role", r)})): 1.0 for r in ("work", "receive")}
    assert merged == expected | up


def test_processes_of_one_role_stay_apart() -> None:
    merged = samples(merge_pages({"receive/0": page(busy_metrics()), "receive/1": None}))
    one = {("role", "receive"), ("process", "0")}
    assert merged[("viscera_associations_open", frozenset(one))] == 2
    assert merged[("viscera_role_up", frozenset(one))] == 1
    assert merged[("viscera_role_up", frozenset({("role", "receive"), ("process", "1")}))] == 0


def test_every_family_is_declared_once() -> None:
    lines = merge_pages({r: page(busy_metrics()) for r in ("a", "b", "c")}).splitlines()
    heads = [line for line in lines if line.startswith("#")]
    assert len(heads) == len(set(heads)) > 10


def test_promtool_finds_nothing() -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed")
    roles = {r: page(busy_metrics()) for r in ("receive", "api", "work")} | {"deliver": None}
    check = subprocess.run(
        ["promtool", "check", "metrics"],
        input=merge_pages(roles),
        capture_output=True,
        text=True,
    )
    assert (check.returncode, check.stdout, check.stderr) == (0, "", "")


@pytest.mark.parametrize(
    "dead",
    [None, "<html>Bad gateway</html>", "viscera_jobs{state=", "viscera_jobs 1\nviscera_jo"],
)
def test_a_dead_or_broken_role_is_down_and_hides_nobody(dead: str | None) -> None:
    merged = samples(merge_pages({"work": dead, "api": page(busy_metrics())}))
    assert merged["viscera_role_up", frozenset({("role", "work")})] == 0
    assert merged["viscera_role_up", frozenset({("role", "api")})] == 1
    assert {dict(labels)["role"] for name, labels in merged if name != "viscera_role_up"} == {"api"}


@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), st.text(max_size=20), min_size=1))
def test_odd_label_values_survive(labels: dict[str, str]) -> None:
    registry = CollectorRegistry()
    Gauge("odd", 'Help with \\ and\nnewline and "quotes".', list(labels), registry=registry).labels(
        **labels
    ).set(1)
    before = samples(generate_latest(registry).decode())
    after = samples(merge_pages({"x": generate_latest(registry).decode()}))
    for (name, had), value in before.items():
        assert after[name, had | {("role", "x")}] == value


def test_restarts_are_counted_by_role_and_process() -> None:
    merged = samples(merge_pages({"work": None}, {"work": 3, "receive/1": 0}))
    name = "viscera_role_restarts_total"
    assert merged[name, frozenset({("role", "work")})] == 3
    assert merged[name, frozenset({("role", "receive"), ("process", "1")})] == 0


def test_without_any_role_the_page_still_answers() -> None:
    assert "viscera_role_up" in merge_pages({})
