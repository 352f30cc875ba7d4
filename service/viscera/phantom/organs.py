"""The solid organs, and the hollow ones of the upper abdomen and the pelvis."""

import numpy as np

from viscera.phantom.body import LABEL, Body
from viscera.phantom.canvas import Canvas
from viscera.phantom.shapes import (
    Array,
    Blend,
    Carved,
    Points,
    Shape,
    Tube,
    ellipsoid,
    tube,
    turn,
    vec,
)
from viscera.phantom.tissue import Phase
from viscera.phantom.trunk import Cavities


class Hollow:
    """The paint of a hollow organ: wall, then fluid or food, with gas on top of it."""

    def __init__(
        self, wall: float, content: float, *, wall_mm: float, gas: float, gas_above_y: float
    ) -> None:
        self._wall, self._content, self._wall_mm = wall, content, wall_mm
        self._gas, self._gas_above_y = gas, gas_above_y

    def __call__(self, x: Array, y: Array, z: Array, d: Array) -> Array:
        """Return HU by depth below the surface `d` and by what rises to the front."""
        inside = np.where(y < self._gas_above_y, self._gas, self._content)
        deep = np.clip((-d - self._wall_mm) / 2.0 + 0.5, 0, 1)
        found: Array = self._wall + (inside - self._wall) * deep
        return found


def paint_spleen(canvas: Canvas, body: Body, room: Cavities) -> None:
    """Paint the spleen under the left dome, beside the stomach."""
    size, at = body.size(0.14), vec(98.0, 34.0, 134.0) + body.jitter(6)
    lean = turn(-18 + body.rng.normal(0, 6), 10, -28 + body.rng.normal(0, 8))
    radii = (32 * size, 48 * size * body.size(0.08), 55 * size * body.size(0.1))
    dent = ellipsoid(at + vec(-56.0, -26, 0) * size, (34, 38, 64))
    shape = Carved(ellipsoid(at, radii, lean), dent)
    # Early on, the red pulp fills in stripes.
    stripes = 18 if body.phase is Phase.ARTERIAL else 2

    def paint(x: Array, y: Array, z: Array, d: Array) -> Array:
        found: Array = body.hu["spleen"] + stripes * np.sin(0.35 * (x + y) + 0.2 * z)
        return found

    canvas.paint(
        shape, paint, LABEL["spleen"], rough_mm=2, key=1, halo_mm=1.5, within=room.abdomen + 2
    )


def paint_liver(canvas: Canvas, body: Body, room: Cavities) -> None:
    """Paint both lobes with their vessels, then the gallbladder beneath."""
    size, shift = body.size(0.1), body.jitter(6)
    lobes: list[Shape] = [
        ellipsoid(
            vec(-76.0, 4, 130) + shift,
            (77 * size, 86 * size, 90 * size * body.size(0.1)),
            turn(0, 12, 8),
        ),
        ellipsoid(
            vec(-2.0, -46, 162) + shift,
            (68 * size * body.size(0.15), 38 * size, 38 * size),
            turn(0, -14 + body.rng.normal(0, 6), 6),
        ),
    ]
    if body.chance(0.2):  # Riedel's lobe
        lobes.append(ellipsoid(vec(-98.0, -8, 70) + shift, (28, 42, 60)))
    dent = ellipsoid((-20, 20, 92), (42, 48, 52))
    liver = Carved(Blend(tuple(lobes), 28.0), dent)
    canvas.paint(
        liver, body.hu["liver"], LABEL["liver"], rough_mm=2.5, key=2, within=room.abdomen + 2.5
    )
    _paint_liver_vessels(canvas, body, shift)


def _paint_liver_vessels(canvas: Canvas, body: Body, shift: np.ndarray) -> None:
    portal: list[Points] = [
        [(-50, -8, 128, 6), (-78, 2, 132, 5), (-105, 18, 122, 3)],
        [(-78, 2, 132, 5), (-95, -18, 152, 3.5), (-105, -25, 170, 2.5)],
        [(-50, -10, 130, 5), (-28, -38, 158, 4.5), (10, -50, 166, 3)],
    ]
    hepatic: list[Points] = [
        [(-28, 2, 182, 5), (-62, 10, 166, 4.5), (-100, 22, 142, 3)],
        [(-28, -2, 182, 5), (-52, -32, 168, 4), (-72, -50, 140, 3)],
        [(-26, -4, 182, 5), (-8, -38, 176, 4), (20, -52, 168, 2.5)],
    ]
    for name, trees in (("portal vein", portal), ("cava high", hepatic)):
        for points in trees:
            branch = body.tube(points, shift=shift, wander_mm=4)
            for piece in branch.pieces():
                _paint_inside(canvas, piece, body.hu[name], LABEL["liver"])


def _paint_inside(canvas: Canvas, piece: Tube, hu: float, label: int) -> None:
    """Paint only where `label` already is, and keep it."""
    at = canvas.window(piece.bounds)
    if at is not None:
        inside = np.where(canvas.labels[at] == label, -50, 50)
        canvas.lay(at, np.maximum(canvas.distance(piece, at), inside), hu, None)


def paint_gallbladder(canvas: Canvas, body: Body) -> None:
    """Paint the gallbladder at the liver's lower edge, unless it was taken out."""
    full, shift = body.size(0.22), body.jitter(5)
    pear = [(-36, -26, 94, 5), (-44, -40, 80, 12 * full), (-50, -56, 62, 15 * full)]
    knots = body.tube([*pear, (-52, -62, 52, 11 * full)], shift=shift)
    if not body.chance(0.08):
        canvas.paint(knots, body.hu["bile"], LABEL["gall bladder"], halo_mm=0.8, key=3)


def paint_kidney(canvas: Canvas, body: Body, side: float) -> np.ndarray:
    """Paint one kidney in its fat; return its centre.

    Parameters
    ----------
    canvas, body
        What is painted on, and whose kidney it is.
    side
        1 for left, -1 for right.
    """
    s, size, slim = side, body.size(0.1), body.size(0.06)
    at = vec(63.0 * s, 36.0, 82.0 if s > 0 else 66.0) + body.jitter(6)
    lean = turn(-12 + body.rng.normal(0, 4), -13 * s + body.rng.normal(0, 4), 30 * s)
    radii = (26 * size * slim, 23 * size, 53 * size)
    inward = lean @ vec(-s, -0.1, 0.0)
    sinus = ellipsoid(at + inward * 23 * size, (15 * size, 9 * size, 21 * size), lean)
    bean = Carved(ellipsoid(at, radii, lean), sinus)
    name = "left kidney" if s > 0 else "right kidney"
    fat, core = body.hu["fat"], body.hu["kidney core"]
    around = 2.5 + 0.22 * body.fat_mm

    def paint(x: Array, y: Array, z: Array, d: Array) -> Array:
        pyramids = (d < -7) & (np.sin(0.28 * (z - at[2])) + np.sin(0.3 * (y - at[1])) > -0.6)
        found: Array = np.where(pyramids, core, body.hu["kidney"])
        return found

    canvas.paint(sinus, fat, 0)
    canvas.paint(bean, paint, LABEL[name], rough_mm=1.2, key=4, halo_mm=around, halo_hu=fat)
    pelvis = ellipsoid(at + inward * 22 * size, (9 * size, 6 * size, 12 * size), lean)
    canvas.paint(pelvis, body.hu["kidney pelvis"], 0)
    out = at + inward * 34 * size
    ureter: Points = [(*out, 3.0), (s * 38, 22, 20, 2.5), (s * 40, 20, -60, 2.5)]
    canvas.paint_tube(body.tube(ureter), body.hu["kidney pelvis"])
    centre: np.ndarray = at
    return centre


def paint_adrenal(canvas: Canvas, body: Body, side: float, kidney: np.ndarray) -> None:
    """Paint one adrenal gland, two thin limbs in fat, above and in front of its kidney."""
    s, size, thick = side, body.size(0.12), body.size(0.15)
    above = (-25.0 * s, -16.0, 50.0) if s > 0 else (24.0, -10.0, 60.0)
    at = kidney + np.array(above) + body.jitter(2.5)
    limbs = []
    for spread in (-32.0, 24.0):
        lean = turn(12, 0, spread + 10 * s + body.rng.normal(0, 5))
        end = at + lean @ vec(0.0, 10.0 * size, -4.0)
        limbs.append(ellipsoid(end, (3.4 * thick, 13 * size, 15 * size), lean))
    name = "left adrenal gland" if s > 0 else "right adrenal gland"
    canvas.paint(Blend(tuple(limbs), 4.0), body.hu["adrenal"], LABEL[name], halo_mm=2.5)


def paint_pancreas(canvas: Canvas, body: Body, shift: np.ndarray) -> None:
    """Paint the pancreas from the duodenal C to the hilum of the spleen."""
    wide = 1.12 * body.size(0.12)
    head: Points = [(-38, -2, 46, 10), (-40, -8, 62, 15), (-30, -16, 78, 13)]
    body_of: Points = [(-8, -26, 86, 10), (18, -25, 93, 11), (46, -6, 106, 11.5)]
    shape = body.tube([*head, *body_of, (74, 16, 122, 11)], shift=shift, wander_mm=3, wide=wide)
    hu = body.hu["pancreas"]
    lobes = 3.0 if body.fat_mm > 20 else 1.8
    for piece in shape.pieces(30):
        canvas.paint(piece, hu, LABEL["pancreas"], rough_mm=lobes, key=5, halo_mm=1.2)


def paint_stomach(canvas: Canvas, body: Body, room: Cavities, shift: np.ndarray) -> None:
    """Paint the stomach from the fundus under the left dome to the pylorus."""
    full = float(np.clip(body.size(0.25), 0.6, 1.45))
    knots: Points = [(54, 16, 184, 25), (58, 0, 164, 32), (58, -26, 132, 27)]
    knots += [(50, -48, 98, 24), (18, -56, 80, 20), (-14, -46, 84, 15), (-30, -36, 92, 9)]
    knots = [(x, y, z, r * (full if r > 10 else 1)) for x, y, z, r in knots]
    shape = body.tube(knots, shift=shift, wander_mm=4)
    gas_above = -58 + body.rng.normal(0, 16) + shift[1]
    content = body.hu["gut fluid"] + (body.rng.uniform(0, 25) if body.rng.random() < 0.5 else 0)
    paint = Hollow(
        body.hu["stomach wall"], content, wall_mm=3.5, gas=body.hu["gas"], gas_above_y=gas_above
    )
    canvas.paint(
        shape, paint, LABEL["stomach"], rough_mm=2, key=6, halo_mm=1.5, within=room.abdomen + 2
    )


def paint_duodenum(canvas: Canvas, body: Body, shift: np.ndarray) -> None:
    """Paint the C from the pylorus round the pancreas head, under the mesentery, to the left."""
    wide = body.size(0.12)
    knots: Points = [(-30, -35, 92, 9), (-48, -24, 94, 12), (-62, -6, 80, 12), (-64, 2, 48, 12)]
    knots += [(-48, 0, 26, 12), (-14, -10, 20, 11), (18, -12, 28, 11), (34, -10, 52, 11)]
    shape = body.tube([*knots, (40, -22, 66, 10)], shift=shift, wander_mm=2, wide=wide)
    for number, piece in enumerate(shape.pieces(2)):
        middle = piece.knots[:, 1].mean()
        gas = middle - (4 if number % 3 == 0 and body.rng.random() < 0.35 else 30)
        paint = Hollow(
            body.hu["gut wall"],
            body.hu["gut fluid"],
            wall_mm=3.5,
            gas=body.hu["gas"],
            gas_above_y=gas,
        )
        canvas.paint(piece, paint, LABEL["duodenum"], rough_mm=1.2, key=7)


def paint_esophagus(canvas: Canvas, body: Body, shift: np.ndarray) -> None:
    """Paint the oesophagus down to the stomach, sometimes with air in it."""
    knots: Points = [(0, 32, 440, 8), (0, 30, 330, 8), (4, 26, 270, 8.5), (12, 18, 222, 8.5)]
    knots += [(24, 8, 196, 8.5)]
    end = vec(46.0, 6, 180) + shift
    shape = body.tube([*knots, (*end, 8.5)], wide=body.size(0.1), wander_mm=1.5)
    air = body.rng.random() < 0.4
    for piece in shape.pieces():
        canvas.paint(piece, body.hu["esophagus"], LABEL["esophagus"], halo_mm=1.0)
        if air:
            canvas.paint(
                tube([tuple(k) for k in piece.resized(-6).knots]), -300.0, LABEL["esophagus"]
            )


def paint_pelvic_organs(canvas: Canvas, body: Body) -> None:
    """Paint bladder, and prostate with seminal vesicles or uterus."""
    full, shift = float(np.clip(body.size(0.3), 0.5, 1.6)) ** 0.5, body.jitter(3)
    floor = vec(0.0, -24.0, -176.0) + shift
    tall = 30 * full
    if body.sex == "F":
        _paint_uterus(canvas, body, floor, tall)
    dome = ellipsoid(floor + vec(0, 0, tall), (39 * full, 32 * full, tall))
    dent = ellipsoid(floor + vec(0, 4, 2.3 * tall), (40, 40, 0.65 * tall))
    bladder = Carved(dome, dent) if body.sex == "F" else dome
    urine = Hollow(
        body.hu["bladder wall"], body.hu["urine"], wall_mm=2.5, gas=-900, gas_above_y=-999
    )
    canvas.paint(bladder, urine, LABEL["bladder"], rough_mm=1.5, key=8, halo_mm=2)
    if body.sex == "M":
        size = body.size(0.14)
        at = floor + vec(0.0, 10.0, -13.0 * size)
        gland = ellipsoid(at, (25 * size, 19 * size, 20 * size))
        for side in (-1.0, 1.0):
            seed = ellipsoid(at + vec(side * 17, 16, 20 * size), (15, 6, 7), turn(0, 0, 12 * side))
            canvas.paint(seed, body.hu["prostate"] - 12, 0)
        canvas.paint(
            gland, body.hu["prostate"], LABEL["prostate/uterus"], rough_mm=1, key=9, halo_mm=1
        )


def _paint_uterus(canvas: Canvas, body: Body, floor: np.ndarray, tall: float) -> None:
    size, aside = body.size(0.14), body.rng.normal(0, 6)
    neck = floor + vec(0.0, 44.0, 22.0)
    top = vec(aside, 14.0, floor[2] + max(2 * tall, 50) + 14)
    pear = tube(
        [(*neck, 12 * size), (*(0.5 * neck + 0.5 * top), 16 * size), (*top, 21 * size)],
        (0.85, 1.1, 1.0),
    )
    canvas.paint(
        pear, body.hu["uterus"], LABEL["prostate/uterus"], rough_mm=1.5, key=10, halo_mm=1.5
    )
    for side in (-1.0, 1.0):
        ovary = ellipsoid(top + vec(side * 42, 4, -6), (14, 10, 12))
        canvas.paint(ovary, body.hu["uterus"] - 25, 0)
