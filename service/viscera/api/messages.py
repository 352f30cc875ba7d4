"""Domain values as messages. Protobuf stops in this room."""

from collections.abc import Sequence
from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp

from viscera.api.v1 import viscera_pb2 as pb
from viscera.domain import models
from viscera.domain.jobs import Choice, Job, JobState
from viscera.domain.results import Decision, ResultFile, ResultKind, Verdict
from viscera.domain.sources import Submission
from viscera.errors import InvalidRequest, ServiceError
from viscera.jobs.protocol import JobEvent

JOB_STATES = {
    JobState.QUEUED: pb.JOB_STATE_QUEUED,
    JobState.RUNNING: pb.JOB_STATE_RUNNING,
    JobState.DONE: pb.JOB_STATE_DONE,
    JobState.REFUSED: pb.JOB_STATE_REFUSED,
    JobState.FAILED: pb.JOB_STATE_FAILED,
    JobState.CANCELLED: pb.JOB_STATE_CANCELLED,
    JobState.SUPERSEDED: pb.JOB_STATE_SUPERSEDED,
}
RESULT_KINDS = {
    ResultKind.SEG: pb.RESULT_KIND_SEG,
    ResultKind.SR: pb.RESULT_KIND_SR,
    ResultKind.QC: pb.RESULT_KIND_QC,
    ResultKind.VOLUMES: pb.RESULT_KIND_VOLUMES,
}
"""In the order of sending. LABELS is no job's: `viscera segment` alone writes it."""
DECISIONS = {
    Decision.DELIVER: pb.DECISION_DELIVER,
    Decision.FLAG: pb.DECISION_FLAG,
    Decision.WITHHOLD: pb.DECISION_WITHHOLD,
}
GRADES = {
    models.Grade.DEMONSTRATION: pb.GRADE_DEMONSTRATION,
    models.Grade.RESEARCH: pb.GRADE_RESEARCH,
    models.Grade.VALIDATED: pb.GRADE_VALIDATED,
}
_MEDIA_TYPES = {
    ResultKind.SEG: "application/dicom",
    ResultKind.SR: "application/dicom",
    ResultKind.QC: "image/png",
    ResultKind.VOLUMES: "application/json",
}


def job_message(job: Job) -> pb.Job:
    """Return `job` as clients see it."""
    return pb.Job(
        id=job.id,
        submission_id=job.submission_id,
        state=JOB_STATES[job.state],
        model=job.model,
        study_uid=job.study_uid,
        series_uid=job.series_uid,
        submission_version=job.submission_version,
        parent_id=job.parent_id or "",
        frames=max((len(stack) for stack in job.stacks), default=0),
        attempts=job.attempts,
        stage=job.stage,
        progress=job.progress,
        engine=job.engine,
        created_at=_timestamp(job.created_at),
        finished_at=_timestamp(job.finished_at),
        error=_error(job.error_reason, job.error_message),
        verdict=None if job.verdict is None else _verdict(job.verdict),
        results=[result_info(file) for file in sendable(job.results)],
    )


def submission_message(submission: Submission, refusal: ServiceError | None) -> pb.Job:
    """Return what a handle shows that has no job: PENDING, or REFUSED with the reason."""
    return pb.Job(
        id=submission.id,
        submission_id=submission.id,
        state=pb.JOB_STATE_PENDING if refusal is None else pb.JOB_STATE_REFUSED,
        model=submission.model,
        study_uid=submission.study_uid,
        series_uid=submission.series_uid,
        submission_version=submission.version,
        created_at=_timestamp(submission.opened_at),
        error=None if refusal is None else _error(refusal.reason, str(refusal)),
    )


def sendable(files: Sequence[ResultFile]) -> list[ResultFile]:
    """Return the files that clients get: SEG, SR, QC, volumes."""
    order = list(RESULT_KINDS)
    return sorted(
        (file for file in files if file.kind in RESULT_KINDS), key=lambda f: order.index(f.kind)
    )


def result_info(file: ResultFile) -> pb.ResultInfo:
    """Return what is known of a file without its bytes."""
    return pb.ResultInfo(
        kind=RESULT_KINDS[file.kind],
        size_bytes=file.size_bytes,
        sha256=file.sha256,
        media_type=_MEDIA_TYPES[file.kind],
        sop_class_uid=file.sop_class_uid,
        sop_instance_uid=file.sop_uid,
    )


def progress_message(event: JobEvent) -> pb.Progress:
    """Return one event of a job."""
    return pb.Progress(
        job_id=event.job_id,
        sequence=event.sequence,
        at=_timestamp(event.at),
        state=JOB_STATES[event.state],
        stage=event.stage,
        progress=event.progress,
        message=event.message,
    )


def planned_message(jobs: Sequence[Job], choices: Sequence[Choice]) -> pb.Planned:
    """Return what closing a submission decided."""
    return pb.Planned(
        job_ids=[job.id for job in jobs],
        choices=[
            pb.Choice(
                what=choice.what,
                because=choice.because,
                frames=choice.frames,
                model=choice.model,
                reason=choice.reason,
            )
            for choice in choices
        ],
    )


def model_message(model: models.Model) -> pb.Model:
    """Return a model as clients see it."""
    return pb.Model(
        name=model.name,
        version=model.version,
        grade=GRADES[model.grade],
        digest=model.digest,
        modalities=model.modalities,
        organs=[_organ(label) for label in model.labels],
        not_segmented=[_organ(label) for label in model.not_segmented],
        spacing_mm=model.spacing_mm or (),
        channels=model.channels,
        intended_use=model.intended_use,
        licence=model.licence,
    )


def job_state(value: int) -> JobState:
    """Return the domain's state of a message's.

    Raises
    ------
    InvalidRequest
        If no job can be in it.
    """
    for state, known in JOB_STATES.items():
        if known == value:
            return state
    raise InvalidRequest(f"state {value}: no job is ever in it; leave `states` empty for all")


def result_kind(value: int) -> ResultKind:
    """Return the domain's kind of a message's.

    Raises
    ------
    InvalidRequest
        If it is unknown or unspecified.
    """
    for kind, known in RESULT_KINDS.items():
        if known == value:
            return kind
    raise InvalidRequest(f"result kind {value}: expected one of SEG, SR, QC, VOLUMES")


def _timestamp(at: datetime | None) -> Timestamp | None:
    if at is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(at)
    return stamp


def _error(reason: str, message: str) -> pb.JobError | None:
    return pb.JobError(reason=reason, message=message) if reason else None


def _verdict(verdict: Verdict) -> pb.Verdict:
    return pb.Verdict(decision=DECISIONS[verdict.decision], reasons=verdict.reasons)


def _organ(label: models.Label) -> pb.Organ:
    return pb.Organ(
        value=label.value,
        name=label.name,
        title=label.title,
        type=_code(label.type),
        laterality=None if label.laterality is None else _code(label.laterality),
    )


def _code(code: models.Code) -> pb.Code:
    return pb.Code(value=code.value, scheme=code.scheme, meaning=code.meaning)
