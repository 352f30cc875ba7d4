"""Who holds a lease, said so that another process of this host can see that it died."""

import os
from pathlib import Path

from viscera.jobs.moments import boot_id


def this_process(role: str) -> str:
    """Return this process's name as an owner: ``role/boot/pid namespace/pid/start``.

    The start time tells a process from a later one with the same id.
    """
    pid = os.getpid()
    return f"{role}/{boot_id()}/{_pid_namespace()}/{pid}/{_start_of(pid)}"


def is_dead(owner: str) -> bool:
    """Whether `owner` is known to have ended: false where this process cannot know.

    An earlier boot of this host is not told from another host: its leases run out instead.
    """
    parts = owner.split("/")
    if len(parts) != 5 or parts[1:3] != [boot_id(), _pid_namespace()] or not parts[3].isdigit():
        return False
    return _start_of(int(parts[3])) != parts[4]


def _pid_namespace() -> str:
    """Process ids mean something only inside one namespace: containers have their own."""
    return Path("/proc/self/ns/pid").readlink().name.strip("pid:[]")


def _start_of(pid: int) -> str:
    """Start time of a process in clock ticks since boot; empty where it has ended."""
    try:
        # The name may hold spaces and brackets; state and the rest follow the last bracket.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if fields[0] in "ZX" else fields[19]
