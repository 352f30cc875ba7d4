"""What is not an abdomen: so that a network learns to find nothing there."""

from viscera.phantom.body import Body
from viscera.phantom.canvas import Canvas
from viscera.phantom.shapes import ellipsoid, tube, turn, vec


def paint_distractor(canvas: Canvas, body: Body) -> None:
    """Paint one of: a head, a pair of legs, a bottle of water, blobs."""
    painters = (_paint_head, _paint_head, _paint_legs, _paint_bottle, _paint_blobs)
    painters[int(body.rng.integers(len(painters)))](canvas, body)


def _paint_head(canvas: Canvas, body: Body) -> None:
    at = vec(0.0, 0.0, body.rng.uniform(-60, 60))
    radii = vec(78.0, 98.0, 108.0) * body.size(0.08)
    lean = turn(body.rng.normal(0, 8), 0, body.rng.normal(0, 8))
    neck = tube([(0, 25, at[2] - 60, 58), (0, 30, at[2] - 320, 62)])
    canvas.paint_tube(neck, body.hu["muscle"])
    canvas.paint_tube(tube([(0, 45, at[2] - 60, 16), (0, 45, at[2] - 320, 18)]), body.hu["cortex"])
    canvas.paint_tube(tube([(0, 0, at[2] - 60, 9), (0, 5, at[2] - 320, 9)]), -950.0)
    for grow, hu in ((8.0, body.hu["fat"] + 60), (0.0, 900.0), (-7.0, 34.0)):
        canvas.paint(ellipsoid(at, radii + grow, lean), hu, rough_mm=1.5)
    for side in (-1.0, 1.0):
        canvas.paint(ellipsoid(at + vec(side * 14, -5, 10), (8, 32, 16)), 8.0)
        canvas.paint(ellipsoid(at + vec(side * 34, -82, -45), (13, 13, 13)), 15.0)
        canvas.paint(ellipsoid(at + vec(side * 22, -70, -75), (14, 18, 16)), -950.0)


def _paint_legs(canvas: Canvas, body: Body) -> None:
    for side in (-1.0, 1.0):
        leg = body.tube([(side * 85, 0, 400, 78), (side * 80, 0, -400, 62)], wander_mm=6)
        canvas.paint_tube(leg, body.hu["fat"])
        canvas.paint_tube(leg.resized(-min(body.fat_mm, 25)), body.hu["muscle"])
        canvas.paint_tube(leg.resized(-55), body.hu["cortex"])


def _paint_bottle(canvas: Canvas, body: Body) -> None:
    wide = body.rng.uniform(50, 160)
    shape = tube([(0, 0, 500, wide), (0, 0, -500, wide)])
    canvas.paint_tube(shape, 120.0)
    canvas.paint_tube(shape.resized(-6), float(body.rng.normal(0, 25)))


def _paint_blobs(canvas: Canvas, body: Body) -> None:
    for _ in range(int(body.rng.integers(2, 40))):
        at = body.rng.uniform((-140, -100, -200), (140, 100, 200))
        radii = body.rng.uniform(8, 90, 3)
        hu = float(body.rng.choice((-900, -100, 0, 40, 60, 110, 160, 300, 800)))
        shape = ellipsoid(at, radii, turn(*body.rng.uniform(-90, 90, 3)))
        canvas.paint(shape, hu, rough_mm=3, key=int(body.rng.integers(9)))
