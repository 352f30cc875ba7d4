"""Runs each argument as a shell command, all at once: `python side_by_side.py COMMAND...`.

What a command printed is shown whole when it ends. Fails if one of them fails. Ctrl-C and SIGTERM
go to all of them, with what they started.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from tempfile import TemporaryDirectory


def main(commands: list[str]) -> int:
    with TemporaryDirectory() as folder:
        lanes: list[Lane] = []

        def pass_on(number: int, _frame: object) -> None:
            for lane in lanes:
                lane.signal(number)

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, pass_on)
        for number, command in enumerate(commands):
            lanes.append(Lane(command, Path(folder) / str(number)))
        showing = threading.Lock()
        threads = [threading.Thread(target=lane.show, args=(showing,)) for lane in lanes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return int(any(lane.process.returncode for lane in lanes))


class Lane:
    """One command, in a process group of its own."""

    def __init__(self, command: str, log: Path) -> None:
        self._command, self._log = command, log
        print(f"=== started: {command}", flush=True)
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                ["/bin/bash", "-c", command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                process_group=0,
            )

    def signal(self, number: int) -> None:
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)

    def show(self, showing: threading.Lock) -> None:
        """Wait for the end, then print."""
        status = self.process.wait()
        with showing:
            print(f"=== output of: {self._command}", flush=True)
            sys.stdout.buffer.write(self._log.read_bytes())
            print(f"=== ended with {status}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
