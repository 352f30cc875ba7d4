"""How much room the disks have, for the page."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from viscera.metrics import disk_family


class DiskCollector(Collector):
    """Asks when the page is asked for; says nothing of a folder that is away.

    Parameters
    ----------
    folders
        By `metrics.DISKS`.
    """

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self._folders = folders

    def describe(self) -> Iterable[Metric]:
        """Name the family without asking a disk, which may hang."""
        return (disk_family({}),)

    def collect(self) -> Iterable[Metric]:
        """Return the one family."""
        free = {}
        for name, folder in self._folders.items():
            try:
                disk = os.statvfs(folder)
            except OSError:
                continue
            free[name] = disk.f_bavail * disk.f_frsize
        return (disk_family(free),)
