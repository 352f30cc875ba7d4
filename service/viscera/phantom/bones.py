"""Spine, ribs, breastbone, pelvis and hips: a bright shell around marrow."""

import numpy as np

from viscera.phantom.body import Body
from viscera.phantom.canvas import Canvas
from viscera.phantom.shapes import Array, Carved, Points, Shape, Tube, ellipsoid, tube, vec
from viscera.phantom.trunk import hip_plate, outline_at

# Height and how far back the middle of the vertebral bodies lies, mm.
_SPINE = np.array([(-70, 42), (-34, 36), (0, 36), (68, 40), (130, 47), (190, 54), (260, 60)])


class _Bone:
    """The paint of a bone: cortex near the surface, marrow deeper."""

    def __init__(self, body: Body, shell_mm: float) -> None:
        self._cortex, self._marrow = body.hu["cortex"], body.hu["marrow"]
        self._shell_mm = shell_mm

    def __call__(self, x: Array, y: Array, z: Array, d: Array) -> Array:
        depth = np.clip(-d / self._shell_mm, 0, 1)
        found: Array = self._cortex + (self._marrow - self._cortex) * depth * depth
        return found


def paint_bones(canvas: Canvas, body: Body) -> None:
    """Paint every bone of the trunk."""
    _paint_spine(canvas, body)
    _paint_ribs(canvas, body)
    for side in (-1.0, 1.0):
        _paint_hip(canvas, body, side)


def _paint_spine(canvas: Canvas, body: Body) -> None:
    pitch = 34.0 * body.size(0.04)
    offset = body.rng.uniform(-8, 8)
    heights = range(-80, 440, 40)
    cord: Points = [(0.0, float(np.interp(z, *_SPINE.T)) + 26, z, 8.5) for z in heights]
    for k in range(-2, 12):
        z = k * pitch * (1 - 0.012 * max(k, 0)) + offset
        y = float(np.interp(z, *_SPINE.T))
        wide = 25 - 0.7 * max(k, 0)
        body_of = tube([(0, y, z - 12, wide), (0, y, z + 12, wide)], (1.0, 1.35, 3.0))
        canvas.paint(body_of, _Bone(body, 2.0))
        ring = ellipsoid((0, y + 26, z), (17, 14, 12))
        canvas.paint(ring, body.hu["cortex"] * 0.7)
        spine = tube([(0, y + 34, z - 2, 5), (0, y + 52, z - 12, 5)], (1.6, 1.0, 0.7))
        canvas.paint(spine, body.hu["cortex"] * 0.6)
        side = tube([(-38, y + 24, z, 3.5), (0, y + 18, z, 6), (38, y + 24, z, 3.5)])
        canvas.paint(side, body.hu["cortex"] * 0.6)
        disc = ellipsoid((0, y, z + pitch / 2), (wide * 0.95, wide * 0.7, 5))
        canvas.paint(disc, body.hu["disc"])
    canvas.paint_tube(tube(cord), body.hu["cord"])
    sacrum: Points = [(0, 46, -62, 34), (0, 62, -90, 32), (0, 74, -120, 26)]
    sacrum += [(0, 74, -150, 16), (0, 60, -178, 8)]
    canvas.paint_tube(body.tube(sacrum, wander_mm=1, flatten=(0.75, 1.7, 1.2)), _Bone(body, 3))


def _paint_ribs(canvas: Canvas, body: Body) -> None:
    drop = body.rng.uniform(55, 80)
    for k in range(9):
        z_back = 140.0 + 27 * k
        reach = min(0.42 + 0.13 * k, 0.8)
        for side in (-1.0, 1.0):
            canvas.paint_tube(_rib(body, side, z_back, reach, drop), _Bone(body, 2))
            if k >= 2:
                cartilage = _rib(body, side, z_back, 0.97, drop, start=reach)
                canvas.paint_tube(cartilage, body.hu["cartilage"])
    breast = tube([(0, -88, 190, 18), (0, -88, 420, 22)], (1.0, 2.4, 1.0))
    canvas.paint_tube(breast, _Bone(body, 2))


def _rib(
    body: Body, side: float, z_back: float, reach: float, drop: float, start: float = 0.06
) -> Tube:
    """One rib along the inside of the wall, from `start` to `reach` of the half circle."""
    knots = []
    for share in np.linspace(start, reach, 14):
        z = z_back - drop * np.sin(share * np.pi / 2) ** 1.5
        width, front, back = outline_at(z, body.belly_mm)
        angle = np.pi * share
        depth = (back if angle < np.pi / 2 else front) - 9
        x, y = np.sin(angle) * (width - 9), np.cos(angle) * depth
        round_off = 1 / np.sqrt(1 - 0.3 * np.sin(angle) ** 2 * np.cos(angle) ** 2)
        knots.append((side * x * round_off, y * round_off, z, 5.2))
    return Tube(np.array(knots), (1.15, 1.15, 0.8))


def _paint_hip(canvas: Canvas, body: Body, side: float) -> None:
    s, bone = side, _Bone(body, 3)
    canvas.paint(hip_plate(s, vec(s * 88.0, 22.0, -42.0), 6.5), bone, rough_mm=1)
    parts: list[Shape] = [
        tube([(s * 78, 38, -80, 14), (s * 88, 16, -125, 20)], (1.3, 1.0, 1.0)),
        tube([(s * 76, -12, -152, 11), (s * 42, -48, -160, 8), (s * 7, -58, -176, 11)]),
        tube([(s * 84, 28, -165, 16), (s * 62, 42, -215, 14), (s * 42, 5, -214, 8)]),
        tube([(s * 42, 5, -214, 8), (s * 10, -42, -192, 8)]),
    ]
    for part in parts:
        canvas.paint(part, bone)
    socket = Carved(
        ellipsoid((s * 88, 6, -150), (35, 35, 35)), ellipsoid((s * 104, 4, -168), (42, 38, 40))
    )
    canvas.paint(socket, bone)
    head = (s * 93.0, 5.0, -155.0)
    canvas.paint(ellipsoid(head, (27, 27, 27)), 40.0)
    canvas.paint(ellipsoid(head, (24.5, 24.5, 24.5)), bone)
    thigh: Points = [(s * 98, 5, -160, 17), (s * 122, 10, -186, 17), (s * 130, 12, -205, 17)]
    canvas.paint_tube(tube([*thigh, (s * 118, 6, -300, 14)]), _Bone(body, 5))
