"""A TensorRT build under way, in a process of its own; another engine serves meanwhile."""

import contextlib
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence

from viscera.errors import ModelRefused
from viscera.segment.tensorrt_build import BuildRequest, as_argument

_STOP_TIMEOUT_S = 10.0
BUILDER = (sys.executable, "-P", "-m", "viscera.segment.tensorrt_build")


class PlanNotBuilt(Exception):
    """There is no usable plan yet; `request` would build it."""

    def __init__(self, request: BuildRequest) -> None:
        super().__init__("the plan is not built yet")
        self.request = request


class BuildTurn:
    """One build at a time: several would spoil each other's timings, and share the GPU's memory."""

    def __init__(self) -> None:
        self._holder: object | None = None

    def take(self, who: object) -> bool:
        """Whether `who` may build now."""
        if self._holder is None:
            self._holder = who
        return self._holder is who

    def give_back(self, who: object) -> None:
        """Let others build, if it was the turn of `who`."""
        if self._holder is who:
            self._holder = None


class PlanBuild:
    """One child that builds one plan.

    Parameters
    ----------
    request
        What to build.
    progress
        Called with the share done, from a thread.
    command
        The builder; the request is added to it.
    """

    def __init__(
        self,
        request: BuildRequest,
        progress: Callable[[float], None],
        command: Sequence[str] = BUILDER,
    ) -> None:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed by stop
        # The terminal's signals are for the worker, which then ends the build.
        self._process = subprocess.Popen(
            [*command, as_argument(request)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._said,
            process_group=0,
        )
        self._reader = threading.Thread(target=self._read, args=(progress,), daemon=True)
        self._reader.start()

    @property
    def is_over(self) -> bool:
        """Whether it has ended, well or not."""
        return self._process.poll() is not None

    def require_success(self) -> None:
        """Wait for its end.

        Raises
        ------
        ModelRefused
            With the last line of what it said, if it made no plan.
        """
        self._process.wait()
        self._reader.join()
        if self._process.returncode:
            self._said.seek(0)
            lines = self._said.read().decode(errors="replace").strip().splitlines()
            raise ModelRefused(
                f"building the TensorRT plan ended with status {self._process.returncode}:"
                f" {lines[-1] if lines else 'no reason given'}; another engine goes on serving"
            )

    def stop(self) -> None:
        """End it, whatever it does. Idempotent."""
        self._process.terminate()
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        self._said.close()

    def _read(self, progress: Callable[[float], None]) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                # A library may print too.
                with contextlib.suppress(ValueError):
                    progress(float(line))
