"""Result files in chunks, checked against what the job store committed."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from viscera.api import messages
from viscera.api.v1 import viscera_pb2 as pb
from viscera.domain.jobs import Job
from viscera.domain.results import ResultFile, ResultKind
from viscera.errors import JobNotFound, RoundTripMismatch

CHUNK_BYTES = 512 * 1024
"""gRPC clients take 4 MiB unless told otherwise; the proto promises less than 1 MiB."""


def file_of(job: Job, kind: ResultKind) -> ResultFile:
    """Return the job's file of one kind.

    Raises
    ------
    JobNotFound
        If there is none: the job is not done, or its results were removed by age.
    """
    for file in job.results:
        if file.kind is kind:
            return file
    raise JobNotFound(f"job {job.id} is {job.state.value} and has no {kind.value} to fetch")


def chunks(root: Path, job: Job, file: ResultFile) -> Iterator[pb.ResultChunk]:
    """Yield `file` piece by piece; the last one only if all were what was committed.

    Parameters
    ----------
    root
        Folder that ``file.path`` is relative to.

    Raises
    ------
    JobNotFound
        If the file is gone.
    RoundTripMismatch
        If its bytes are not the committed ones.
    """
    digest, offset = hashlib.sha256(), 0
    info: pb.ResultInfo | None = messages.result_info(file)
    for data, last in _pieces(root / file.path, job):
        digest.update(data)
        if last and digest.hexdigest() != file.sha256:
            raise RoundTripMismatch(
                f"{file.kind.value} of job {job.id} on disk is not what the job committed; "
                "discard what came and run the job again with RetryJob"
            )
        yield pb.ResultChunk(job_id=job.id, info=info, offset=offset, data=data, last=last)
        offset, info = offset + len(data), None


def _pieces(path: Path, job: Job) -> Iterator[tuple[bytes, bool]]:
    try:
        stream = path.open("rb")
    except FileNotFoundError:
        raise JobNotFound(
            f"the results of job {job.id} were removed; RetryJob makes them again while its "
            "instances are kept"
        ) from None
    with stream:
        data = stream.read(CHUNK_BYTES)
        while True:
            following = stream.read(CHUNK_BYTES)
            yield data, not following
            if not following:
                return
            data = following
