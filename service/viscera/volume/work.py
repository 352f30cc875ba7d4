"""What travels between the pool and its children: JSON and open files, never pixels."""

import json
from dataclasses import asdict, dataclass
from typing import Self


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameWork:
    """Frames of one file to decode, and the slices that they become."""

    path: str
    sop_uid: str
    modality: str
    rows: int
    columns: int
    frames: tuple[tuple[int, int], ...]
    """(frame number from 1, slice of the volume from 0)."""
    max_missing_share: float = 0.0
    """Of a frame's pixels, at the end of a truncated file; more is an error."""

    def to_json(self) -> bytes:
        """Return it as one message."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, message: bytes) -> Self:
        """Return what `to_json` wrote."""
        fields = json.loads(message)
        fields["frames"] = tuple((frame, slot) for frame, slot in fields["frames"])
        return cls(**fields)


@dataclass(frozen=True, slots=True)
class DecodedSlice:
    """Where a child put one slice."""

    slot: int
    whole: bool
    """Into the int16 canvas; else into the float32 one."""
    padded: bool
    """Its mask of padding was written too."""
    missing: int = 0
    """Pixels that were not in the file."""


MAX_MESSAGE = 1 << 16
"""Bytes of one message; `MAX_FRAMES` of work stay far below."""

MAX_FRAMES = 1024
"""Frames of one message."""
