"""Which destinations take which files of a job."""

from viscera.config import DeliverSettings, Destination
from viscera.domain.jobs import Job
from viscera.domain.models import Grade
from viscera.domain.results import Decision, ResultKind, Verdict
from viscera.domain.sources import Origin

_DICOM = (ResultKind.SEG, ResultKind.SR)


def destinations_for(
    job: Job, grade: Grade, verdict: Verdict, settings: DeliverSettings
) -> dict[str, tuple[ResultKind, ...]]:
    """Return the destinations of a result by name, each with the kinds of file that it takes.

    A withheld result goes nowhere. A gRPC client gets its result on its stream, so its jobs go to
    a destination only where `from_peers` names the principal.

    Parameters
    ----------
    job
        Its origin and principal count.
    grade
        Of the model: below validated, a dicom destination must allow it; a folder need not.
    """
    if verdict.decision is Decision.WITHHOLD:
        return {}
    return {
        destination.name: _DICOM if destination.kind == "dicom" else tuple(ResultKind)
        for destination in settings.destinations
        if _takes_from(destination, job) and _takes_grade(destination, grade)
    }


def _takes_from(destination: Destination, job: Job) -> bool:
    if destination.from_peers:
        return job.principal in destination.from_peers
    return job.origin is Origin.DICOM


def _takes_grade(destination: Destination, grade: Grade) -> bool:
    trusted = grade is Grade.VALIDATED or destination.allow_unvalidated
    return trusted or destination.kind == "folder"
