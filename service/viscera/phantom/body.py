"""One body's draws: sizes, tissues, and the chances that set it apart from the next."""

from dataclasses import dataclass

import numpy as np

from viscera.domain.organs import AMOS
from viscera.phantom.canvas import Pose
from viscera.phantom.scan import Scan
from viscera.phantom.shapes import Points, Tube, smooth_knots, turn
from viscera.phantom.tissue import Phase, draw_tissues

LABEL = {label.name: label.value for label in AMOS}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Body:
    """What holds for a whole body. `rng` is drawn from in a fixed order, whatever the grid."""

    rng: np.random.Generator
    hu: dict[str, float]
    phase: Phase
    sex: str
    fat_mm: float
    """Under the skin, at its mean."""
    belly_mm: float
    """How far the front wall bulges beyond an average one."""
    pose: Pose
    unusual: bool
    """Whether organs may be missing and arms lie in the field of view."""

    def jitter(self, spread_mm: float) -> np.ndarray:
        """Return a displacement of SD `spread_mm` along each axis."""
        return self.rng.normal(0, spread_mm, 3)

    def size(self, spread: float) -> float:
        """Return a factor around 1, cut at two and a half spreads."""
        return float(np.exp(np.clip(self.rng.normal(0, spread), -2.5 * spread, 2.5 * spread)))

    def chance(self, probability: float) -> bool:
        """Draw; never true in a plain body."""
        return bool(self.rng.random() < probability) and self.unusual

    def tube(
        self,
        points: Points,
        *,
        shift: np.ndarray | None = None,
        wander_mm: float = 2.0,
        wide: float = 1.0,
        flatten: tuple[float, float, float] = (1.0, 1.0, 1.0),
    ) -> Tube:
        """Return a tube whose knots wander, moved by `shift` and widened by `wide`."""
        knots = np.array(points, dtype=np.float64)
        knots[:, :3] += self.rng.normal(0, wander_mm, (len(knots), 3))
        knots[:, :3] += 0.0 if shift is None else shift
        knots[:, 3] *= wide * np.exp(self.rng.normal(0, 0.06, len(knots)))
        return Tube(smooth_knots([tuple(knot) for knot in knots]), flatten)


def draw_body(rng: np.random.Generator, scan: Scan) -> Body:
    """Draw a body for `scan`; a plain one is of average build."""
    drawn = list(Phase)[rng.integers(len(Phase))]
    phase = scan.phase or drawn
    size = rng.uniform(0.97, 1.03) if scan.plain else rng.uniform(0.72, 1.3)
    scale = size * np.exp(rng.normal(0, 0.03, 3))
    fat_mm, belly_mm = rng.gamma(2.2, 8.0) + 4.0, max(rng.normal(4, 14), -14)
    if scan.plain:
        fat_mm, belly_mm = 16.0, 5.0
    tilt = rng.normal(0, 1.0, 3) * ((0.5, 0.5, 1.0) if scan.plain else (2.5, 2.5, 4.0))
    return Body(
        rng=rng,
        hu=draw_tissues(rng, phase, scan.plain),
        phase=phase,
        sex="M" if rng.random() < 0.5 else "F",
        fat_mm=min(fat_mm, 55.0),
        belly_mm=belly_mm,
        pose=Pose(
            scale=np.clip(scale, 0.68, 1.37),
            rotation=turn(*tilt),
            warp_mm=3.0 if scan.plain else float(rng.uniform(2.0, 6.5)),
        ),
        unusual=not scan.plain,
    )
