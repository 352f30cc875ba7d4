"""Files as a closed submission, for tests that run a pipeline without a job store."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from viscera.domain.sources import Origin, Submission, SubmissionState

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def submission_of(paths: Sequence[Path]) -> Submission:
    """Return `paths` as one closed series."""
    return Submission(
        id="1",
        origin=Origin.FILE,
        principal="local",
        series_uid="",
        study_uid="",
        version=1,
        state=SubmissionState.CLOSED,
        model="",
        opened_at=NOON,
        paths=tuple(paths),
    )
