"""Kernels, ready before the first job."""


def warm_up() -> None:
    """Compile the kernels now, or load them, so that no job waits. Numba is configured before."""
    from viscera.encode import kernels  # noqa: F401 - importing compiles
