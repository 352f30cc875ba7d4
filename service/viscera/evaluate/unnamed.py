"""Values of label maps under names that the other side does not know."""

from collections.abc import Sequence

import numpy as np

from viscera.errors import InvalidRequest
from viscera.evaluate.read import LabelMap


class Named:
    """Counts over the cases of one side what has a name that is scored, and what has none."""

    def __init__(self, organs: Sequence[str]) -> None:
        self._organs = frozenset(organs)
        self._some = False
        self.unnamed: dict[str, int] = {}
        """In how many label maps each value or segment was seen without one."""

    def add(self, labels: LabelMap) -> None:
        """Look at one label map."""
        names = {value: labels.names.get(value, f"value {value}") for value in _present(labels)}
        self._some |= not self._organs.isdisjoint(names.values())
        for name in dict.fromkeys(names.values()):
            if name not in self._organs:
                self.unnamed[name] = self.unnamed.get(name, 0) + 1

    def require(self) -> None:
        """Refuse to score what has no name at all.

        Raises
        ------
        InvalidRequest
            If there was something, and nothing with a name.
        """
        if self.unnamed and not self._some:
            raise InvalidRequest(
                f"of what was predicted nothing has a name that the references know"
                f" ({', '.join(self.unnamed)}); say what the values are: --labels"
            )


def _present(labels: LabelMap) -> list[int]:
    found = np.zeros(256, dtype=bool)
    for plane in labels.labels:  # an index of a whole volume would be eight times its size
        found[plane] = True
    return [int(value) for value in np.flatnonzero(found) if value]
