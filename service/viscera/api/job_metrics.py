"""What a scrape says of the job store."""

from collections.abc import Iterable
from datetime import datetime

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from viscera.domain.jobs import JobState
from viscera.errors import StoreUnavailable
from viscera.jobs.protocol import BacklogStore, Clock
from viscera.metrics import job_families


class JobCollector(Collector):
    """Reads what waits when the page is asked for."""

    def __init__(self, store: BacklogStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def describe(self) -> Iterable[Metric]:
        """Name the families without asking the store: registering must not need it."""
        return job_families(None)

    def collect(self) -> Iterable[Metric]:
        """Return the families; only ``viscera_job_store_up 0`` while the store is down."""
        try:
            found = self._store.backlog()
        except StoreUnavailable:
            return job_families(None)
        return job_families(
            {state.value: found.jobs.get(state, 0) for state in JobState},
            found.refused_series,
            {
                "job": self._age_s(found.oldest_job),
                "series": self._age_s(found.oldest_series),
                "delivery": self._age_s(found.oldest_result),
            },
        )

    def _age_s(self, since: datetime | None) -> float:
        return 0.0 if since is None else max(0.0, (self._clock() - since).total_seconds())
