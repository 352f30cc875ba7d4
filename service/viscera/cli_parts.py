"""What the modules of the command line share."""

import argparse
import sys
from typing import TypeAlias

# Generic in type stubs only, hence a string.
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def nothing(text: str) -> int:
    """Say that there is nothing to show: status 1, as grep has it."""
    print(text, file=sys.stderr)
    return 1


def counted(text: str) -> int:
    """Read how many to show: to show none would look like there being none."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def whole(text: str) -> int:
    """Read an option's number; argparse tells the user in these words."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0")
    return int(text)
