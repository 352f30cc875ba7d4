"""Schedules are replayed second by second against `close_after`, as a worker would."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from series_builders import SETTINGS

from viscera.domain.sources import Closing
from viscera.series.closing import close_after

START = datetime(2024, 1, 1, tzinfo=UTC)


def at(seconds):
    return START + timedelta(seconds=seconds)


def closing(**changes):
    base = Closing(
        arrivals=(at(0),),
        instances=1,
        expected_count=None,
        positions_lps=((0.0, 0.0, 0.0),),
        peer_last_arrival=at(0),
        peer_associations_open=1,
    )
    return replace(base, **changes)


def contiguous(count):
    return tuple((0.0, 0.0, 2.5 * k) for k in range(count))


def wait_s(**changes):
    known = closing(**changes)
    return (close_after(known, SETTINGS) - known.peer_last_arrival).total_seconds()


@dataclass
class Replay:
    """One submission of one peer; counts how often it would have been closed."""

    settings: object = SETTINGS
    now: float = 0.0
    closed: list = field(default_factory=list)
    state: Closing | None = None
    associations: int = 0

    def wait(self, seconds):
        self.now += seconds
        if self.state is not None and close_after(self.state, self.settings) <= at(self.now):
            self.closed.append(self.state.instances)
            self.state = None

    def associate(self, change):
        self.associations += change
        if self.state is not None:
            self.state = replace(self.state, peer_associations_open=self.associations)

    def arrive(self, position):
        old = self.state or closing(arrivals=(), instances=0, positions_lps=())
        self.state = replace(
            old,
            arrivals=(*old.arrivals, at(self.now))[-64:],
            instances=old.instances + 1,
            positions_lps=(*old.positions_lps, position),
            peer_last_arrival=at(self.now),
            peer_associations_open=self.associations,
        )

    def push(self, positions, every_s):
        self.associate(+1)
        for position in positions:
            self.wait(every_s)
            self.arrive(position)
        self.associate(-1)


@pytest.mark.parametrize("quiet_s", [7.5, 10.0, 12.0, 20.0, 30.0])
@pytest.mark.parametrize("every_s", [0.005, 0.1])
def test_six_associations_of_50_with_5_s_pauses_are_one_result(quiet_s, every_s):
    replay = Replay(SETTINGS.model_copy(update={"quiet_s": quiet_s}))
    slices = contiguous(300)
    for start in range(0, 300, 50):
        replay.push(slices[start : start + 50], every_s)
        replay.wait(5.0)
    replay.wait(60.0)
    assert replay.closed == [300]


@pytest.mark.parametrize("quiet_s", [7.5, 10.0, 30.0])
@pytest.mark.parametrize("every_s", [0.01, 0.5, 3.0, 5.0])
def test_one_association_per_instance_is_one_result(quiet_s, every_s):
    replay = Replay(SETTINGS.model_copy(update={"quiet_s": quiet_s}))
    for position in contiguous(120):
        replay.push([position], 0.01)
        replay.wait(every_s)
    replay.wait(60.0)
    assert replay.closed == [120]


@settings(max_examples=60, deadline=None)
@given(
    pauses=st.lists(st.floats(0, 7.0), min_size=1, max_size=8),
    per_association=st.integers(1, 60),
    quiet_s=st.floats(7.5, 60.0),
)
def test_pauses_below_the_shortest_period_never_cut_a_series(pauses, per_association, quiet_s):
    replay = Replay(SETTINGS.model_copy(update={"quiet_s": quiet_s}))
    slices = iter(contiguous(1000))
    for pause in pauses:
        replay.push([next(slices) for _ in range(per_association)], 0.02)
        replay.wait(pause)
    replay.wait(700.0)
    assert replay.closed == [per_association * len(pauses)]


def test_a_slow_modality_is_waited_for():
    """25 s between slices on one association; four such pauses are the end."""
    replay = Replay()
    replay.push(contiguous(40), 25.0)
    replay.wait(70.0)
    assert replay.closed == []
    replay.wait(31.0)
    assert replay.closed == [40]


def test_the_expected_count_closes_at_once():
    known = closing(instances=40, expected_count=40, peer_last_arrival=at(9))
    assert close_after(known, SETTINGS) == at(0)
    assert close_after(replace(known, instances=39), SETTINGS) > at(9)


def test_waits_by_what_is_known():
    gap_free = {"instances": 40, "positions_lps": contiguous(40)}
    assert wait_s() == 30.0
    assert wait_s(peer_associations_open=0) == 15.0
    assert wait_s(**gap_free) == 15.0
    assert wait_s(**gap_free, peer_associations_open=0) == 7.5
    assert wait_s(arrivals=(at(-20), at(0))) == 80.0
    assert wait_s(arrivals=(at(-500), at(0))) == 600.0


@pytest.mark.parametrize(
    "positions",
    [
        contiguous(7),
        contiguous(20)[:9] + contiguous(20)[10:],
        contiguous(20) + contiguous(8),
        (*contiguous(20), (300.0, 0.0, 20.0)),
        (*contiguous(20), (float("nan"), 0.0, 0.0)),
        ((1.0, 2.0, 3.0),) * 20,
        (),
    ],
    ids=["few", "missing", "second phase begun", "localiser", "nan", "one place", "none"],
)
def test_what_is_not_gap_free_waits_in_full(positions):
    assert wait_s(instances=len(positions) or 1, positions_lps=positions) == 30.0


def test_instances_without_a_position_are_no_gap_free_series():
    assert wait_s(instances=21, positions_lps=contiguous(20)) == 30.0


@pytest.mark.parametrize("step", [(0, 0, 1.0), (0.3, 0.2, -3.0), (2.0, 0, 0)])
def test_gap_free_does_not_depend_on_direction_order_or_phases(step):
    places = [tuple(k * c for c in step) for k in range(24)]
    both = tuple(reversed(places)) + tuple(places)
    assert wait_s(instances=24, positions_lps=tuple(places[::-1])) == 15.0
    assert wait_s(instances=48, positions_lps=both) == 15.0


def test_a_peer_that_never_falls_silent_does_not_hold_a_series_for_ever():
    known = closing(peer_last_arrival=at(3600))
    assert close_after(known, SETTINGS) == at(SETTINGS.quiet_max_s)


def test_other_series_of_the_peer_prolong_the_silence():
    known = closing(peer_last_arrival=at(100))
    assert close_after(known, SETTINGS) == at(130)


states = st.builds(
    lambda arrivals, count, expected, associations, later: closing(
        arrivals=tuple(at(t) for t in sorted(arrivals)),
        instances=count,
        expected_count=expected,
        positions_lps=contiguous(count),
        peer_last_arrival=at(max(arrivals) + later),
        peer_associations_open=associations,
    ),
    arrivals=st.lists(st.floats(0, 3000), min_size=1, max_size=64),
    count=st.integers(1, 80),
    expected=st.none() | st.integers(1, 80),
    associations=st.integers(0, 4),
    later=st.floats(0, 2000),
)


@given(known=states)
def test_never_before_the_last_arrival_nor_after_the_longest_period(known):
    last = known.arrivals[-1]
    assert last <= close_after(known, SETTINGS) <= last + timedelta(seconds=SETTINGS.quiet_max_s)


@given(known=states)
def test_an_open_association_never_closes_sooner(known):
    opened = replace(known, peer_associations_open=known.peer_associations_open + 1)
    assert close_after(opened, SETTINGS) >= close_after(known, SETTINGS)


@given(known=states, later=st.floats(0, 500))
def test_more_from_the_peer_never_closes_sooner(known, later):
    more = replace(known, peer_last_arrival=known.peer_last_arrival + timedelta(seconds=later))
    assert close_after(more, SETTINGS) >= close_after(known, SETTINGS)


@given(known=states, shift=st.integers(-(10**6), 10**6))
def test_only_differences_of_time_matter(known, shift):
    by = timedelta(seconds=shift)
    shifted = replace(
        known,
        arrivals=tuple(t + by for t in known.arrivals),
        peer_last_arrival=known.peer_last_arrival + by,
    )
    assert close_after(shifted, SETTINGS) == close_after(known, SETTINGS) + by
