"""Signals that come upon one another, or while the event's lock is held, block no role."""

import signal
import subprocess
import sys
import time

ROLE = """
import time
from viscera.roles.stopping import stop_on_signals

stop = stop_on_signals()
print("ready", flush=True)
end = time.monotonic() + 1.5
while time.monotonic() < end:  # holds the event's lock most of the time
    stop.wait(0.00001)
    stop.clear()
print("alive", flush=True)
stop.wait()
print("stopped", flush=True)
"""


def test_a_storm_of_signals_deadlocks_nothing() -> None:
    with subprocess.Popen([sys.executable, "-c", ROLE], stdout=subprocess.PIPE, text=True) as role:
        assert role.stdout is not None
        assert role.stdout.readline() == "ready\n"
        try:
            end = time.monotonic() + 1
            while time.monotonic() < end:
                role.send_signal(signal.SIGTERM)
                role.send_signal(signal.SIGINT)
            time.sleep(1)
            role.send_signal(signal.SIGTERM)
            assert role.communicate(timeout=20)[0] == "alive\nstopped\n"
        finally:
            role.kill()
