"""What the driver is asked, and what becomes of one that is absent, sick, hung or crashed."""

import ctypes
import ctypes.util
import json

import pytest

from viscera.errors import DeviceUnavailable
from viscera.segment.driver import Gpu, probe_gpu
from viscera.segment.driver_probe import ask, driver_version


class FakeDriver:
    """Answers as libcuda does: a status, and values through the pointers it was given."""

    def __init__(self, count=1, fails="", status=999):
        self._count, self._fails, self._status = count, fails, status
        self.called = []

    def __getattr__(self, function):
        if function.startswith("_"):
            raise AttributeError(function)

        def call(*arguments):
            self.called.append(function)
            if function == self._fails:
                return self._status
            getattr(self, f"_{function}", lambda *_: None)(*arguments)
            return 0

        return call

    def _cuDriverGetVersion(self, version):  # noqa: N802 - the driver's name
        version._obj.value = 13010

    def _cuDeviceGetCount(self, count):  # noqa: N802
        count._obj.value = self._count

    def _cuDeviceGetName(self, name, size, device):  # noqa: N802
        assert size == len(name)
        name.value = b"NVIDIA H200"

    def _cuDeviceTotalMem_v2(self, memory, device):  # noqa: N802
        memory._obj.value = 150_000_000_000

    def _cuDeviceGetAttribute(self, value, attribute, device):  # noqa: N802
        value._obj.value = {75: 9, 76: 0}[attribute]

    def _cuGetErrorString(self, status, text):  # noqa: N802
        text._obj.value = b"unknown error" if status == 999 else b"no CUDA-capable device"


def script(folder, code):
    path = folder / "probe.py"
    path.write_text(code)
    return path


def test_a_healthy_driver_describes_its_first_gpu():
    driver = FakeDriver()
    assert ask(driver) == {
        "name": "NVIDIA H200",
        "capability": [9, 0],
        "cuda": 13010,
        "driver": driver_version(),
        "memory_bytes": 150_000_000_000,
    }
    assert driver.called[0] == "cuInit"


@pytest.mark.parametrize("function", ["cuInit", "cuDeviceGetCount", "cuDeviceGet"])
def test_a_sick_driver_says_what_failed(function):
    with pytest.raises(RuntimeError, match=f"{function} answered 999: unknown error"):
        ask(FakeDriver(fails=function))


def test_a_driver_without_devices_is_no_gpu():
    with pytest.raises(RuntimeError, match="shows no GPU"):
        ask(FakeDriver(count=0))


def test_the_answer_of_the_other_process_becomes_a_gpu(tmp_path):
    answer = json.dumps(ask(FakeDriver()))
    path = script(tmp_path, f"print('noise of a library')\nprint({answer!r})")
    assert probe_gpu(path) == Gpu(
        name="NVIDIA H200",
        capability=(9, 0),
        cuda=13010,
        driver=driver_version(),
        memory_bytes=150_000_000_000,
    )


def test_the_drivers_own_version_is_read(tmp_path):
    path = tmp_path / "version"
    path.write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build\n"
    )
    assert driver_version(str(path)) == "580.95.05"
    assert driver_version(str(tmp_path / "none")) == ""


def test_a_driver_that_hangs_is_given_up(tmp_path):
    path = script(tmp_path, "import time\ntime.sleep(60)")
    with pytest.raises(DeviceUnavailable, match="did not answer within"):
        probe_gpu(path, timeout_s=0.5)


def test_a_driver_that_crashes_takes_only_the_probe_with_it(tmp_path):
    path = script(tmp_path, "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)")
    with pytest.raises(DeviceUnavailable, match="ended with status -11"):
        probe_gpu(path)


@pytest.mark.skipif(ctypes.util.find_library("cuda") is not None, reason="a driver is installed")
def test_without_a_driver_it_says_so():
    with pytest.raises(DeviceUnavailable, match=r"libcuda\.so\.1"):
        probe_gpu()
