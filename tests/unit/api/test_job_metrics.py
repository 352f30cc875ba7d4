import shutil
import subprocess
from dataclasses import replace
from datetime import timedelta

import pytest
from api_fakes import NOW, MemoryStore, make_job
from prometheus_client import generate_latest

from viscera.api.job_metrics import JobCollector
from viscera.domain.jobs import JobState
from viscera.metrics import Metrics


@pytest.fixture
def metrics(store: MemoryStore) -> Metrics:
    metrics = Metrics()
    metrics.registry.register(JobCollector(store, lambda: NOW + timedelta(seconds=90)))
    return metrics


def test_jobs_are_counted_when_the_page_is_asked_for(metrics: Metrics, store: MemoryStore) -> None:
    value = metrics.registry.get_sample_value
    assert value("viscera_jobs", {"state": "queued"}) == 0
    assert value("viscera_oldest_job_age_seconds") == 0
    store.jobs = {"a": make_job("a"), "b": replace(make_job("b"), state=JobState.DONE)}
    assert value("viscera_jobs", {"state": "queued"}) == 1
    assert value("viscera_jobs", {"state": "done"}) == 1
    assert value("viscera_oldest_job_age_seconds") == 90
    assert value("viscera_job_store_up") == 1
    assert value("viscera_series_refused") == 3
    assert value("viscera_oldest_series_age_seconds") == 0
    assert value("viscera_oldest_delivery_age_seconds") == 3690


def test_a_store_that_is_down_leaves_the_rest_of_the_page(
    metrics: Metrics, store: MemoryStore
) -> None:
    store.down = 99
    page = generate_latest(metrics.registry).decode()
    assert "viscera_job_store_up 0.0" in page
    assert "viscera_associations_open 0.0" in page
    assert "\nviscera_jobs{" not in page
    assert "\nviscera_oldest_job_age_seconds " not in page


def test_registering_asks_the_store_nothing(store: MemoryStore) -> None:
    store.down = 1
    Metrics().registry.register(JobCollector(store, lambda: NOW))
    assert store.down == 1


@pytest.mark.parametrize("down", [0, 99])
def test_promtool_finds_nothing_in_the_page(
    down: int, metrics: Metrics, store: MemoryStore
) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed")
    store.down = down
    check = subprocess.run(
        ["promtool", "check", "metrics"],
        input=generate_latest(metrics.registry),
        capture_output=True,
    )
    assert (check.returncode, check.stdout, check.stderr) == (0, b"", b"")
