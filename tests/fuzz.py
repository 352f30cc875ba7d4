"""Fuzz one target with atheris: ``python tests/fuzz.py pdu -max_total_time=200``.

Options after the target's name are libFuzzer's. It starts from `tests/corpus/TARGET` and keeps
what it finds in `.cache/fuzz/TARGET`; `pip install atheris` first, in an environment of its own.
"""

import sys
from pathlib import Path

import atheris
import structlog

READERS = ["viscera.receive", "viscera.files", "viscera.series"]
READERS += [f"pynetdicom.{name}" for name in ("pdu", "pdu_items", "dimse_messages", "fsm")]
with atheris.instrument_imports(include=READERS):
    import fuzz_targets

HERE = Path(__file__).parent


def main() -> None:
    """Run until the time is over or something is found."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    target, *options = sys.argv[1:]
    kept = HERE.parent / ".cache" / "fuzz" / target
    kept.mkdir(parents=True, exist_ok=True)
    arguments = [sys.argv[0], *options, str(kept), str(HERE / "corpus" / target)]
    atheris.Setup(arguments, fuzz_targets.TARGETS[target])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
