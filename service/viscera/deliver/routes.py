"""Which destinations take which files of a job."""

from viscera.config import DeliverSettings, Destination
from viscera.domain.jobs import Address, Job
from viscera.domain.models import Grade
from viscera.domain.results import Decision, ResultKind, Verdict
from viscera.domain.sources import Origin

_DICOM = (ResultKind.SEG, ResultKind.SR)


def addresses_of(
    job: Job, grade: Grade, verdict: Verdict, settings: DeliverSettings
) -> tuple[Address, ...]:
    """Return the destinations that a result is meant for; a barred one says why.

    A withheld result goes nowhere. A gRPC client gets its result on its stream, so its jobs are
    meant for a destination only where `from_peers` names the principal.

    Parameters
    ----------
    job
        Its origin and principal count.
    grade
        Of the model: below validated, a dicom destination must allow it; a folder need not.
    """
    return tuple(
        Address(
            destination=destination.name,
            kinds=_DICOM if destination.kind == "dicom" else tuple(ResultKind),
            barred=_bar(destination, grade, verdict),
        )
        for destination in settings.destinations
        if _takes_from(destination, job)
    )


def _takes_from(destination: Destination, job: Job) -> bool:
    if destination.from_peers:
        return job.principal in destination.from_peers
    return job.origin is Origin.DICOM


def _bar(destination: Destination, grade: Grade, verdict: Verdict) -> str:
    """Return why nothing goes there; empty where it does."""
    trusted = grade is Grade.VALIDATED or destination.allow_unvalidated
    if not trusted and destination.kind == "dicom":
        return (
            f"the model's grade is {grade}, and this destination does not say "
            "allow_unvalidated = true"
        )
    if verdict.decision is Decision.WITHHOLD:
        return "the verdict withholds it"
    return ""
