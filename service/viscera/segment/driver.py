"""Is there a GPU that answers? Asked before any library that would crash without one."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from viscera.errors import DeviceUnavailable

_SCRIPT = Path(__file__).with_name("driver_probe.py")
_TIMEOUT_S = 60.0
"""A driver without its persistence daemon needs seconds a GPU for the first cuInit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """The GPU that this process will use: the first visible one."""

    name: str
    capability: tuple[int, int]
    """Major and minor; 9.0 is ``sm_90``."""
    cuda: int
    """The newest CUDA that the driver serves, as it writes it: 13010 is 13.1."""
    driver: str
    """The driver's own version; empty where the kernel does not say."""
    memory_bytes: int


def probe_gpu(script: Path = _SCRIPT, timeout_s: float = _TIMEOUT_S) -> Gpu:
    """Return the first visible GPU, asked in a process of its own.

    Parameters
    ----------
    script
        What that process runs; it prints the fields of a `Gpu`, or ``error``, as JSON.
    timeout_s
        After which it is killed.

    Raises
    ------
    DeviceUnavailable
        If there is no driver, no GPU, or the driver fails, crashes or hangs.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-I", str(script)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise DeviceUnavailable(
            f"the NVIDIA driver did not answer within {timeout_s:g} s; reset the GPU or reboot"
        ) from error
    if done.returncode:
        raise DeviceUnavailable(
            f"asking the NVIDIA driver ended with status {done.returncode}; an installed driver"
            " was expected to answer: install it anew"
        )
    # The last line: a driver may print too.
    answer = json.loads(done.stdout.splitlines()[-1])
    if "error" in answer:
        raise DeviceUnavailable(
            f"no usable NVIDIA GPU: {answer['error']}; look at `nvidia-smi`, or install viscera"
            " without GPU extras"
        )
    return Gpu(**answer | {"capability": tuple(answer["capability"])})
