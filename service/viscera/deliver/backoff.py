"""Pauses between attempts."""

import random

from viscera.config import DeliverSettings


def backoff_s(settings: DeliverSettings, attempts: int) -> float:
    """Return a pause: doubling, bounded, and up to half of it taken away by jitter."""
    doubled = settings.backoff_s * 2.0 ** min(max(attempts, 1) - 1, 32)
    spread = random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing
    return min(doubled, settings.backoff_max_s) * spread
