"""A client's stream of chunks becomes instances in the spool."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import grpc

from viscera import log
from viscera.api.v1 import viscera_pb2 as pb
from viscera.config import GrpcSettings
from viscera.domain.sources import Arrival, Channels, Origin
from viscera.errors import (
    ClientSilent,
    InvalidRequest,
    RejectedInstance,
    ServiceError,
    StorageUnavailable,
    StoreUnavailable,
)
from viscera.files.part10 import is_uid
from viscera.jobs.leftovers import ABANDONED
from viscera.jobs.protocol import IntakeStore, QueryStore
from viscera.jobs.spool import Spool

_log = log.get(__name__)
_MB = 1_000_000

Requests = Iterator[pb.SegmentSeriesRequest]


class DoorStore(IntakeStore, QueryStore, Protocol):
    """What this door asks of the job store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one upload may hold."""

    instance_bytes: int
    upload_bytes: int
    chunk_mb: int = 16

    @classmethod
    def of(cls, settings: GrpcSettings) -> "Limits":
        """Return the settings' limits."""
        return cls(
            instance_bytes=settings.max_instance_mb * _MB,
            upload_bytes=settings.max_upload_mb * _MB,
            chunk_mb=settings.max_message_mb,
        )


def read_header(requests: Requests) -> pb.SeriesHeader:
    """Return the stream's first message.

    Raises
    ------
    InvalidRequest
        If it is not a header.
    """
    first = next(requests, None)
    if first is None or first.WhichOneof("part") != "header":
        seen = "nothing" if first is None else (first.WhichOneof("part") or "an empty message")
        raise InvalidRequest(f"the stream begins with {seen}; send the header first")
    return first.header


def channels_of(header: pb.SeriesHeader) -> Channels:
    """Return which series is which channel; empty where the upload is one series.

    Raises
    ------
    InvalidRequest
        If one is named twice, or is no UID.
    """
    channels = tuple((one.name, one.series_uid) for one in header.channels)
    for named in zip(*channels, strict=True):
        if len(set(named)) != len(named):
            raise InvalidRequest(
                f"the header's channels name one twice: {', '.join(named)}; each channel takes a"
                " series of its own"
            )
    if not all(name and is_uid(uid) for name, uid in channels):
        raise InvalidRequest("each of the header's channels has a name and a series UID")
    return channels


def split(requests: Requests, limits: Limits) -> Iterator[list[bytes]]:
    """Yield the pieces of each instance, once its last one is there.

    Raises
    ------
    InvalidRequest
        At a second header, an empty instance, a passed limit, or an end within an instance.
    """
    pieces: list[bytes] = []
    held = total = 0
    for request in requests:
        if request.WhichOneof("part") != "chunk":
            raise InvalidRequest("after the header every message must hold a chunk")
        chunk = request.chunk
        _check_chunk(len(chunk.data), limits.chunk_mb)
        pieces.append(chunk.data)
        held += len(chunk.data)
        total += len(chunk.data)
        _check_size(held, limits.instance_bytes, "an instance", "grpc.max_instance_mb")
        _check_size(total, limits.upload_bytes, "the upload", "grpc.max_upload_mb")
        if chunk.last:
            yield pieces
            pieces, held = [], 0
    if pieces:
        raise InvalidRequest(
            f"the stream ended within an instance, after {held} bytes of it; mark the last chunk "
            "of every instance with last = true"
        )


def _check_chunk(size: int, limit_mb: int) -> None:
    if size > limit_mb * _MB:
        raise InvalidRequest(
            f"a chunk has {size} bytes; send chunks of at most {limit_mb} MB (grpc.max_message_mb)"
        )


def _check_size(size: int, limit: int, what: str, setting: str) -> None:
    if size > limit:
        raise InvalidRequest(f"{what} has more than {limit} bytes, the limit of {setting}")


@dataclass(slots=True, kw_only=True)
class Upload:
    """One upload on its way into the spool. It counts from `complete` on, and not before."""

    handle: str
    principal: str
    declared: int
    """Instances that the header announced; 0: none."""
    channels: Channels = ()
    """Which series is which channel; empty: the upload holds one series."""
    spool: Spool
    store: IntakeStore
    sent: int = 0
    closed: bool = False
    """Whether it counts, on disk."""
    arrivals: dict[str, Arrival] = field(default_factory=dict)
    """By SOP Instance UID."""

    @property
    def size_bytes(self) -> int:
        """Of the different instances."""
        return sum(arrival.size_bytes for arrival in self.arrivals.values())

    def open(self, model: str) -> None:
        """Make the upload known, on disk first."""
        self.spool.open_upload(self.handle, self.principal, model, self.channels)
        try:
            self.store.open_upload(self.handle, self.principal, model, self.channels)
        except Exception:
            self.spool.remove_upload(self.handle)
            raise

    @contextmanager
    def discarded_unless_closed(self) -> Iterator[None]:
        """Discard the upload where the block, or its caller, ends before it counts."""
        try:
            yield
        except BaseException as error:
            if not self.closed:
                self.discard(_refusal(error))
            raise

    def discard(self, refusal: str) -> None:
        """Refuse it, and give its room on the disk back: a handle is never used again."""
        try:
            self.store.refuse_upload(self.handle, refusal)
        except StoreUnavailable:
            _log.warning("upload_not_refused")  # the sweep does it
        with suppress(OSError):  # and this too
            self.spool.remove_upload(self.handle)
        reason = refusal.partition(":")[0]
        _log.info("upload_discarded", instances=len(self.arrivals), reason=reason)

    def take(self, requests: Requests, limits: Limits) -> None:
        """Put every instance of the stream into the spool, each durable before the next.

        A connection that breaks, or falls silent, after the last declared instance ends the stream
        well: all that was announced is here.

        Raises
        ------
        InvalidRequest
            If the stream makes no sense, or its count is not the declared one.
        RejectedInstance
            If an instance cannot be taken.
        SpoolFull
            If the disk has no room.
        grpc.RpcError, ClientSilent
            If the client went before, or sends no more.
        """
        try:
            for pieces in split(requests, limits):
                self._put(pieces)
        except (grpc.RpcError, ClientSilent):
            if not self.declared or self.sent != self.declared:
                raise
        if not self.arrivals:
            raise InvalidRequest("the stream ended without an instance")
        self._require_channels()
        if self.declared and self.sent != self.declared:
            raise InvalidRequest(
                f"{self.sent} instances came, the header declared {self.declared}; send all again"
            )

    def adopt(self, paths: Sequence[Path]) -> None:
        """Take what the spool holds of a PACS series: all of it.

        Raises
        ------
        SpoolFull
            If the disk has no room.
        StorageUnavailable
            If one of `paths` is not there any more, or cannot be read.
        """
        wanted = {path.name for path in paths}
        try:
            adopted = list(self.spool.adopt(paths, self.handle))
        except (OSError, RejectedInstance) as error:
            raise _not_adopted() from error
        if not wanted <= {one.path.name for one in adopted}:
            raise _not_adopted()
        self.arrivals = {one.sop_uid: one for one in adopted}

    def record(self) -> None:
        """Give the store the rows."""
        order = {uid: k for k, (_, uid) in enumerate(self.channels)}
        # The first one names the upload's series: the first channel's.
        arrivals = sorted(self.arrivals.values(), key=lambda one: order.get(one.series_uid, 0))
        self.store.record_arrivals(tuple(arrivals))

    def complete(self) -> None:
        """Close the upload, on disk first: a crash from here on loses nothing.

        Raises
        ------
        StoreUnavailable
            If the store does not answer: `recovery` tells it later.
        IncompleteSeries
            If the upload was refused meanwhile.
        """
        self.spool.close_upload(self.handle)
        self.closed = True
        self.record()
        self.store.close_upload(self.handle)
        _log.info("upload_complete", instances=len(self.arrivals), size_bytes=self.size_bytes)

    def _put(self, pieces: list[bytes]) -> None:
        self.sent += 1
        stored = self.spool.put(
            origin=Origin.GRPC, principal=self.principal, upload=self.handle, part10=pieces
        )
        arrival = stored.arrival
        self.arrivals[arrival.sop_uid] = arrival
        first = next(iter(self.arrivals.values()))
        announced = [uid for _, uid in self.channels] or [first.series_uid]
        if arrival.series_uid not in announced:
            raise InvalidRequest(
                f"instance {arrival.sop_uid} is of series {arrival.series_uid}, the upload is of "
                f"{', '.join(announced)}; send each series in a call of its own, or name it in the "
                "header's channels"
            )

    def _require_channels(self) -> None:
        """Refuse an upload that lacks a series which its header announced."""
        there = {arrival.series_uid for arrival in self.arrivals.values()}
        missing = [f"{uid} (channel {name})" for name, uid in self.channels if uid not in there]
        if missing:
            raise InvalidRequest(
                f"no instance came of series {', '.join(missing)}; send the series of every channel"
            )


def _not_adopted() -> StorageUnavailable:
    return StorageUnavailable(
        "an instance of the series is not in the spool any more, or cannot be read; ask again"
    )


def _refusal(error: BaseException) -> str:
    if isinstance(error, ServiceError):
        return f"{error.reason}: {error}"
    if isinstance(error, grpc.RpcError | GeneratorExit):
        return ABANDONED
    return f"ServiceError: internal error ({type(error).__name__}); the service's log has more"
