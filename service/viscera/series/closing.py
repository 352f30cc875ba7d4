"""When a submission is over: a pure function of what has arrived.

A PACS does not say when a series is complete, so silence has to. It is counted over everything
that the peer sends, and its length follows from three facts: whether the peer still holds an
association, whether the positions have a gap, and how slowly instances came so far.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise

import numpy as np

from viscera.config import SeriesSettings
from viscera.domain.sources import Closing

_PAUSES = 4.0
"""A silence must be this many times the longest recent pause before it means the end."""

_STRAIGHT = 0.5
"""How far, in gaps, a position may lie off the line through all of them."""


def close_after(closing: Closing, settings: SeriesSettings) -> datetime:
    """Return the time after which a submission is closed if nothing more arrives.

    Parameters
    ----------
    closing
        What is known of the submission and its peer. Its instances may have come by any number
        of associations.
    settings
        The quiet periods.

    Returns
    -------
    datetime
        The last arrival itself where the expected count is reached. Otherwise the peer's last
        arrival plus `quiet_period_s`; but no later than `quiet_max_s` after the submission's
        own last arrival, so that a peer which never falls silent does not hold it for ever.
    """
    last = max(closing.arrivals, default=closing.peer_last_arrival)
    if closing.expected_count is not None and closing.instances >= closing.expected_count:
        return last
    silent_since = max(last, closing.peer_last_arrival)
    quiet = silent_since + timedelta(seconds=quiet_period_s(closing, settings))
    longest = max(settings.quiet_max_s, settings.quiet_s)
    return min(quiet, last + timedelta(seconds=longest))


def quiet_period_s(closing: Closing, settings: SeriesSettings) -> float:
    """Return how long a peer's silence must last.

    `quiet_s`, shortened once the peer has released all associations and once the positions have
    no gap, though not below `quiet_min_s`: peers pause for seconds between two associations of
    one series, and the slices until then have no gap either. Stretched to four of the
    longest recent pauses, up to `quiet_max_s`.
    """
    period = settings.quiet_s
    if closing.peer_associations_open == 0:
        period *= settings.quiet_released_factor
    if _is_gap_free(closing, settings):
        period *= settings.quiet_gap_free_factor
    period = max(period, min(settings.quiet_min_s, settings.quiet_s))
    stretched = min(_PAUSES * _longest_pause_s(closing.arrivals), settings.quiet_max_s)
    return max(period, stretched)


def _longest_pause_s(arrivals: Sequence[datetime]) -> float:
    """Clocks are set back now and then: arrivals are sorted before they are compared."""
    times = sorted(arrivals)
    pauses = (later - earlier for earlier, later in pairwise(times))
    return max(pauses, default=timedelta()).total_seconds()


def _is_gap_free(closing: Closing, settings: SeriesSettings) -> bool:
    """Whether all instances lie evenly on a line, each place taken equally often.

    The headers are not read for this: a wrong answer costs seconds, or a second version.
    """
    if len(closing.positions_lps) < max(settings.min_slices, 2, closing.instances):
        return False
    positions = np.array(closing.positions_lps, dtype=np.float64)
    if not np.isfinite(positions).all():
        return False
    start = positions[np.argmax(_distances(positions, positions[0]))]
    end = positions[np.argmax(_distances(positions, start))]
    length = float(np.linalg.norm(end - start))
    if length == 0:
        return False
    along = (positions - start) @ (end - start) / length
    across = np.linalg.norm(positions - start - np.outer(along, (end - start) / length), axis=1)
    return _is_even(along, across, settings)


def _is_even(along: np.ndarray, across: np.ndarray, settings: SeriesSettings) -> bool:
    places, taken = np.unique(np.round(along, 2), return_counts=True)
    if len(places) < max(settings.min_slices, 2):
        return False
    gaps = np.diff(places)
    gap = float(np.median(gaps))
    even = np.abs(gaps - gap).max() <= settings.spacing_tolerance * gap + 0.02
    return bool(even and across.max() <= _STRAIGHT * gap and taken.min() == taken.max())


def _distances(positions: np.ndarray, point: np.ndarray) -> np.ndarray:
    return np.asarray(np.linalg.norm(positions - point, axis=1))
