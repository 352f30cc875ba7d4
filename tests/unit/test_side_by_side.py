"""Two lanes of tests: both are seen to their end, and the failure of either counts."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

import peers

SCRIPT = str(Path(__file__).parents[1] / "side_by_side.py")


def lanes(*commands: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, SCRIPT, *commands], capture_output=True, text=True, timeout=30, check=False
    )


def test_all_pass_and_each_output_is_in_one_piece() -> None:
    done = lanes("echo one; sleep 1; echo two", "sleep 0.2; echo three >&2")
    assert done.returncode == 0
    lines = [line for line in done.stdout.splitlines() if not line.startswith("===")]
    assert lines == ["three", "one", "two"]


@pytest.mark.parametrize("failing", [0, 1])
def test_either_lane_s_failure_fails_and_does_not_end_the_other(failing: int) -> None:
    commands = ["sleep 0.3; echo here", "sleep 0.3; echo here"]
    commands[failing] = "exit 3"
    done = lanes(*commands)
    assert done.returncode == 1
    assert "=== ended with 3" in done.stdout
    assert "\nhere\n" in done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_what_the_lanes_started(number: signal.Signals, tmp_path: Path) -> None:
    # Ctrl-C, unlike SIGTERM, lets pytest tear its fixtures down.
    program = (
        "import sys, time\ntry: open(sys.argv[1], 'w'); time.sleep(60)\nfinally: print('down')"
    )
    command = f'{sys.executable} -c "{program}" {tmp_path}/up; exit 7'
    with subprocess.Popen(
        [sys.executable, SCRIPT, command, "sleep 60"], stdout=subprocess.PIPE, text=True
    ) as running:
        peers.wait_for((tmp_path / "up").exists, 20, "the start of a lane")
        running.send_signal(number)
        output, _ = running.communicate(timeout=20)
    assert running.returncode == 1
    assert ("\ndown\n" in output) == (number is signal.SIGINT)
