"""The spool: received instances as files. A file is the record, a row only its index.

::

    dicom/<peer>/<hash of series UID>/<hash of SOP UID>.dcm
    grpc/<upload>/<hash of SOP UID>.dcm, upload.json, closed

Paths are built from our own names and from hashes, never from peer text.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from viscera import log
from viscera.domain.sources import Arrival, Channels, Origin
from viscera.errors import ConflictingInstance, InvalidRequest, RejectedInstance, SpoolFull
from viscera.files import durable
from viscera.files.part10 import Header, read_header
from viscera.jobs.spool_files import (
    NAME,
    arrival_of,
    came_ns,
    checked,
    digest_after,
    first_bytes,
    hashed,
    renewed,
    to_ns,
)

_log = log.get(__name__)

Buffer = bytes | bytearray | memoryview
"""What holds the bytes of an instance, or a piece of them."""

_META = "upload.json"
_CLOSED = "closed"
_CHUNK = 1 << 20
_KNOWN_FOLDERS = 4096
_TRIES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What became of one put."""

    arrival: Arrival
    repeated: bool
    """The same bytes were there already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """One gRPC upload as the spool remembers it."""

    upload: str
    principal: str
    model: str
    closed: bool
    channels: Channels = ()


class Spool:
    """Keeps instances durably; safe for threads and for several processes on one folder.

    Parameters
    ----------
    root
        Made where it is missing.
    reserve_bytes
        Free space that an instance must leave.
    clock
        Aware UTC.
    """

    def __init__(self, root: Path, *, reserve_bytes: int, clock: Callable[[], datetime]) -> None:
        self._root = root.absolute()
        self._reserve_bytes = reserve_bytes
        self._clock = clock
        self._durable_folders: set[Path] = set()
        self._root.mkdir(parents=True, exist_ok=True)

    @property
    def root(self) -> Path:
        """Absolute."""
        return self._root

    def put(
        self,
        *,
        origin: Origin,
        principal: str,
        upload: str = "",
        part10: Buffer | Sequence[Buffer],
    ) -> Stored:
        """Store one instance; when this returns, it survives a power cut.

        Parameters
        ----------
        origin
            DICOM or GRPC.
        principal
            Our name of the peer or client.
        upload
            The gRPC upload, opened before; empty for DICOM.
        part10
            The instance in DICOM's file format (preamble, file meta, data set), whole or in
            pieces. The bytes are written as they are.

        Raises
        ------
        InvalidUID, DatasetMismatch
            See `part10.read_header`.
        ConflictingInstance
            If this SOP Instance UID is here with other bytes.
        SpoolFull
            If the disk has no room, or would keep less than the reserve. Nothing stays behind.
        InvalidRequest
            If `principal` or `upload` cannot name a folder, or the upload was never opened.
        """
        pieces = [part10] if isinstance(part10, Buffer) else part10
        buffers = [memoryview(piece).cast("B") for piece in pieces]
        header = read_header(lambda size: first_bytes(buffers, size))
        target = self._root / self._place(origin, principal, upload, header)
        arrival = arrival_of(
            header,
            origin=origin,
            principal=principal,
            upload=upload,
            path=target.relative_to(self._root),
            sha256=digest_after(buffers, header.data_offset),
            size_bytes=sum(len(b) for b in buffers),
            arrived_at=self._clock(),
        )
        with durable.full_disk_named():
            while True:
                new = not target.exists() and self._put_new(target, arrival, buffers)
                if new or self._is_repeat(target, arrival):
                    return Stored(arrival=arrival, repeated=not new)
                # Retention took it a moment ago.

    def open_upload(self, upload: str, principal: str, model: str, channels: Channels = ()) -> None:
        """Remember whose upload this is and what it asks for. Again is nothing."""
        folder = self._upload_folder(upload)
        record = json.dumps({"principal": principal, "model": model, "channels": channels}).encode()
        with durable.full_disk_named():
            self._put_marker(folder / _META, record)

    def close_upload(self, upload: str) -> None:
        """Remember that the client has sent everything. Again is nothing."""
        with durable.full_disk_named():
            self._put_marker(self._upload_folder(upload) / _CLOSED, b"")

    def uploads(self) -> Iterator[Upload]:
        """Give every upload that was opened."""
        for record in sorted(self._root.glob(f"{Origin.GRPC}/*/{_META}")):
            upload = self._read_upload(record.parent.name)
            if upload is not None:
                yield upload

    def is_closed(self, upload: str) -> bool:
        """Whether the client has sent everything."""
        return (self._upload_folder(upload) / _CLOSED).exists()

    def old_uploads(self, before: datetime) -> Iterator[str]:
        """Give the uploads to whose folder nothing was added since `before`."""
        for folder in sorted(self._root.glob(f"{Origin.GRPC}/*")):
            if NAME.fullmatch(folder.name) and 0 < came_ns(folder) < to_ns(before):
                yield folder.name

    def remove_upload(self, upload: str) -> None:
        """Remove an upload that does not count, with all its instances."""
        folder = self._upload_folder(upload)
        # What remains after a crash must still say whose upload it is.
        for file in sorted(folder.glob("*"), key=lambda file: file.name == _META):
            file.unlink(missing_ok=True)
        self._durable_folders.discard(folder)
        with suppress(OSError):  # gone already
            folder.rmdir()

    def uploaded(self, upload: str) -> tuple[Path, ...]:
        """Return what is here of an upload, relative to the root."""
        return self._instances(self._upload_folder(upload))

    def scan(self, known: set[str]) -> Iterator[Arrival]:
        """Remove what dead writers left, then give every instance that has no row.

        Parameters
        ----------
        known
            Paths relative to the root, with forward slashes, that have a row.

        Notes
        -----
        A file that cannot be read is logged and passed over: one bad block must not keep the
        rest of the spool from being worked on.
        """
        removed = durable.remove_leftovers(self._root)
        if removed:
            _log.info("spool_leftovers_removed", files=removed)
        found = (file.relative_to(self._root) for file in self._files())
        yield from self.readable(path for path in found if path.as_posix() not in known)

    def readable(self, paths: Iterable[str | Path]) -> Iterator[Arrival]:
        """Read again what lies at `paths`; what is not there, or unreadable, is passed over."""
        for path in map(Path, paths):
            try:
                yield from self.arrivals((path,))
            except (RejectedInstance, OSError) as error:
                _log.error("spool_file_unreadable", path=str(path), reason=type(error).__name__)

    def arrivals(self, paths: Iterable[str | Path]) -> Iterator[Arrival]:
        """Read again what lies at `paths`; only what is gone is passed over.

        Raises
        ------
        OSError, RejectedInstance
            If one is there and cannot be read.
        """
        for path in map(Path, paths):
            try:
                arrival = self._reread(path)
            except FileNotFoundError:
                continue  # retention was quicker
            if arrival is not None:
                yield arrival

    def held(self, principal: str, series_uid: str) -> tuple[Path, ...]:
        """Return what is here of a series of one DICOM peer, relative to the root."""
        return self._instances(self._root / Origin.DICOM / checked(principal) / hashed(series_uid))

    def adopt(self, paths: Iterable[Path], upload: str) -> Iterator[Arrival]:
        """Put instances of a DICOM peer into an upload as well: links, not copies.

        Parameters
        ----------
        paths
            As `held` gives them.
        upload
            Opened before.

        Raises
        ------
        SpoolFull
            If the disk has no room.
        OSError, RejectedInstance
            If one is not there any more, or cannot be read.
        """
        folder = self._upload_folder(upload)
        with durable.full_disk_named():
            for path in paths:
                with suppress(FileExistsError):
                    os.link(self._root / path, folder / path.name)
            durable.sync_folder(folder)
        links = sorted(file.relative_to(self._root) for file in folder.glob("*.dcm"))
        yield from self.arrivals(links)

    def path(self, arrival_path: str | Path) -> Path:
        """Return the absolute path of an instance."""
        path = self._root / arrival_path
        if not path.resolve().is_relative_to(self._root.resolve()):
            raise InvalidRequest(f"{arrival_path} is not in the spool")
        return path

    def remove(self, paths: Sequence[str | Path], before: datetime | None = None) -> bool:
        """Remove instances, and the folders that are empty then.

        Parameters
        ----------
        before
            Remove none if one of them came, or came again, since then.

        Returns
        -------
        bool
            Whether they were removed.
        """
        files = [self.path(relative) for relative in paths]
        since_ns = to_ns(before) if before else 0
        if before and any(came_ns(file) >= since_ns for file in files):
            return False
        folders = set()
        for path in files:
            path.unlink(missing_ok=True)
            folders.add(path.parent)
        for folder in folders:
            self._remove_if_empty(folder)
        return True

    def _put_new(self, target: Path, arrival: Arrival, buffers: Sequence[memoryview]) -> bool:
        self._require_room(arrival.size_bytes)
        mtime_ns = to_ns(arrival.arrived_at)
        for _ in range(_TRIES - 1):
            self._make_durable(target.parent)
            with suppress(FileNotFoundError):
                return durable.put_new(target, mtime_ns, buffers)
            self._durable_folders.discard(target.parent)
        self._make_durable(target.parent)
        return durable.put_new(target, mtime_ns, buffers)

    def _put_marker(self, target: Path, content: bytes) -> None:
        self._make_durable(target.parent)
        durable.put_new(target, to_ns(self._clock()), [memoryview(content)])

    def _make_durable(self, folder: Path) -> None:
        if folder in self._durable_folders:
            return
        durable.make_folder(self._root, folder)
        if len(self._durable_folders) >= _KNOWN_FOLDERS:
            self._durable_folders.clear()
        self._durable_folders.add(folder)

    def _require_room(self, size_bytes: int) -> None:
        disk = os.statvfs(self._root)
        if disk.f_bavail * disk.f_frsize < size_bytes + self._reserve_bytes:
            raise SpoolFull(
                f"{size_bytes} bytes would leave less than the reserve of {self._reserve_bytes} "
                "on the spool's disk; free space or lower spool.reserve_mb, then send again"
            )

    def _is_repeat(self, target: Path, arrival: Arrival) -> bool:
        """Whether the same bytes are there to stay; other ones are a conflict."""
        try:
            file = target.open("rb")
        except FileNotFoundError:
            return False
        with file:
            header = read_header(lambda size: os.pread(file.fileno(), size, 0))
            file.seek(header.data_offset)
            known = hashlib.file_digest(file, "sha256").hexdigest()
            if known != arrival.sha256:
                raise ConflictingInstance(
                    f"SOP instance {arrival.sop_uid} is here with other bytes; one UID means one "
                    "object (DICOM PS3.3 C.12.1)"
                )
            if not renewed(target, file.fileno(), to_ns(arrival.arrived_at)):
                return False
        # The first writer may not have come to this yet, and we are about to say "stored".
        durable.sync_folder(target.parent)
        return True

    def _place(self, origin: Origin, principal: str, upload: str, header: Header) -> PurePosixPath:
        file = f"{hashed(header.sop_uid)}.dcm"
        if origin is Origin.GRPC:
            if not (self._upload_folder(upload) / _META).exists():
                raise InvalidRequest(f"upload {upload} was not opened")
            return PurePosixPath(Origin.GRPC, upload, file)
        return PurePosixPath(Origin.DICOM, checked(principal), hashed(header.series_uid), file)

    def _upload_folder(self, upload: str) -> Path:
        return self._root / Origin.GRPC / checked(upload)

    def _read_upload(self, upload: str) -> Upload | None:
        folder = self._root / Origin.GRPC / upload
        try:
            record = json.loads((folder / _META).read_bytes())
            principal, model = str(record["principal"]), str(record["model"])
            # Uploads of before there were channels have none.
            channels = tuple((str(name), str(uid)) for name, uid in record.get("channels", ()))
        except (OSError, ValueError, KeyError, TypeError) as error:
            _log.error("upload_unreadable", upload=upload, reason=type(error).__name__)
            return None
        closed = (folder / _CLOSED).exists()
        return Upload(
            upload=upload, principal=principal, model=model, closed=closed, channels=channels
        )

    def _instances(self, folder: Path) -> tuple[Path, ...]:
        return tuple(sorted(file.relative_to(self._root) for file in folder.glob("*.dcm")))

    def _files(self) -> Iterator[Path]:
        yield from self._root.glob(f"{Origin.DICOM}/*/*/*.dcm")
        yield from self._root.glob(f"{Origin.GRPC}/*/*.dcm")

    def _reread(self, path: Path) -> Arrival | None:
        """Rebuild the arrival of one file; None where its upload is unreadable."""
        origin = Origin(path.parts[0])
        principal, upload = path.parts[1], ""
        # The file first: what retention took has no upload either, and that is no fault.
        with (self._root / path).open("rb") as file:
            if origin is Origin.GRPC:
                record = self._read_upload(path.parts[1])
                if record is None:
                    return None
                principal, upload = record.principal, record.upload
            header = read_header(lambda size: os.pread(file.fileno(), size, 0))
            file.seek(header.data_offset)
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            status = os.fstat(file.fileno())
        return arrival_of(
            header,
            origin=origin,
            principal=principal,
            upload=upload,
            path=path,
            sha256=sha256,
            size_bytes=status.st_size,
            arrived_at=datetime.fromtimestamp(status.st_mtime_ns / 1e9, UTC),
        )

    def _remove_if_empty(self, folder: Path) -> None:
        if any(folder.glob("*.dcm")):
            return
        for marker in (_META, _CLOSED):
            (folder / marker).unlink(missing_ok=True)
        self._durable_folders.discard(folder)
        # Not empty: another instance is being written; the last removal takes the folder.
        with suppress(OSError):
            folder.rmdir()
