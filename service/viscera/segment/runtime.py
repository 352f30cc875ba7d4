"""Numba's settings, which must stand before it compiles, and the proof that they hold."""

import os
import sys
from pathlib import Path

import numpy as np

from viscera.errors import InvalidSettings


def configure_numba(cache: Path, layer: str, threads: int) -> None:
    """Fix where Numba keeps compiled kernels, and how it runs threads. Call this first thing.

    The environment is the only place that Numba reads before its import, and child processes
    inherit it.

    Parameters
    ----------
    cache
        Folder of compiled kernels; made where it is missing.
    layer
        ``omp``, ``tbb`` or ``workqueue``. With ``workqueue`` two threads that enter a kernel at
        once abort the process; with ``omp`` a forked child that enters one is killed, so
        children must be spawned.
    threads
        Threads of one kernel; 0 takes every core that this process may use.

    Raises
    ------
    InvalidSettings
        If the folder cannot be made, or kernels run already with another number of threads.
    """
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidSettings(f"engine.numba_cache: {cache} is no folder: {error}") from error
    os.environ["NUMBA_CACHE_DIR"] = str(cache.resolve())
    os.environ["NUMBA_THREADING_LAYER"] = layer
    os.environ["NUMBA_NUM_THREADS"] = str(usable_threads(threads))
    if "numba" in sys.modules:
        _reload()


def usable_threads(threads: int) -> int:
    """Return `threads`, or the number of cores this process may use where it is 0."""
    return threads or len(os.sched_getaffinity(0))


def warm_up() -> None:
    """Compile every kernel, or load it from the cache, and check the threading layer.

    Raises
    ------
    InvalidSettings
        If the layer cannot be loaded, or another one runs.
    """
    from numba import config
    from numba.np.ufunc.parallel import threading_layer

    from viscera.segment import kernels

    wanted: str = vars(config)["THREADING_LAYER"]
    ring, winners = np.zeros((1, 1, 1, 1), np.float32), np.zeros((1, 1, 1), np.uint8)
    try:
        kernels.find_winners(ring, 0, 1, winners)
    except ValueError as error:
        raise InvalidSettings(
            f"engine.numba_threading_layer: {wanted} cannot be loaded ({error});"
            " omp needs libgomp1, tbb needs the tbb package"
        ) from error
    running = threading_layer()  # type: ignore[no-untyped-call]  # numba's own
    if wanted not in (running, "default"):
        raise InvalidSettings(
            f"engine.numba_threading_layer: {wanted} was asked for, {running} runs already;"
            " configure Numba before the first kernel"
        )


def _reload() -> None:
    from numba import config

    try:
        config.reload_config()  # type: ignore[no-untyped-call]  # numba's own
    except RuntimeError as error:
        raise InvalidSettings(f"engine.threads: {error}") from error
