"""What a job will take, known before it starts: too large ones are told so, not killed.

Counted are the arrays of `volume.prepare` and `segment`. What a network works in is not: its
engine has run the golden tile, a whole patch, and keeps what that took.
"""

import math
import re
from dataclasses import dataclass
from pathlib import Path

from viscera.domain.models import Model, Order
from viscera.errors import HostMemoryFull
from viscera.segment.engine import DeviceEngine, Engine
from viscera.segment.tables import SLAB
from viscera.segment.tiles import TileGrid

_FLOAT32 = 4
_MAPS_OF_A_PART = 3
"""The package's label map, the part's own, and where they are merged."""
_MASKING, _MASKED = 5, 9
"""Bytes a voxel while a mask is filled, and while what lies within is scaled."""
_SPARE = 1.05
"""Tables, weights, the allocator's own."""


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes that one job takes at its peak."""

    host: int
    device: int


def job_needs(
    model: Model, engine: Engine, shape: tuple[int, int, int], target: tuple[int, int, int]
) -> Need:
    """Return what preparing and segmenting one volume takes beside the volume itself.

    Parameters
    ----------
    model, engine
        What it goes through.
    shape
        (z, y, x) of the network's input.
    target
        (z, y, x) of the source grid.
    """
    tiles = TileGrid.cover(shape, model.patch_size, model.step)
    image = len(model.channels) * math.prod(shape) * _FLOAT32
    source, largest = math.prod(target), max(math.prod(shape), math.prod(target))
    masked = any(one.masked for each in model.normalisation.values() for one in each)
    # A cubic spline goes axis by axis, through volumes between the two.
    between = largest * _FLOAT32 if model.image_order == 3 else 0
    plane = shape[1] * shape[2]
    ring = tiles.ring_planes * plane * (model.output_count * _FLOAT32 + 1)
    labels = math.prod(target) * (_MAPS_OF_A_PART if model.part else 1)
    # The volume on TotalSegmentator's grid, and what a spline holds beside it.
    first = 2 * math.prod(shape) * _FLOAT32 if model.first else 0
    if isinstance(engine, DeviceEngine):
        # What is measured after resampling comes down for it; a mask is filled on the host.
        measured = image if model.order is Order.RESAMPLE_FIRST else 0
        raised = source * (2 * _FLOAT32 + 1 if masked else _FLOAT32)
        return Need(
            host=_with_spare(first + max(measured, masked * source * _MASKING, 2 * labels)),
            device=_with_spare(image + max(ring + labels, raised, 2 * between)),
        )
    batch = engine.tile_batch * len(model.channels) * math.prod(model.patch_size) * _FLOAT32
    # Written slab by slab; network outputs that are renumbered take one more.
    slab = min(SLAB, target[0]) * target[1] * target[2] * (2 if model.outputs else 1)
    most = max(between, masked * source * _MASKED, ring + batch + labels + slab)
    return Need(host=_with_spare(first + image + most), device=0)


def require_memory(
    model: Model,
    engine: Engine,
    shape: tuple[int, int, int],
    target: tuple[int, int, int],
    root: Path = Path("/"),
) -> None:
    """Refuse a job that does not fit into the memory that is free now.

    Parameters
    ----------
    model, engine, shape, target
        As `job_needs` takes them.
    root
        Where ``proc`` and ``sys`` are.

    Raises
    ------
    HostMemoryFull, DeviceMemoryFull
        With what is needed and what there is.
    """
    need = job_needs(model, engine, shape, target)
    free = free_host_bytes(root)
    if free is not None and need.host > free:
        raise HostMemoryFull(
            f"this volume needs {need.host / 2**20:.0f} MiB with {model.full_name},"
            f" {free / 2**20:.0f} MiB are free; give the worker more memory, or lower"
            " series.max_voxels"
        )
    if need.device:
        from viscera.segment import device_memory  # numba-cuda is an extra

        device_memory.require(need.device)


def free_host_bytes(root: Path = Path("/")) -> int | None:
    """Return what this process may still take: of the machine, and of its container."""
    limits = [found for found in (_machine(root), _container(root)) if found is not None]
    return min(limits, default=None)


def _machine(root: Path) -> int | None:
    found = re.search(r"^MemAvailable:\s+(\d+) kB", _text(root / "proc/meminfo"), re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def _container(root: Path) -> int | None:
    """Return what cgroup v2 leaves; pages of files that it would give up count as free."""
    group = root / "sys/fs/cgroup"
    limit, used = _text(group / "memory.max").strip(), _text(group / "memory.current").strip()
    if not (limit.isdigit() and used.isdigit()):
        return None
    found = re.search(r"^inactive_file (\d+)", _text(group / "memory.stat"), re.MULTILINE)
    return int(limit) - int(used) + (int(found[1]) if found else 0)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _with_spare(size_bytes: int) -> int:
    return int(size_bytes * _SPARE)
