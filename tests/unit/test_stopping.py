"""A role that gets many signals at once still stops."""

import signal
import subprocess
import sys
import time

ROLE = """
import threading
from viscera.roles.stopping import stop_on_signals

stop = stop_on_signals()
print("ready", flush=True)
while not stop.wait(0.00001):  # the lock of the event is held most of the time
    pass
print("stopped", flush=True)
"""


def test_signals_that_come_upon_another_deadlock_nothing() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        with subprocess.Popen(
            [sys.executable, "-c", ROLE], stdout=subprocess.PIPE, text=True
        ) as role:
            assert role.stdout is not None
            assert role.stdout.readline() == "ready\n"
            for _ in range(50):
                if role.poll() is not None:
                    break
                role.send_signal(number)
                time.sleep(0.0005)
            try:
                assert role.communicate(timeout=20)[0] == "stopped\n"
            finally:
                role.kill()
