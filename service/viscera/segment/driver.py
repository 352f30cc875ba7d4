"""Is there a GPU that answers? Asked before any library that would crash without one."""

import json
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from viscera.errors import DeviceUnavailable

_SCRIPT = Path(__file__).with_name("driver_probe.py")
_TIMEOUT_S = 60.0
"""A driver without its persistence daemon needs seconds a GPU for the first cuInit."""
_KILLED_S = 1.0


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
    status, said = _run(script, timeout_s)
    if status:
        raise DeviceUnavailable(
            f"asking the NVIDIA driver ended with status {status}; an installed driver"
            " was expected to answer: install it anew"
        )
    # The last line: a driver may print too.
    answer = json.loads(said.splitlines()[-1])
    if "error" in answer:
        raise DeviceUnavailable(
            f"no usable NVIDIA GPU: {answer['error']}; look at `nvidia-smi`, or install viscera"
            " without GPU extras"
        )
    return Gpu(**answer | {"capability": tuple(answer["capability"])})


def _run(script: Path, timeout_s: float) -> tuple[int, bytes]:
    """Return exit status and output of `script`.

    A child that hangs within the driver ignores even SIGKILL: nobody waits for it for long.
    """
    child = subprocess.Popen(
        [sys.executable, "-I", str(script)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        said, _ = child.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        child.kill()
        assert child.stdout is not None
        child.stdout.close()
        with suppress(subprocess.TimeoutExpired):
            child.wait(_KILLED_S)
        raise DeviceUnavailable(
            f"the NVIDIA driver did not answer within {timeout_s:g} s; reset the GPU or reboot"
        ) from error
    return child.returncode, said
