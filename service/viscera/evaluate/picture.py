"""The report as a picture: a row for each organ, a dot for each case, the mean and its interval."""

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from viscera.evaluate.intervals import Estimate
from viscera.evaluate.report import Report

_NAMES, _PANEL, _NUMBER, _GAP = 190, 430, 70, 24
_TOP, _ROW = 74, 26
_BACKGROUND, _INK, _FAINT, _GRID = (255, 255, 255), (25, 28, 32), (120, 126, 134), (225, 228, 232)
_COLOURS = {"dice": (38, 92, 160), "nsd": (176, 84, 36)}
_DOT = (168, 176, 186)
_FONT, _SMALL = ImageFont.load_default(15), ImageFont.load_default(12)


def write_picture(path: Path, report: Report) -> None:
    """Write a PNG with Dice on the left and normalised surface distance on the right, 0 to 1.

    Parameters
    ----------
    path
        The file to write.
    report
        Names of cases are not drawn.
    """
    rows = [(one.organ, {"dice": one.dice, "nsd": one.nsd}) for one in report.organs]
    if report.mean_dice and report.mean_nsd:
        mean = {"dice": report.mean_dice, "nsd": report.mean_nsd}
        rows.append(("mean of organs", mean))
    width = _NAMES + 2 * (_PANEL + _NUMBER) + 3 * _GAP
    bottom = _TOP + len(rows) * _ROW
    picture = Image.new("RGB", (width, bottom + 34), _BACKGROUND)
    draw = ImageDraw.Draw(picture)
    cases = len(report.cases)
    title = f"{cases} case{'s' if cases != 1 else ''}; dots: cases, bar: mean and 95 % interval"
    draw.text((_GAP, 14), title if cases > 1 else "1 case: no interval", fill=_FAINT, font=_FONT)
    headings = {"dice": "Dice", "nsd": f"Surface Dice at {report.tolerance_mm:g} mm (NSD)"}
    for column, (metric, heading) in enumerate(headings.items()):
        left = _GAP + _NAMES + column * (_PANEL + _NUMBER + _GAP)
        draw.text((left, 42), heading, fill=_INK, font=_FONT)
        _draw_grid(draw, left, bottom)
        for row, (organ, estimates) in enumerate(rows):
            y = _TOP + row * _ROW + _ROW // 2
            for value in _values(report, organ, metric):
                _draw_dot(draw, left + value * _PANEL, y)
            _draw_estimate(draw, estimates[metric], left, y, _COLOURS[metric])
    for row, (organ, _) in enumerate(rows):
        y = _TOP + row * _ROW + _ROW // 2
        draw.text((_GAP, y), organ, fill=_INK, font=_FONT, anchor="lm")
    picture.save(path, format="PNG")


def _values(report: Report, organ: str, metric: str) -> list[float]:
    found = [
        getattr(one, metric)
        for scores in report.cases.values()
        for one in scores
        if one.organ == organ
    ]
    return [value for value in found if value is not None]


def _draw_grid(draw: ImageDraw.ImageDraw, left: int, bottom: int) -> None:
    for tenth in range(0, 11, 2):
        x = left + _PANEL * tenth / 10
        draw.line((x, _TOP, x, bottom), fill=_GRID)
        draw.text((x, bottom + 6), f"{tenth / 10:.1f}", fill=_FAINT, font=_SMALL, anchor="ma")


def _draw_dot(draw: ImageDraw.ImageDraw, x: float, y: int) -> None:
    draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=_DOT)


def _draw_estimate(
    draw: ImageDraw.ImageDraw, estimate: Estimate, left: int, y: int, colour: tuple[int, int, int]
) -> None:
    x = left + estimate.mean * _PANEL
    if estimate.low is not None and estimate.high is not None:
        ends = (left + estimate.low * _PANEL, y, left + estimate.high * _PANEL, y)
        draw.line(ends, fill=colour, width=3)
    draw.rectangle((x - 2, y - 8, x + 2, y + 8), fill=colour)
    place = (left + _PANEL + 12, y)
    draw.text(place, f"{estimate.mean:.3f}", fill=colour, font=_FONT, anchor="lm")
