"""A worker whose GPU failed gives its job back and ends, so that a fresh one starts."""

import threading
from pathlib import Path

import pytest

from viscera.errors import DeviceLost, DeviceMemoryFull
from viscera.roles.work import ending_with_the_device


def guarded(error):
    stop, lost = threading.Event(), []

    def run(*_):
        raise error

    with pytest.raises(type(error)):
        ending_with_the_device(run, stop, lost)(None, (), Path(), None)
    return stop.is_set(), lost


def test_a_lost_device_ends_the_worker():
    error = DeviceLost("CUDA failure 700")
    assert guarded(error) == (True, [error])
    assert error.retry, "another process may do the job"


def test_full_memory_does_not():
    assert guarded(DeviceMemoryFull("2 GiB")) == (False, [])


def test_an_outcome_passes():
    stop, lost = threading.Event(), []
    assert ending_with_the_device(lambda *_: "done", stop, lost)(None, (), Path(), None) == "done"
    assert not stop.is_set()
