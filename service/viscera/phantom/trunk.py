"""The trunk: skin, fat, muscle wall, the two cavities, lungs, heart, back muscles, table, arms."""

from dataclasses import dataclass

import numpy as np

from viscera.phantom.body import Body
from viscera.phantom.canvas import Canvas
from viscera.phantom.shapes import Array, Ellipsoid, Points, ellipsoid, tube, vec

# Height, half-width, half-depth to the front and to the back of the muscle wall's outside, mm.
_OUTLINE = np.array(
    [
        (-330, 150, 72, 80),
        (-240, 166, 72, 86),
        (-180, 172, 76, 96),
        (-120, 166, 80, 98),
        (-60, 156, 84, 94),
        (0, 143, 88, 90),
        (60, 138, 92, 90),
        (120, 144, 98, 93),
        (190, 150, 102, 98),
        (260, 152, 98, 100),
        (330, 148, 86, 98),
        (420, 140, 70, 90),
    ],
    dtype=np.float64,
)


@dataclass(frozen=True, slots=True, eq=False)
class Cavities:
    """Distances on the whole grid, canonical mm, negative inside."""

    wall: Array
    """To the outside of the muscle wall."""
    abdomen: Array
    """To the inside of the muscle wall, below the diaphragm."""
    below_dome: Array
    """To the diaphragm, negative below it."""


def outline_at(z_mm: float, belly_mm: float) -> tuple[float, float, float]:
    """Half-width, half-depth to the front and to the back at one height, mm."""
    width, front, back = (float(np.interp(z_mm, _OUTLINE[:, 0], _OUTLINE[:, k])) for k in (1, 2, 3))
    return width, front + belly_mm * _bulge(z_mm), back


def _bulge(z_mm: float) -> float:
    return float(np.exp(-(((z_mm - 30) / 95) ** 2)))


def _lookup(z: Array, table: list[float]) -> Array:
    """Values at heights from a table in steps of 2 mm from -340."""
    at = np.clip((z + np.float32(340)) * np.float32(0.5), 0, len(table) - 1)
    found: Array = np.array(table, np.float32)[at.astype(np.int16)]
    return found


def _wall_distance(canvas: Canvas, body: Body) -> Array:
    rows = [outline_at(z, body.belly_mm) for z in np.arange(-340.0, 430.0, 2.0)]
    width, front, back = (_lookup(canvas.z, list(column)) for column in zip(*rows, strict=True))
    u = np.minimum(np.abs(canvas.x) / width, 2)
    v = np.minimum(np.abs(canvas.y) / np.where(canvas.y < 0, front, back), 2)
    u *= u
    v *= v
    # A squircle (Fernandez-Guasti), rounder than an ellipse; radial distance to its edge.
    near = np.sqrt(u + v - np.float32(0.3) * u * v) + np.float32(1e-4)
    found: Array = np.hypot(canvas.x, canvas.y) * (1 - 1 / near)
    return found


def _dome(canvas: Canvas, body: Body) -> Array:
    """Height of the diaphragm over each point, minus its z: negative below."""
    shift = body.jitter(7.0).tolist()
    right, left = 208.0 + shift[0], 190.0 + shift[1]
    x, y = canvas.x, canvas.y + np.float32(shift[2] * 0.5)
    depth = (y / np.float32(98)) ** 2
    over_right = right - 80 * (((x + 70) / 78) ** 2 + depth)
    over_left = left - 58 * (((x - 80) / 84) ** 2 + depth)
    centre = min(right, left) - 12 - 60 * ((x / 60) ** 2 + depth)
    height = np.maximum(np.maximum(over_right, over_left), centre)
    found: Array = (canvas.z - height) * np.float32(0.75)
    return found


def _wall_thickness(canvas: Canvas, body: Body) -> Array:
    """How thick the wall is: thin in front, thick at the back, and thick beside the pelvis."""
    thin = 8.0 * body.size(0.2)
    around = np.hypot(canvas.x, canvas.y) + np.float32(1)
    back = np.maximum(canvas.y / around, 0)
    side = np.abs(canvas.x) / around
    low = np.clip((np.float32(-10) - canvas.z) / 130, 0, 1)
    low = low * low * (3 - 2 * low)
    floor = np.clip((np.float32(-95) - canvas.z) / 110, 0, 1)
    side *= side
    found: Array = thin + 15 * back + low * (52 * side + 12 * back) + floor * (66 * side + 24)
    return found


def paint_trunk(canvas: Canvas, body: Body) -> Cavities:
    """Paint skin, fat, wall and lungs; return the cavities that organs are fitted into."""
    wall = _wall_distance(canvas, body)
    hips = np.clip(-canvas.z / 200, 0, 1)
    around = np.hypot(canvas.x, canvas.y) + np.float32(1)
    fat = body.fat_mm * (1 + 0.35 * hips - 0.3 * np.abs(canvas.x) / around)
    fat = np.maximum(fat + 0.15 * body.fat_mm * canvas.rough[0], 3)
    whole = (slice(None), slice(None), slice(None))
    skin = wall - fat
    _part_legs(canvas, skin)
    canvas.lay(whole, skin, body.hu["skin"])
    canvas.lay(whole, skin + 2, lambda x, y, z, d: body.hu["fat"] + 6 * canvas.rough[1])
    canvas.lay(whole, np.maximum(wall, skin + 4), lambda x, y, z, d: _wall_hu(canvas, body, d))
    below_dome = _dome(canvas, body)
    inner = wall + _wall_thickness(canvas, body)
    visceral_hu = body.hu["fat"] + body.rng.uniform(0, 8)
    abdomen = np.maximum(inner, -204 - canvas.z + 4 * canvas.rough[1])
    canvas.lay(whole, np.maximum(abdomen, below_dome), visceral_hu)
    _paint_chest(canvas, body, inner, below_dome)
    return Cavities(wall, np.maximum(abdomen, below_dome + 3), below_dome)


def _part_legs(canvas: Canvas, skin: Array) -> None:
    """Cut the gap between the thighs."""
    gap = 14 * np.clip((-225 - canvas.z) / 60, -1, 1) - np.abs(canvas.x)
    np.maximum(skin, np.where(canvas.z < -222, gap, -50), out=skin)


def _wall_hu(canvas: Canvas, body: Body, distance: Array) -> Array:
    """Muscle in sheets with some fat between them."""
    sheets = np.abs(distance + 5 + canvas.rough[1]) < 0.8
    found: Array = np.where(sheets & (canvas.z < 150), body.hu["fat"] + 60, body.hu["muscle"])
    found += 4 * canvas.rough[2]
    return found


def _paint_chest(canvas: Canvas, body: Body, inner: Array, below_dome: Array) -> None:
    heart_at = vec(22.0, -32.0, 232.0) + body.jitter(5)
    wide = 30.0 * body.size(0.1)
    at = canvas.window((vec(-200.0, -150, 60), vec(200.0, 150, 600)))
    if at is None:
        return
    chest = np.maximum(inner[at] + 6, -below_dome[at])
    middle = ellipsoid((4, 8, 330), (wide, 75, 190)).distance(
        canvas.x[at], canvas.y[at], canvas.z[at]
    )
    canvas.lay(at, chest, body.hu["fat"] + 12)
    texture = body.hu["lung"] + 45 * canvas.rough[0][at] + 30 * canvas.rough[1][at]
    vessels = np.abs(canvas.rough[2][at] * canvas.rough[1][at]) < 0.02
    texture = np.where(vessels, texture + 220, texture)
    canvas.lay(at, np.maximum(chest + 2, -middle), lambda x, y, z, d: texture)
    sac = ellipsoid(heart_at, (62, 50, 48))
    canvas.paint(sac, body.hu["fat"] + 8, within=-below_dome)
    heart = ellipsoid(heart_at, (57, 45, 43))
    canvas.paint(
        heart,
        lambda x, y, z, d: np.where(
            (d < -11) | (x < heart_at[0] - 18), body.hu["heart"], body.hu["muscle"] + 15
        ),
        within=-below_dome + 2,
        rough_mm=2,
    )


def hip_plate(side: float, centre: Array, thick_mm: float) -> Ellipsoid:
    """Return a plate along the wing of the ilium: from the sacrum outwards, forwards and up."""
    along = vec(side * 70.0, -98.0, 22.0)
    up = vec(side * 38.0, 8.0, 92.0)
    along /= np.linalg.norm(along)
    up -= along * (up @ along)
    up /= np.linalg.norm(up)
    columns = np.stack([along, up, np.cross(along, up)], axis=1)
    return Ellipsoid(centre, vec(72.0, 54.0, thick_mm), columns)


def paint_back_muscles(canvas: Canvas, body: Body) -> None:
    """Paint psoas, erector spinae, quadratus lumborum and the buttocks on both sides."""
    bulk = body.size(0.15)

    def muscle(x: Array, y: Array, z: Array, d: Array) -> Array:
        return np.full_like(d, body.hu["muscle"])

    for side in (-1, 1):
        s = float(side)
        wing = vec(s * 88.0, 22.0, -42.0)
        for offset, thick in ((-11.0, 11.0), (15.0, 16.0)):  # iliacus inside, gluteus outside
            plate = hip_plate(s, wing + vec(s * offset, 0, -0.3 * offset), thick)
            canvas.paint(plate, muscle, rough_mm=1)
        psoas: Points = [(s * 27, 34, 105, 8), (s * 36, 30, 60, 14), (s * 44, 26, 0, 19)]
        psoas += [(s * 58, 10, -70, 20), (s * 76, -22, -140, 16), (s * 84, -15, -210, 14)]
        canvas.paint_tube(body.tube(psoas, wide=bulk), muscle, rough_mm=1)
        back: Points = [(s * 30, 84, 340, 20), (s * 33, 82, 200, 22), (s * 36, 76, 60, 26)]
        canvas.paint_tube(body.tube([*back, (s * 28, 78, -60, 20)], wide=bulk), muscle, rough_mm=1)
        loin: Points = [(s * 62, 52, 85, 10), (s * 72, 50, 10, 14)]
        canvas.paint_tube(body.tube(loin, wide=bulk), muscle)
        buttock = ellipsoid((s * 74, 78, -130), (58 * bulk, 30 * bulk, 76))
        canvas.paint(buttock, muscle, rough_mm=3)
        canvas.paint(ellipsoid((s * 128, 22, -70), (20, 44, 58)), muscle, rough_mm=2)


def paint_surroundings(canvas: Canvas, body: Body) -> None:
    """Paint the table and, in unusual bodies, the arms."""
    depth = 98 + body.fat_mm + body.rng.uniform(4, 10)
    arms, bend = body.chance(0.2), body.rng.uniform(40, 90)
    at = canvas.window((vec(-230.0, depth - 60, -900), vec(230.0, depth + 60, 900)))
    if at is not None:
        x, y = canvas.x[at], canvas.y[at]
        sag = depth - (x / 200) ** 2 * bend * 0.3
        slab = np.maximum(np.abs(y - sag - 14) - 10, np.abs(x) - 215)
        free = canvas.hu[at] < -900
        canvas.lay(at, np.where(free, slab, 5), 60.0)
        canvas.lay(at, np.where(free, slab + 3, 5), -870.0)
    if not arms:
        return
    width = 150 + body.fat_mm
    for side in (-1.0, 1.0):
        reach = width + body.rng.uniform(38, 52)
        arm = tube([(side * reach, 10, 420, 44), (side * (reach + 6), 0, 100, 36)])
        canvas.paint_tube(arm, body.hu["fat"])
        canvas.paint_tube(arm.resized(-8), body.hu["muscle"])
        canvas.paint_tube(arm.resized(-27), body.hu["cortex"])
