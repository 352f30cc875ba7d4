"""TensorRT plans on disk: found by everything that they depend on, never trusted.

A plan is machine code for one GPU, one driver, one TensorRT. Its name is a digest of all that; its
file begins with a digest of the rest, because a damaged plan crashes the library that reads it.
"""

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from viscera.files.durable import sync_file

_MAGIC = b"viscera plan 1\n"
_DIGEST_BYTES = hashlib.sha256().digest_size


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanKey:
    """What a plan was built of and for. Another value of any field is another plan."""

    library: str
    """``tensorrt`` or ``tensorrt_rtx``."""
    version: str
    gpu: str
    capability: tuple[int, int]
    driver: str
    onnx_sha256: str
    patch: tuple[int, int, int]
    channels: int
    labels: int
    tile_batch: int
    half: bool
    """Whether the network runs in half precision."""

    @property
    def digest(self) -> str:
        """Name of its file."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


class PlanCache:
    """A folder of plans.

    Parameters
    ----------
    folder
        Made where it is missing. Nobody but the service may write to it: a plan is code.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def path_of(self, key: PlanKey) -> Path:
        """Return where the plan of `key` is or will be."""
        return self._folder / f"{key.digest}.plan"

    def timing_path(self, key: PlanKey) -> Path:
        """Return where the timings of kernels on this GPU are kept, for all its plans."""
        site = (key.library, key.version, key.gpu, key.capability, key.driver)
        return self._folder / f"{hashlib.sha256(repr(site).encode()).hexdigest()}.timing"

    def read(self, key: PlanKey) -> bytes | None:
        """Return the plan of `key`; None if there is none, or not the one that was written."""
        return read_sealed(self.path_of(key))

    def accept(self, key: PlanKey) -> None:
        """Note that the plan loads."""
        self._refused_path(key).unlink(missing_ok=True)

    def refuse(self, key: PlanKey) -> bool:
        """Put a plan that does not load out of use; whether building it again makes sense.

        It does once: minutes of the GPU at every start would not mend what is never mended.
        """
        if self._refused_path(key).exists():
            return False
        self.path_of(key).rename(self._refused_path(key))
        return True

    def _refused_path(self, key: PlanKey) -> Path:
        return self.path_of(key).with_suffix(".refused")


def write_sealed(path: Path, content: bytes) -> None:
    """Write `content` under its digest, whole or not at all."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_bytes(_MAGIC + hashlib.sha256(content).digest() + content)
    sync_file(part)
    part.replace(path)


def read_sealed(path: Path) -> bytes | None:
    """Return what `write_sealed` wrote; None if it is missing or damaged."""
    try:
        found = path.read_bytes()
    except OSError:
        return None
    head = len(_MAGIC) + _DIGEST_BYTES
    content = found[head:]
    if found[:head] != _MAGIC + hashlib.sha256(content).digest():
        return None
    return content
