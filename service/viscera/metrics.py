"""All metrics. Labels come from closed sets; never a UID, a name or a peer's AE title."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily

from viscera.errors import (
    ModelNotFound,
    ModelRefused,
    RejectedInstance,
    ServiceError,
    SpoolFull,
    StorageUnavailable,
    UnusableSeries,
)

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600)
MILLILITRES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 1500, 2000, 3000)

STAGES = (
    "receive",
    "stack",
    "decode",
    "prepare",
    "segment",
    "postprocess",
    "measure",
    "encode",
    "proof",
    "deliver",
)
INSTANCE_OUTCOMES = ("stored", "repeated", "dropped", "rejected")
USUAL_ENDS = ("released", "aborted_by_peer", "connection_closed", "stopped")
REJECTIONS = (
    "called_ae_title",
    "calling_ae_title",
    "source_network",
    "certificate",
    "max_associations",
    "max_associations_per_peer",
)
ASSOCIATION_ENDS = (
    *USUAL_ENDS,
    *REJECTIONS,
    # Turned away at connection
    "max_connections",
    "max_per_address",
    "tls_failed",
    "tls_too_slow",
    # Ended by us
    "silent",
    "idle",
    "pdu_too_slow",
    "pdu_too_long",
    "pdu_invalid",
    "pdu_unexpected",
    "message_invalid",
    "message_too_large",
    "answers_not_awaited",
    "broken",
)
STACK_DECISIONS = ("segment", "wait", "ignore", "refuse")
DELIVERY_OUTCOMES = ("delivered", "postponed", "failed")
DISKS = ("spool", "results")
COMMITMENT_OUTCOMES = (
    # Requests
    "asked",
    "not_offered",
    "refused",
    "silent",
    # Reports
    "committed",
    "not_committed",
    "unknown_transaction",
    "invalid",
)

_REJECTED_BY_US = (SpoolFull.__name__, StorageUnavailable.__name__, ServiceError.__name__)


class Metrics:
    """One role's metrics, on a registry of their own (a fresh one per test)."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self.stage_seconds = Histogram(
            "viscera_stage_seconds",
            "Time of one stage of one job; engine is empty outside `segment`.",
            ("stage", "engine"),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.series_seconds = Histogram(
            "viscera_series_seconds",
            "From the first instance of a series to its committed result.",
            ("modality",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.instances = Counter(
            "viscera_instances_total",
            "DICOM instances received, by outcome and error class.",
            ("outcome", "reason"),
            registry=self.registry,
        )
        self.associations_open = Gauge(
            "viscera_associations_open", "DICOM associations open now.", registry=self.registry
        )
        self.associations = Counter(
            "viscera_associations_total",
            "DICOM connections that ended, or were turned away, by the reason.",
            ("end",),
            registry=self.registry,
        )
        self.certificate_expiry = Gauge(
            "viscera_certificate_expiry_timestamp_seconds",
            "When the first certificate of a setting's file in force ends, in seconds since 1970.",
            ("file",),
            registry=self.registry,
        )
        self.engine_fallbacks = Counter(
            "viscera_engine_fallbacks_total",
            "Demotions to a slower engine.",
            ("engine",),
            registry=self.registry,
        )
        self.engine_build = Gauge(
            "viscera_engine_build_ratio",
            "How far the build of a faster engine is, 0 to 1; another one serves meanwhile.",
            ("engine",),
            registry=self.registry,
        )
        self.deliveries = Counter(
            "viscera_deliveries_total",
            "Attempts to deliver one object, by outcome.",
            ("outcome",),
            registry=self.registry,
        )
        self.commitments = Counter(
            "viscera_commitments_total",
            "Requests for storage commitment and reports on them, by outcome.",
            ("outcome",),
            registry=self.registry,
        )
        self.stacks = Counter(
            "viscera_stacks_total",
            "Stacks of slices by what was decided; a series that is refused whole counts as one.",
            ("decision", "reason"),
            registry=self.registry,
        )
        self.organ_volume = Histogram(
            "viscera_organ_volume_milliliters",
            "Volumes of found organs.",
            ("organ",),
            buckets=MILLILITRES,
            registry=self.registry,
        )
        self.organ_flags = Counter(
            "viscera_organ_flags_total",
            "Organs that a check found amiss, by what.",
            ("flag",),
            registry=self.registry,
        )
        self._begin_at_zero()

    def _begin_at_zero(self) -> None:
        """Make the counters that alerts watch: one that appears at 1 has not increased."""
        for outcome in DELIVERY_OUTCOMES:
            self.deliveries.labels(outcome)
        for outcome in COMMITMENT_OUTCOMES:
            self.commitments.labels(outcome)
        for end in ASSOCIATION_ENDS:
            self.associations.labels(end)
        for error in (UnusableSeries, RejectedInstance, ModelNotFound, ModelRefused):
            for reason in _names(error):
                self.stacks.labels("refuse", reason)
        for reason in (*_names(RejectedInstance), *_REJECTED_BY_US):
            self.instances.labels("rejected", reason)

    @contextmanager
    def stage(self, stage: str, engine: str = "") -> Iterator[None]:
        """Observe how long the block took, also where it failed."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.stage_seconds.labels(stage, engine).observe(time.monotonic() - start)


def _names(error: type[Exception]) -> Iterator[str]:
    yield error.__name__
    for below in error.__subclasses__():
        yield from _names(below)


OLDEST = {
    "job": "Age of the oldest job that is queued or running; 0 where there is none.",
    "series": "How long the oldest complete series has waited to be looked at; 0 where none does.",
    "delivery": "How long ago the job ended whose results have waited longest to be sent; 0 where"
    " none wait.",
}


def job_families(
    counts: Mapping[str, int] | None,
    refused_series: int = 0,
    ages_s: Mapping[str, float] | None = None,
) -> tuple[GaugeMetricFamily, ...]:
    """Return what a scrape says of the job store; it is asked then, not counted along.

    Parameters
    ----------
    counts
        Jobs by state; None while the store does not answer: no number is better than an old one.
    refused_series
        Series and uploads that were refused whole.
    ages_s
        By the names of `OLDEST`.
    """
    up = GaugeMetricFamily("viscera_job_store_up", "1 if the job store answered this scrape.")
    jobs = GaugeMetricFamily("viscera_jobs", "Jobs in the store by state.", labels=("state",))
    refused = GaugeMetricFamily(
        "viscera_series_refused", "Series and uploads in the store that were refused whole."
    )
    ages = {
        name: GaugeMetricFamily(f"viscera_oldest_{name}_age_seconds", meaning)
        for name, meaning in OLDEST.items()
    }
    up.add_metric((), float(counts is not None))
    if counts is not None:
        for state, number in counts.items():
            jobs.add_metric((state,), number)
        refused.add_metric((), refused_series)
        for name, family in ages.items():
            family.add_metric((), (ages_s or {}).get(name, 0.0))
    return up, jobs, refused, *ages.values()


def disk_family(free_bytes: Mapping[str, int]) -> GaugeMetricFamily:
    """Return how much room there is.

    Parameters
    ----------
    free_bytes
        By `DISKS`.
    """
    family = GaugeMetricFamily(
        "viscera_disk_free_bytes",
        "Room on the disk of a folder, as far as we may use it.",
        labels=("folder",),
    )
    for folder, free in free_bytes.items():
        family.add_metric((folder,), free)
    return family
