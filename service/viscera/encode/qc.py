"""The QC picture: two overlays and a legend, to be judged in a glance. No patient data."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from viscera.domain.arrays import Labels
from viscera.domain.results import Decision, FlagKind, OrganMeasurement, Presence, Verdict
from viscera.domain.volumes import Volume
from viscera.encode.context import ResultContext
from viscera.encode.planes import Plane, chosen_planes
from viscera.encode.words import grade_words, verdict_words

_PANEL = 620
_LEGEND = 400
_GAP = 20
_HEADER = 56
_LINE = 24
_WRAP = 190
_BACKGROUND, _INK, _FAINT, _AMBER = (17, 20, 24), (235, 235, 235), (140, 146, 154), (255, 191, 64)
_OPACITY = 0.42
_CT_WINDOW_HU = (-160.0, 240.0)
_PERCENTILES = (1.0, 99.0)
_TITLE_FONT, _FONT, _SMALL_FONT = (ImageFont.load_default(size) for size in (22, 17, 14))

_PRESENCE = {
    Presence.FOUND: "",
    Presence.FOUND_TRUNCATED: "cut off",
    Presence.NOT_FOUND: "not found",
    Presence.OUTSIDE_FIELD_OF_VIEW: "outside the scan",
    Presence.NOT_SEGMENTED: "not looked for",
}
_FLAGS = {
    FlagKind.VOLUME_UNUSUAL: "unusual size",
    FlagKind.VOLUME_IMPOSSIBLE: "impossible size",
    FlagKind.SIDE_CONTRADICTED: "wrong side?",
    FlagKind.MISPLACED: "wrong place?",
    FlagKind.REMOVED: "parts removed",
}


def write_qc(
    path: Path,
    labels: Labels,
    volume: Volume,
    measurements: Sequence[OrganMeasurement],
    verdict: Verdict,
    context: ResultContext,
) -> None:
    """Write a PNG with an axial and a coronal overlay, the organs' volumes and the verdict.

    Parameters
    ----------
    path
        The file to write.
    labels
        (slice, row, column) on the volume's grid.
    volume
        CT is windowed for soft tissue, other modalities by their percentiles.
    measurements
        The legend's lines, in order.
    verdict, context
        What stands below and above the images.
    """
    legend_height = len(measurements) * _LINE + 2 * _LINE
    notes = _notes(verdict)
    body = max(_PANEL + _LINE, legend_height)
    width = 2 * _PANEL + _LEGEND + 4 * _GAP
    picture = Image.new("RGB", (width, _HEADER + body + len(notes) * _LINE + 2 * _GAP), _BACKGROUND)
    draw = ImageDraw.Draw(picture)
    draw.text((_GAP, 16), grade_words(context), fill=_AMBER, font=_TITLE_FONT)
    window = _window(volume)
    colours = _colours(measurements)
    for column, plane in enumerate(chosen_planes(labels, volume)):
        left = _GAP + column * (_PANEL + _GAP)
        _draw_plane(picture, draw, plane, (left, _HEADER), window, colours)
    _draw_legend(draw, measurements, (3 * _GAP + 2 * _PANEL, _HEADER))
    for row, line in enumerate(notes):
        colour = _FAINT if verdict.decision is Decision.DELIVER else _AMBER
        place = (_GAP, _HEADER + body + _GAP + row * _LINE)
        draw.text(place, line, fill=colour, font=_FONT)
    picture.save(path, format="PNG", optimize=False, compress_level=6)


def _notes(verdict: Verdict) -> list[str]:
    lines = [verdict_words(verdict)]
    for reason in verdict.reasons:
        lines += textwrap.wrap(reason, _WRAP, initial_indent="- ", subsequent_indent="  ")
    return lines


def _window(volume: Volume) -> tuple[float, float]:
    if volume.modality == "CT":
        return _CT_WINDOW_HU
    sample = volume.voxels[::3, ::4, ::4]
    if volume.padding is not None:
        sample = sample[~volume.padding[::3, ::4, ::4]]
    if not sample.size:
        return (0.0, 1.0)
    low, high = np.percentile(sample, _PERCENTILES)
    return float(low), max(float(high), float(low) + 1e-6)


def _colours(measurements: Sequence[OrganMeasurement]) -> np.ndarray:
    table = np.zeros((256, 3), dtype=np.uint8)
    for one in measurements:
        if one.presence is not Presence.NOT_SEGMENTED:
            table[one.label.value] = one.label.rgb
    return table


def _draw_plane(
    picture: Image.Image,
    draw: ImageDraw.ImageDraw,
    plane: Plane,
    corner: tuple[int, int],
    window: tuple[float, float],
    colours: np.ndarray,
) -> None:
    """Paste one overlay, as large as fits into a square panel at its true proportions."""
    image = _overlay(plane, window, colours)
    left = corner[0] + (_PANEL - image.width) // 2
    top = corner[1] + _LINE + (_PANEL - image.height) // 2
    draw.text(corner, plane.title, fill=_FAINT, font=_FONT)
    picture.paste(image, (left, top))
    x, y = left + image.width // 2, top + image.height // 2
    right, bottom = left + image.width, top + image.height
    places = ((x, top + 4, "ma"), (right - 6, y, "rm"), (x, bottom - 4, "md"), (left + 6, y, "lm"))
    for letter, (at_x, at_y, anchor) in zip(plane.letters, places, strict=True):
        draw.text(
            (at_x, at_y),
            letter,
            fill=_INK,
            font=_FONT,
            anchor=anchor,
            stroke_width=2,
            stroke_fill=(0, 0, 0),
        )


def _overlay(plane: Plane, window: tuple[float, float], colours: np.ndarray) -> Image.Image:
    rows, columns = plane.labels.shape
    height_mm, width_mm = rows * plane.pixel_mm[0], columns * plane.pixel_mm[1]
    scale = _PANEL / max(height_mm, width_mm)
    size = (max(1, round(width_mm * scale)), max(1, round(height_mm * scale)))
    low, high = window
    grey = np.clip((plane.grey.astype(np.float32) - low) / (high - low) * 255, 0, 255)
    base = Image.fromarray(grey.astype(np.uint8)).resize(size, Image.Resampling.BILINEAR)
    # A copy: Pillow reads the memory as it lies, and the plane is a flipped view.
    seen = Image.fromarray(plane.labels.copy()).resize(size, Image.Resampling.NEAREST)
    shown, mask = np.asarray(base, dtype=np.float32)[..., None], np.asarray(seen)
    opacity = np.where(_edges(mask), 1.0, _OPACITY)[..., None] * (mask > 0)[..., None]
    blended = shown * (1 - opacity) + colours[mask] * opacity
    return Image.fromarray(blended.round().astype(np.uint8))


def _edges(mask: np.ndarray) -> np.ndarray:
    """Return the organs' outermost pixels, on the inside."""
    edges = np.zeros(mask.shape, dtype=bool)
    down, across = mask[1:] != mask[:-1], mask[:, 1:] != mask[:, :-1]
    edges[1:] |= down
    edges[:-1] |= down
    edges[:, 1:] |= across
    edges[:, :-1] |= across
    return edges


def _draw_legend(
    draw: ImageDraw.ImageDraw, measurements: Sequence[OrganMeasurement], corner: tuple[int, int]
) -> None:
    left, top = corner
    right = left + _LEGEND - _GAP
    draw.text((right - 110, top), "mL", fill=_FAINT, font=_FONT, anchor="ra")
    for row, one in enumerate(measurements, 1):
        y = top + row * _LINE + _LINE // 2
        found = one.voxels > 0
        box = (left, y - 7, left + 14, y + 7)
        draw.rectangle(box, fill=one.label.rgb if found else None, outline=one.label.rgb)
        ink = _INK if found else _FAINT
        draw.text((left + 24, y), one.label.title, fill=ink, font=_FONT, anchor="lm")
        if found:
            number = f"{one.volume_ml:.0f}" if one.volume_ml >= 10 else f"{one.volume_ml:.1f}"
            draw.text((right - 110, y), number, fill=ink, font=_FONT, anchor="rm")
        word = _FLAGS[one.flags[0].kind] if one.flags else _PRESENCE[one.presence]
        colour = _AMBER if one.flags else _FAINT
        draw.text((right - 98, y), word, fill=colour, font=_SMALL_FONT, anchor="lm")
