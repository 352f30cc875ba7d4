"""A small client: send the files of one series, get its results."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import grpc

from viscera.api.v1 import viscera_pb2 as pb
from viscera.api.v1.viscera_pb2_grpc import SegmentationServiceStub
from viscera.errors import RoundTripMismatch

_CHUNK_BYTES = 512 * 1024
_SUFFIXES = {
    pb.RESULT_KIND_SEG: "seg.dcm",
    pb.RESULT_KIND_SR: "sr.dcm",
    pb.RESULT_KIND_QC: "qc.png",
    pb.RESULT_KIND_VOLUMES: "volumes.json",
}


def segment_files(
    channel: grpc.Channel,
    paths: Sequence[Path],
    model: str = "",
    token: str = "",
    channels: Mapping[str, str] | None = None,
) -> Iterator[pb.SegmentSeriesResponse]:
    """Send the DICOM files of one series; yield the service's answers as they come.

    Parameters
    ----------
    model
        ``name`` or ``name/version``; empty: the service chooses.
    token
        Shown as ``authorization: Bearer``; empty: none.
    channels
        By the model's name of it, the UID of the series that is fed to it; None: one series.

    Raises
    ------
    grpc.RpcError
        With the details that the proto describes.
    """
    stub = SegmentationServiceStub(channel)  # type: ignore[no-untyped-call]
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    answers: Iterator[pb.SegmentSeriesResponse] = stub.SegmentSeries(
        requests(paths, model, channels), metadata=metadata
    )
    return answers


def segment_by_uid(
    channel: grpc.Channel,
    peer: str,
    study_uid: str,
    series_uid: str,
    model: str = "",
    token: str = "",
) -> Iterator[pb.SegmentByUidResponse]:
    """Have one series of a PACS segmented; yield the service's answers as they come.

    Parameters
    ----------
    peer
        The service's name of the PACS.
    model, token
        As in :func:`segment_files`.

    Raises
    ------
    grpc.RpcError
        With the details that the proto describes.
    """
    stub = SegmentationServiceStub(channel)  # type: ignore[no-untyped-call]
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    request = pb.SegmentByUidRequest(
        peer=peer, study_uid=study_uid, series_uid=series_uid, model=model
    )
    answers: Iterator[pb.SegmentByUidResponse] = stub.SegmentByUid(request, metadata=metadata)
    return answers


def requests(
    paths: Sequence[Path], model: str = "", channels: Mapping[str, str] | None = None
) -> Iterator[pb.SegmentSeriesRequest]:
    """Yield what a client of SegmentSeries sends: the header, then every file in chunks."""
    named = [pb.ChannelSeries(name=k, series_uid=v) for k, v in (channels or {}).items()]
    header = pb.SeriesHeader(model=model, instances=len(paths), channels=named)
    yield pb.SegmentSeriesRequest(header=header)
    for path in paths:
        with path.open("rb") as stream:
            data = stream.read(_CHUNK_BYTES)
            while True:
                following = stream.read(_CHUNK_BYTES)
                chunk = pb.InstanceChunk(data=data, last=not following)
                yield pb.SegmentSeriesRequest(chunk=chunk)
                if not following:
                    break
                data = following


def save_results(chunks: Iterable[pb.ResultChunk], folder: Path) -> tuple[Path, ...]:
    """Write what `chunks` carry to ``folder/JOB-seg.dcm`` and so on; return the paths.

    Raises
    ------
    RoundTripMismatch
        If a file came with other bytes than its digest says; it is removed.
    """
    written, info, path = [], pb.ResultInfo(), folder
    for chunk in chunks:
        if chunk.HasField("info"):
            info = chunk.info
            path = folder / f"{chunk.job_id}-{_SUFFIXES[info.kind]}"
            path.unlink(missing_ok=True)
        with path.open("ab") as stream:
            stream.write(chunk.data)
        if chunk.last:
            _require_digest(path, info.sha256)
            written.append(path)
    return tuple(written)


def _require_digest(path: Path, sha256: str) -> None:
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != sha256:
        path.unlink()
        raise RoundTripMismatch(f"{path.name}: SHA-256 {found}, the service announced {sha256}")
