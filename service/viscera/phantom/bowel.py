"""Colon and small bowel: walls like any organ's, filled with stool, fluid and gas."""

import numpy as np

from viscera.phantom.body import Body
from viscera.phantom.canvas import Canvas
from viscera.phantom.organs import Hollow
from viscera.phantom.shapes import Array, Points, Tube, vec
from viscera.phantom.trunk import Cavities


class _Stool:
    """The paint of filled colon: mottled with gas bubbles."""

    def __init__(self, body: Body, waves: Array, speckle: float, gas_above_y: float) -> None:
        self._body, self._waves = body, waves
        self._speckle, self._gas_above_y = speckle, gas_above_y

    def __call__(self, x: Array, y: Array, z: Array, d: Array) -> Array:
        hu = self._body.hu
        mottle = sum(np.sin(a * x + b * y + c * z) for a, b, c in self._waves)
        bubbles = np.where(mottle > self._speckle, -300, hu["stool"] + 12 * mottle)
        inside = np.where(y < self._gas_above_y, hu["gas"], bubbles)
        deep = np.clip((-d - 2.5) / 2.0 + 0.5, 0, 1)
        found: Array = hu["gut wall"] + (inside - hu["gut wall"]) * deep
        return found


def paint_bowel(canvas: Canvas, body: Body, room: Cavities) -> None:
    """Paint small bowel first, then the colon that frames it."""
    space = room.abdomen + 2
    for _ in range(8):
        _paint_small_bowel(canvas, body, space)
    front = body.belly_mm * 0.8
    right: Points = [(-78, 6, -62, 22), (-94, 4, -30, 25), (-102, 8, 10, 22), (-98, 2, 50, 21)]
    across: Points = [(-78, -30, 66, 20), (-40, -64 - front, 42, 20), (10, -70 - front, 30, 19)]
    across += [(60, -60 - front, 60, 19), (92, -22, 104, 18), (102, 4, 132, 18)]
    left: Points = [(110, 24, 100, 16), (110, 28, 40, 15), (104, 24, -20, 15), (84, 0, -70, 15)]
    end: Points = [(58, -14, -100, 15), (14, -8, -84, 15), (-18, 22, -92, 15), (0, 50, -112, 16)]
    end += [(0, 56, -150, 18), (0, 40, -190, 15), (0, 48, -232, 9)]
    shift = body.jitter(5)
    wide = body.size(0.15)
    _paint_colon(
        canvas, body, body.tube([*right, *across, *left, *end], shift=shift, wander_mm=6, wide=wide)
    )


def _paint_small_bowel(canvas: Canvas, body: Body, space: Array) -> None:
    """One loop that wanders through the middle of the belly."""
    low, high = vec(-82.0, -72 - body.belly_mm * 0.8, -110), vec(86.0, 0.0, 66)
    at, heading = body.rng.uniform(low, high), body.jitter(1.0)
    knots = []
    for _ in range(26):
        knots.append((*at, 13 * body.size(0.14)))
        heading = heading + body.jitter(0.75)
        heading /= np.linalg.norm(heading)
        at = at + 24 * heading
        beyond = (at < low) | (at > high)
        heading = np.where(beyond, -heading, heading)
        at = np.clip(at, low, high)
    shape = body.tube(knots, wander_mm=0)
    gassy = body.rng.random(len(shape.knots)) < 0.15
    for number, piece in enumerate(shape.pieces(2)):
        level = piece.knots[:, 1].mean() + (2 if gassy[number] else -40)
        paint = Hollow(
            body.hu["gut wall"],
            body.hu["gut fluid"],
            wall_mm=2.5,
            gas=body.hu["gas"],
            gas_above_y=float(level),
        )
        canvas.paint(piece, paint, 0, rough_mm=1, key=11, halo_mm=1, within=space)


def _paint_colon(canvas: Canvas, body: Body, shape: Tube) -> None:
    knots = shape.knots.copy()
    knots[:, 3] *= 1 + 0.13 * np.sin(np.arange(len(knots)) * 2.1)  # haustra
    pieces = list(Tube(knots).pieces(2))
    filled = body.rng.random(len(pieces)) < 0.45
    speckle = body.rng.uniform(1.2, 3.5, len(pieces))
    waves = body.rng.normal(0, 0.35, (4, 3)).astype(np.float32)
    levels = body.rng.uniform(-0.7, 0.9, len(pieces))
    # Walls first: where pieces meet, the lumen stays open.
    for piece in pieces:
        canvas.paint(piece, body.hu["gut wall"], 0, rough_mm=1, key=12, halo_mm=1)
    for number, piece in enumerate(pieces):
        radius = float(piece.knots[:, 3].mean())
        level = float(piece.knots[:, 1].mean()) + radius * float(levels[number])
        paint = _Stool(body, waves, float(speckle[number]), level - radius * bool(filled[number]))
        canvas.paint(piece, paint, 0, rough_mm=1, key=12)
