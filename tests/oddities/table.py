"""Writes docs/oddities.md, each case through every program: ``make oddities``."""

import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from importlib.metadata import version
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path

from oddities.case import Case, write
from oddities.cases import CASES
from oddities.judge import judge, refused
from oddities.ours import viscera
from oddities.programs import PROGRAMS, Refusal
from viscera.config import DecodeSettings
from viscera.volume import DecodePool

PAGE = Path(__file__).parents[2] / "docs" / "oddities.md"
COLUMNS = ("oddity", "Viscera", *PROGRAMS)
_PACKAGES = ("SimpleITK", "dcm2niix", "highdicom", "pydicom", "python-gdcm")

_INTRO = """\
For those who ask what becomes of a series that is not as it should be: measured, not remembered.

Written by `make oddities` from `tests/oddities/`; do not edit. Each row is a small synthetic series
whose every voxel is known. The same files go through Viscera's own stacking and decoding with its
default settings, SimpleITK's `ImageSeriesReader`, `dcm2niix` and highdicom's
`get_volume_from_series` or `Image.get_volume`, each with its defaults. A program that answers with
volumes is judged voxel by voxel, by position in the patient:

- *right*: every scanned voxel lies in its place with its value, and nothing else was built
  (a localiser or reformat may be built apart, or left out);
- *wrong*: it answered with something else, and its caller is not told by an error;
- *refused*: it built nothing and said so.

What is right for a program that converts for research may be wrong for one that nobody watches:
dcm2niix prints warnings and writes resampled volumes beside the others where spacing is uneven or
the gantry tilted, SimpleITK prints a warning for uneven positions; both count as wrong here because
the caller gets a volume that was not scanned. An unwatched service has to refuse.
"""


def outcomes(case: Case, pool: DecodePool, others: Mapping[str, ProcessPoolExecutor]) -> list[str]:
    """Return the cells of one row after its name."""
    files = case.make()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write(files, folder)
        cells = [viscera(folder, files.scanned, files.never, pool)]
        for name, process in others.items():
            try:
                built = process.submit(PROGRAMS[name], folder).result()
            except Refusal as no:
                cells.append(refused(str(no)))
            else:
                cells.append(judge(built, files.scanned, files.never))
    return [cell.text for cell in cells]


def page(rows: Mapping[str, Sequence[str]]) -> str:
    """Return the page; `rows` are the cells by case."""
    lines = ["# Odd series", "", _INTRO, _measured_with(), "", *_summary(rows), ""]
    for group, cases in groupby(CASES, key=lambda case: case.group):
        lines += [f"## {group}", "", _row(COLUMNS), "|" + "---|" * len(COLUMNS)]
        lines += [_row((case.name, *rows[case.name])) for case in cases]
        lines.append("")
    return "\n".join(lines)


def _summary(rows: Mapping[str, Sequence[str]]) -> Iterator[str]:
    yield f"Of {len(rows)} series:\n"
    for place, name in enumerate(COLUMNS[1:]):
        verdicts = Counter(re.split(r"\W", cells[place])[0] for cells in rows.values())
        counts = ", ".join(f"{verdicts[word]} {word}" for word in ("right", "refused", "wrong"))
        yield f"- {name}: {counts}"


def committed() -> dict[str, str]:
    """Return the Viscera column of the page as it stands, by case."""
    return dict(_cells(PAGE.read_text(encoding="utf-8")))


def escaped(text: str) -> str:
    """Return a cell's text as Markdown."""
    return text.replace("|", "\\|").replace("\n", " ")


def _cells(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        if line.startswith("| ") and not line.startswith(f"| {COLUMNS[0]} |"):
            name, ours, *_ = line.removeprefix("| ").split(" | ")
            yield name, ours


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(escaped(cell) for cell in cells) + " |"


def _measured_with() -> str:
    return "Measured with " + ", ".join(f"{name} {version(name)}" for name in _PACKAGES) + "."


def main() -> None:
    """Run every case through every program and write the page."""
    rows: dict[str, list[str]] = {}
    with ExitStack() as stack:
        pool = stack.enter_context(DecodePool(DecodeSettings(processes=1)))
        others = {
            name: stack.enter_context(ProcessPoolExecutor(1, mp_context=get_context("spawn")))
            for name in PROGRAMS
        }
        for case in CASES:
            rows[case.name] = outcomes(case, pool, others)
            print(case.name, *rows[case.name], sep=" | ", file=sys.stderr)
    PAGE.write_text(page(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
