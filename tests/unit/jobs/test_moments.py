import subprocess
import sys
import time as clock
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from store_rows import Time
from viscera.jobs.backoff import backoff_s
from viscera.jobs.moments import Timekeeper, boottime_s, passed, values
from viscera.jobs.owners import is_dead, this_process
from viscera.jobs.schema import UtcDateTime


def test_boottime_goes_with_the_kernels() -> None:
    with open("/proc/uptime") as file:  # noqa: PTH123 - read as the kernel gives it
        uptime_s = float(file.read().split()[0])
    assert boottime_s() == pytest.approx(uptime_s, abs=1)
    assert boottime_s() <= boottime_s()


@given(st.floats(-1e5, 1e5), st.floats(-1e5, 1e5))
def test_a_moment_keeps_its_distance_whatever_the_wall_says(ahead_s: float, set_s: float) -> None:
    time = Time()
    keeper = Timekeeper(time.clock, time.steady)
    moment = keeper.now().plus(ahead_s)
    time.set_wall(set_s)
    assert moment.uptime_s - keeper.now().uptime_s == pytest.approx(ahead_s)
    assert keeper.past(moment.at).at <= keeper.now().at


@pytest.mark.parametrize(
    ("boot", "ahead_s", "over"),
    [
        ("this", 3600, False),
        ("this", -1, True),
        ("earlier", 3600, False),
        ("earlier", -1, True),
        ("earlier", 400 * 86400, True),  # by a clock that was a year ahead before the reboot
    ],
)
def test_whether_a_wait_is_over(boot: str, ahead_s: float, over: bool) -> None:
    columns = [
        sa.Column("not_before_at", UtcDateTime()),
        sa.Column("not_before_boot", sa.Text),
        sa.Column("not_before_uptime_s", sa.Float),
    ]
    table = sa.Table("waits", sa.MetaData(), *columns)
    time = Time()
    now = Timekeeper(time.clock, time.steady).now()
    written = now.plus(ahead_s)
    if boot == "earlier":
        written = replace(written, boot="another", uptime_s=5.0)
    engine = sa.create_engine("sqlite://")
    with engine.begin() as connection:
        table.create(connection)
        connection.execute(sa.insert(table).values(values("not_before", written)))
        found = connection.execute(sa.select(table).where(passed(table, "not_before", now))).all()
    engine.dispose()
    assert bool(found) == over


def test_naive_times_are_refused() -> None:
    with pytest.raises(ValueError, match="naive"):
        UtcDateTime().process_bind_param(datetime(2026, 1, 1), None)  # type: ignore[arg-type]  # noqa: DTZ001
    assert UtcDateTime().process_bind_param(datetime(2026, 1, 1, tzinfo=UTC), _Postgres()) == (
        datetime(2026, 1, 1, tzinfo=UTC)
    )


class _Postgres:
    name = "postgresql"


def test_a_process_knows_the_living_from_the_dead() -> None:
    me = this_process("work")
    assert not is_dead(me)
    child = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from viscera.jobs.owners import *; print(this_process('work'), flush=True); input()",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    owner = child.stdout.readline().strip()
    assert not is_dead(owner)
    child.kill()
    deadline_s = clock.monotonic() + 10
    while not is_dead(owner) and clock.monotonic() < deadline_s:  # a zombie is dead too
        clock.sleep(0.01)
    assert is_dead(owner)
    child.wait()
    assert is_dead(owner)
    child.stdout.close()
    assert child.stdin is not None
    child.stdin.close()


def test_a_later_process_with_the_same_id_is_another_one() -> None:
    role, boot, namespace, pid, start = this_process("work").split("/")
    assert is_dead("/".join((role, boot, namespace, pid, str(int(start) - 1))))


@pytest.mark.parametrize("part", [1, 2])
def test_another_host_or_container_is_not_declared_dead(part: int) -> None:
    parts = this_process("work").split("/")
    parts[3] = "4194304"  # no such process here
    assert is_dead("/".join(parts))
    parts[part] = "elsewhere"
    assert not is_dead("/".join(parts))
    assert not is_dead("whatever")


def test_backoff_doubles_within_its_bounds() -> None:
    for attempts in range(1, 60):
        pauses = [backoff_s(5.0, attempts) for _ in range(50)]
        full = min(5.0 * 2 ** (attempts - 1), 3600.0)
        assert full / 2 <= min(pauses) < max(pauses) <= full
