"""How long to wait before trying again."""

import random

_LONGEST_S = 3600.0


def backoff_s(first_s: float, attempts: int, longest_s: float = _LONGEST_S) -> float:
    """Return the pause after `attempts` tries: doubling, bounded, and spread by jitter.

    The jitter takes up to half away, so that what failed together does not come back together.
    """
    pause = min(first_s * 2.0 ** min(max(attempts - 1, 0), 32), longest_s)
    return pause * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing
