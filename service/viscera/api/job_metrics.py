"""What a scrape says of the job store."""

from collections.abc import Iterable

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from viscera.domain.jobs import JobState
from viscera.errors import StoreUnavailable
from viscera.jobs.protocol import Clock, QueryStore
from viscera.metrics import job_families


class JobCollector(Collector):
    """Reads jobs by state and the oldest job's age when the page is asked for."""

    def __init__(self, store: QueryStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def describe(self) -> Iterable[Metric]:
        """Name the families without asking the store: registering must not need it."""
        return job_families(None)

    def collect(self) -> Iterable[Metric]:
        """Return the families; only ``viscera_job_store_up 0`` while the store is down."""
        try:
            counts, oldest = self._store.counts(), self._store.oldest_unfinished()
        except StoreUnavailable:
            return job_families(None)
        age_s = 0.0 if oldest is None else (self._clock() - oldest).total_seconds()
        states = {state.value: counts.get(state, 0) for state in JobState}
        return job_families(states, max(0.0, age_s))
