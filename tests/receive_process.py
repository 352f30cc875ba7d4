"""A receiver as a process of its own: prints its port, ends with its standard input."""

import sys
from pathlib import Path

from receive_support import receiver

if __name__ == "__main__":
    with receiver(Path(sys.argv[1])) as receive:
        print(receive.listener.port, flush=True)
        sys.stdin.read()
