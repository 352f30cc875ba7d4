"""Curves of one run: what was lost and, on volumes not trained on, Dice. As CSV and as SVG."""

import csv
import math
from pathlib import Path

from viscera.domain.organs import AMOS

_WIDTH, _HEIGHT, _LEFT, _TOP = 720, 320, 50, 20
_COLUMNS = ("step", "cross_entropy", "dice_loss", *(label.name for label in AMOS))


class Curves:
    """Rows by step in ``curves.csv``, drawn into ``curves.svg`` at every validation."""

    def __init__(self, folder: Path) -> None:
        self._csv, self._svg = folder / "curves.csv", folder / "curves.svg"
        self._rows: list[dict[str, float]] = []

    def resume(self, step: int) -> None:
        """Take up the rows on disk up to `step`; later ones belong to a run that was cut off."""
        if not self._csv.exists():
            return
        with self._csv.open(newline="") as file:
            rows = [
                {name: float(text) for name, text in row.items() if text}
                for row in csv.DictReader(file)
            ]
        self._rows = [row for row in rows if row["step"] <= step]

    def trained(self, step: int, cross_entropy: float, dice_loss: float) -> None:
        """Add the means of the last steps."""
        row = {"step": step, "cross_entropy": cross_entropy, "dice_loss": dice_loss}
        self._rows.append(row)

    def validated(self, step: int, dice: list[float]) -> None:
        """Add Dice by organ (from label 1; NaN: not shown) and write both files."""
        by_name = {label.name: value for label, value in zip(AMOS, dice, strict=True)}
        shown = {name: value for name, value in by_name.items() if not math.isnan(value)}
        self._rows.append({"step": step, **shown})
        with self._csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, _COLUMNS)
            writer.writeheader()
            writer.writerows(self._rows)
        self._svg.write_text(self.svg())

    def svg(self) -> str:
        """Return the picture: cross-entropy, Dice loss, Dice by organ and its mean."""
        last = max((row["step"] for row in self._rows), default=1.0) or 1.0
        lines = [
            *(self._line(label.name, last, _css(label.rgb), 1.2) for label in AMOS),
            self._line("cross_entropy", last, "#999", 1.2, dash="2 3"),
            self._line("dice_loss", last, "#555", 1.2, dash="6 3"),
            _polyline(self._means(), last, "#000", 3),
        ]
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" font-family="sans-serif" font-size="11" '
            f'viewBox="0 0 {_WIDTH + 190} {_HEIGHT + 60}">'
            f'<rect width="100%" height="100%" fill="#fff"/>{_axes(last)}{"".join(lines)}'
            f"{_legend()}</svg>\n"
        )

    def _line(self, name: str, last: float, colour: str, width: float, dash: str = "") -> str:
        points = [(row["step"], row[name]) for row in self._rows if name in row]
        return _polyline(points, last, colour, width, dash)

    def _means(self) -> list[tuple[float, float]]:
        names = [label.name for label in AMOS]
        dice = [(row["step"], [row[n] for n in names if n in row]) for row in self._rows]
        return [(step, sum(values) / len(values)) for step, values in dice if values]


def _css(rgb: tuple[int, int, int]) -> str:
    return "rgb({},{},{})".format(*rgb)


def _x(step: float, last: float) -> float:
    return _LEFT + _WIDTH * step / last


def _y(value: float) -> float:
    return _TOP + _HEIGHT * (1 - min(max(value, 0.0), 1.0))


def _polyline(
    points: list[tuple[float, float]], last: float, colour: str, width: float, dash: str = ""
) -> str:
    at = " ".join(f"{_x(step, last):.1f},{_y(value):.1f}" for step, value in points)
    return (
        f'<polyline fill="none" stroke="{colour}" stroke-width="{width}" '
        f'stroke-dasharray="{dash}" points="{at}"/>'
    )


def _axes(last: float) -> str:
    rows = [
        f'<line x1="{_LEFT}" x2="{_LEFT + _WIDTH}" y1="{_y(v / 5)}" y2="{_y(v / 5)}" '
        f'stroke="#ddd"/><text x="{_LEFT - 26}" y="{_y(v / 5) + 4}">{v / 5:.1f}</text>'
        for v in range(6)
    ]
    columns = [
        f'<text x="{_x(last * k / 4, last):.0f}" y="{_TOP + _HEIGHT + 18}" text-anchor="middle">'
        f"{last * k / 4:.0f}</text>"
        for k in range(5)
    ]
    middle = _LEFT + _WIDTH / 2
    title = f'<text x="{middle}" y="{_TOP + _HEIGHT + 36}" text-anchor="middle">step</text>'
    return "".join([*rows, *columns, title])


def _legend() -> str:
    entries = [("mean Dice", "#000"), ("Dice loss", "#555"), ("cross-entropy", "#999")]
    entries += [(label.name, _css(label.rgb)) for label in AMOS]
    return "".join(
        f'<rect x="{_LEFT + _WIDTH + 14}" y="{_TOP + 19 * k}" width="14" height="6" '
        f'fill="{colour}"/><text x="{_LEFT + _WIDTH + 34}" y="{_TOP + 19 * k + 7}">{name}</text>'
        for k, (name, colour) in enumerate(entries)
    )
