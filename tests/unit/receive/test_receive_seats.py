"""Seats are counted over processes, and the kernel frees those of a dead one."""

import os
import subprocess
import sys

from viscera.receive.seats import PeerSeats, Seats

TAKER = """
import sys
from viscera.receive.seats import Seats
seats = Seats(int(sys.argv[1]))
print([seats.take(0, 4) for _ in range(3)], flush=True)
sys.stdin.read()
"""


def test_seats_of_another_process_are_taken_until_it_ends():
    fd = os.memfd_create("seats")
    command = [sys.executable, "-c", TAKER, str(fd)]
    other = subprocess.Popen(
        command, pass_fds=[fd], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout.readline() == "[0, 1, 2]\n"
        seats = Seats(fd)
        assert [seats.take(0, 4), seats.take(0, 4)] == [3, None]
        assert seats.take(4, 1) == 4
        seats.free(3)
        assert [seats.take(0, 4), seats.take(0, 4)] == [3, None]
        other.kill()
        other.wait()
        assert [seats.take(0, 4) for _ in range(4)] == [0, 1, 2, None]
    finally:
        other.kill()
        other.communicate()
        os.close(fd)


def test_the_limit_that_was_met_is_named_and_takes_no_seat():
    seats = PeerSeats(Seats(), ("a", "b"), most=3, most_per_peer=2)
    assert [seats.take("a"), seats.take("a")] == ["", ""]
    assert seats.take("a") == "max_associations_per_peer"
    assert [seats.take("b"), seats.take("b")] == ["", "max_associations"]
    seats.free("a")
    assert [seats.held("a"), seats.held("b")] == [1, 1]
    assert seats.take("b") == ""
    assert seats.take("b") == "max_associations"
