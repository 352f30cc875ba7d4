"""Jobs, deliveries and submissions as lines for people."""

from collections.abc import Iterator, Sequence

from viscera.domain.jobs import Choice, Delivery, Job, JobState
from viscera.domain.sources import Submission


def describe_job(job: Job, deliveries: Sequence[Delivery]) -> Iterator[str]:
    """Yield one job as lines for people."""
    yield f"job         {job.id}"
    yield f"state       {job.state}{f' ({job.stage})' if job.state is JobState.RUNNING else ''}"
    yield f"series      {job.series_uid} version {job.submission_version} from {job.principal}"
    yield f"model       {job.model}{f' on {job.engine}' if job.engine else ''}"
    yield f"created     {job.created_at:%Y-%m-%d %H:%M:%S} UTC, attempts {job.attempts}"
    if job.error_reason:
        yield f"error       {job.error_reason}: {job.error_message}"
    if job.verdict is not None:
        yield f"verdict     {job.verdict.decision}"
        for reason in job.verdict.reasons:
            yield f"            {reason}"
    for file in job.results:
        yield f"result      {file.kind:<9}{file.path}  {file.size_bytes} bytes"
    for one in deliveries:
        yield describe_delivery(one)


def describe_submission(
    submission: Submission, choices: Sequence[Choice], refusal: str
) -> Iterator[str]:
    """Yield what was received of a series, and what was decided."""
    series_uid = submission.series_uid or "no series yet"
    yield f"{series_uid}  {submission.opened_at:%Y-%m-%d %H:%M:%S} UTC"
    yield (
        f"  version {submission.version} from {submission.principal}: {submission.state}, "
        f"{len(submission.paths)} instances"
    )
    if refusal:
        yield f"  refused  {refusal}"
    for choice in choices:
        model = f" with {choice.model}" if choice.model else ""
        yield f"  {choice.what:<9}{choice.frames} frames{model}: {choice.because}"


def describe_delivery(one: Delivery) -> str:
    """Return one delivery as a line for people."""
    error = f": {one.last_error}" if one.last_error else ""
    return f"delivery    {one.file.kind:<9}to {one.destination}: {one.state}{error}"
