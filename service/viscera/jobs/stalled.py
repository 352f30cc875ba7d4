"""A worker that hangs is ended, so that another one takes its job.

A call into a driver or a file system may never return. The lease of such a worker would be kept
for ever, for heartbeats come from a process of their own; so that process also listens for
progress, and ends a worker from which none has come for too long.
"""

import faulthandler
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic, sleep

from viscera import log

_log = log.get(__name__)

_SHOW = signal.SIGUSR1
_SHOWN_S = 1.0


def show_stacks_when_asked() -> None:
    """Have this process write its threads' Python stacks to stderr on SIGUSR1; it goes on.

    They are file names, lines and functions: no values, hence no patient data.
    """
    faulthandler.register(_SHOW, all_threads=True)


@dataclass(slots=True)
class Watch:
    """When each claim's work was last heard of.

    Parameters
    ----------
    stall_s
        Silence after which the worker counts as hanging.
    clock
        Stands still while the machine is suspended.
    """

    stall_s: float
    clock: Callable[[], float] = monotonic
    _heard_s: dict[str, float] = field(default_factory=dict)
    _looked_s: float = 0.0

    @property
    def pause_s(self) -> float:
        """Longest time between two looks."""
        return self.stall_s / 4

    def hear(self, claim_id: str) -> None:
        """Note that the claim was taken, or that its work goes on."""
        self._heard_s[claim_id] = self.clock()

    def forget(self, claim_id: str) -> None:
        """Note that it was given back or lost."""
        self._heard_s.pop(claim_id, None)

    def stalled(self) -> bool:
        """Whether a claim's work has been silent for too long."""
        now_s = self.clock()
        held_up = now_s - self._looked_s > 2 * self.pause_s
        self._looked_s = now_s
        if held_up:  # perhaps with the worker: a container was paused, or the store was away
            self._heard_s = dict.fromkeys(self._heard_s, now_s)
        for claim_id, heard_s in self._heard_s.items():
            if now_s - heard_s > self.stall_s:
                _log.error("worker_stalled", claim_id=claim_id, silent_s=round(now_s - heard_s))
                return True
        return False


def end_worker(pid: int) -> None:
    """Have the process show where it hangs, and kill it; only this process's parent."""
    for number in (_SHOW, signal.SIGKILL):
        if os.getppid() != pid:  # it is gone, and its number may be another's
            return
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        sleep(_SHOWN_S)
