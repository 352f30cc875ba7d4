"""Aorta and cava with their branches; only the two trunks are labelled, as in AMOS."""

import numpy as np

from viscera.phantom.body import LABEL, Body
from viscera.phantom.canvas import Canvas
from viscera.phantom.shapes import Points, tube, vec


def paint_aorta(canvas: Canvas, body: Body) -> None:
    """Paint the aorta down to its fork, calcified in some, and what leaves it."""
    hu, wide = body.hu["artery"], body.size(0.12)
    knots: Points = [(26, 46, 440, 13), (24, 44, 330, 13), (20, 39, 260, 12.5), (13, 30, 190, 11.5)]
    knots += [(8, 17, 130, 10.5), (6, 10, 60, 9.5), (3, 9, 2, 8.8)]
    trunk = body.tube(knots, wander_mm=1.5, wide=wide)
    fork = trunk.knots[-1, :3]
    for side in (-1.0, 1.0):
        _branch(canvas, body, [(*fork, 6.5), *_iliac(side, 0.0)], hu)
        _branch(canvas, body, [(side * 8, 12, 88, 3.5), (side * 46, 24, 78, 3)], hu)
    _branch(canvas, body, [(6, 8, 104, 4), (5, -10, 88, 4), (2, -22, 20, 3.5)], hu)
    celiac: Points = [(6, 10, 118, 4), (8, -8, 122, 4), (-20, -14, 112, 3), (-44, -12, 124, 2.5)]
    _branch(canvas, body, celiac, hu)
    canvas.paint_tube(trunk, hu, LABEL["aorta"])
    if body.chance(0.4):
        _calcify(canvas, body, trunk.knots)


def _calcify(canvas: Canvas, body: Body, knots: np.ndarray) -> None:
    low = knots[knots[:, 2] < 150]
    for knot in low[body.rng.random(len(low)) < 0.5]:
        angle = body.rng.uniform(0, 2 * np.pi)
        at = knot[:3] + knot[3] * 0.85 * vec(np.cos(angle), np.sin(angle), 0)
        fleck = tube([(*at, 1.6), (*(at + vec(0, 0, 4)), 1.6)])
        canvas.paint(fleck, 650.0, LABEL["aorta"])


def _iliac(side: float, aside: float) -> Points:
    return [
        (side * 26, 8 + aside, -45, 5.5),
        (side * 48, 0 + aside, -95, 5.5),
        (side * 68, -38 + aside, -150, 5.5),
        (side * 76, -52 + aside, -260, 5),
    ]


def _branch(canvas: Canvas, body: Body, points: Points, hu: float) -> None:
    canvas.paint_tube(body.tube(points, wander_mm=1.5), hu)


def paint_cava(canvas: Canvas, body: Body) -> None:
    """Paint the inferior vena cava up to the right atrium, iliac and renal veins."""
    low, high = body.hu["vein"], body.hu["cava high"]
    flat, wide = body.rng.uniform(0.9, 1.35), body.size(0.12)
    for side in (-1.0, 1.0):
        fork: Points = [(-12 + side * 4, 16, -16, 8)]
        _branch(canvas, body, [*fork, *_iliac(side, 12.0)], low)
        _branch(canvas, body, [(-18 + side * 4, 10, 84, 5), (side * 44, 20, 76, 4)], high)
    knots: Points = [(-12, 16, -18, 9), (-20, 13, 40, 10.5), (-23, 11, 100, 11.5)]
    knots += [(-27, 9, 150, 12), (-25, 2, 190, 12), (-20, -10, 222, 12)]
    trunk = body.tube(knots, wander_mm=1.5, wide=wide, flatten=(1.0, flat, 1.0))
    heights = trunk.knots[:, 2]
    blood = np.where(heights > 88, high, low)
    for piece in trunk.pieces(2):
        mixed = float(np.interp(piece.knots[:, 2].mean(), heights, blood))
        canvas.paint(piece, mixed, LABEL["postcava"])


def paint_portal_vein(canvas: Canvas, body: Body, shift: np.ndarray) -> None:
    """Paint the mesenteric, splenic and portal veins, which carry no label."""
    hu = body.hu["portal vein"]
    up: Points = [(-8, -22, 0, 4), (-10, -20, 40, 5.5), (-14, -14, 78, 6.5), (-30, -8, 104, 7)]
    across: Points = [(78, 24, 126, 4), (46, 4, 108, 4.5), (16, -14, 94, 5), (-14, -14, 80, 5.5)]
    up.append((-50, -8, 128, 6.5))
    for points in (up, across):
        canvas.paint_tube(body.tube(points, shift=shift, wander_mm=1.5), hu)
