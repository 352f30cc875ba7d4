"""Ask NVIDIA's driver what there is, with nothing but the standard library.

Run as a script by `driver.probe_gpu` in a process of its own: a driver that hangs or crashes takes
that process with it and no other. Prints one JSON object, ``{"error": ...}`` where there is no GPU.
"""

import ctypes
import json
import re
from typing import Any

DRIVER = "libcuda.so.1"

# cuda.h: CUdevice_attribute
_MAJOR, _MINOR = 75, 76


def ask(driver: Any) -> dict[str, Any]:
    """Return what the first visible GPU is; raises RuntimeError with what the driver said.

    Parameters
    ----------
    driver
        The driver's library; CUDA_VISIBLE_DEVICES chooses which GPU is the first.
    """
    _call(driver, "cuInit", 0)
    version, count = ctypes.c_int(), ctypes.c_int()
    _call(driver, "cuDriverGetVersion", ctypes.byref(version))
    _call(driver, "cuDeviceGetCount", ctypes.byref(count))
    if count.value < 1:
        raise RuntimeError("the driver shows no GPU")
    device, memory = ctypes.c_int(), ctypes.c_size_t()
    name, major, minor = ctypes.create_string_buffer(256), ctypes.c_int(), ctypes.c_int()
    _call(driver, "cuDeviceGet", ctypes.byref(device), 0)
    _call(driver, "cuDeviceGetName", name, len(name), device)
    _call(driver, "cuDeviceTotalMem_v2", ctypes.byref(memory), device)
    _call(driver, "cuDeviceGetAttribute", ctypes.byref(major), _MAJOR, device)
    _call(driver, "cuDeviceGetAttribute", ctypes.byref(minor), _MINOR, device)
    return {
        "name": name.value.decode(errors="replace"),
        "capability": [major.value, minor.value],
        "cuda": version.value,
        "driver": driver_version(),
        "memory_bytes": memory.value,
    }


def driver_version(path: str = "/proc/driver/nvidia/version") -> str:
    """Return the driver's own version, e.g. ``580.95.05``; empty where the kernel does not say."""
    try:
        with open(path) as file:  # noqa: PTH123 - pathlib would double the start-up time
            found = re.search(r"\b(\d+\.[\d.]+)\b", file.readline())
    except OSError:
        return ""
    return found[1] if found else ""


def _call(driver: Any, function: str, *arguments: Any) -> None:
    status = getattr(driver, function)(*arguments)
    if status:
        text = ctypes.c_char_p()
        driver.cuGetErrorString(status, ctypes.byref(text))
        said = (text.value or b"no text").decode(errors="replace")
        raise RuntimeError(f"{function} answered {status}: {said}")


if __name__ == "__main__":
    try:
        answer = ask(ctypes.CDLL(DRIVER))
    except (OSError, RuntimeError, AttributeError) as error:
        answer = {"error": str(error)}
    print(json.dumps(answer))  # noqa: T201 - a script's answer
