"""One training volume out of a labelled one: deform, vary, repaint, scan. And the phantoms' way."""

from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from viscera.phantom import Scan, make_distractor, make_phantom
from viscera.training import appearance, deform, dome, lean, scanner, variants
from viscera.training.labelled import LabelledVolume
from viscera.training.outline import Outline, outline_of
from viscera.training.recipe import HELD_OUT_SEED, NORMALISATION, Recipe

_DOME_MM = 75.0
_LEANER_STEPS = (2, 4, 7)
"""How lean the copies of a volume are: see `lean.leaner`."""
_LEANER_OF = 10
"""Of how many volumes there are such copies: where there are more people, some are lean."""
_HABITUS, _LEAN_HABITUS = (0.68, 1.35), (0.8, 1.45)
"""How large bodies are beside the labelled one; lean copies have lost girth before."""


class Kind(StrEnum):
    """Where a training volume comes from."""

    PHANTOM = "phantom"
    DISTRACTOR = "distractor"
    REAL = "real"  # a labelled volume, deformed
    RECOLOURED = "recoloured"  # in another contrast phase
    SYNTHETIC = "synthetic"  # painted from its label map alone
    MIXED = "mixed"
    FREE = "free"  # painted without regard to what CT shows


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Drawn:
    """What the pool keeps of one draw.

    Parameters
    ----------
    hu
        (z, y, x) int16.
    labels
        (z, y, x) uint8: 0 to 15, or `UNSURE`.
    unlabelled
        AMOS's values of the organs that `UNSURE` may be.
    """

    hu: np.ndarray
    labels: np.ndarray
    unlabelled: tuple[int, ...] = ()
    kind: Kind


@dataclass(frozen=True, slots=True, eq=False)
class Body:
    """A labelled volume, ready to be deformed."""

    volume: LabelledVolume
    outline: Outline
    habitus: tuple[float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Sources:
    """What a recipe draws from."""

    recipe: Recipe
    bodies: list[Body] = field(default_factory=list)

    @classmethod
    def prepare(cls, recipe: Recipe, volumes: list[LabelledVolume]) -> "Sources":
        """Give volumes that end in the liver a dome, some of them leaner copies, all an outline."""
        complete = [
            dome.with_dome(one, _DOME_MM, recipe.spacing_mm) if dome.has_cut_liver(one) else one
            for one in volumes
        ]
        copies = [copy for one in complete[:_LEANER_OF] for copy in lean.leaner(one, _LEANER_STEPS)]
        bodies = [Body(one, outline_of(one), _HABITUS) for one in complete]
        bodies += [Body(one, outline_of(one), _LEAN_HABITUS) for one in copies]
        return cls(recipe, bodies)

    def draw(self, seed: int) -> Drawn:
        """Draw training volume `seed`: the same seed gives the same volume."""
        rng = np.random.default_rng((seed, 1))
        if not self.bodies or rng.random() < self.recipe.phantoms:
            return _phantom(seed, self.recipe, rng)
        return self._deformed(self.bodies[int(rng.integers(len(self.bodies)))], rng)

    def _deformed(self, body: Body, rng: np.random.Generator) -> Drawn:
        volume, spacing_mm = body.volume, self.recipe.spacing_mm
        kind = Kind(rng.choice([*_SHARES], p=[*_SHARES.values()]))
        by = deform.draw_warp(volume, rng, spacing_mm, body.habitus)
        hu, structures = deform.warp(volume, body.outline, by)
        variants.vary(hu, structures, volume, rng)
        match kind:
            case Kind.FREE:
                hu = appearance.paint_freely(structures, volume, rng)
            case Kind.RECOLOURED | Kind.SYNTHETIC | Kind.MIXED:
                weight = {Kind.RECOLOURED: 0.0, Kind.SYNTHETIC: 1.0}.get(kind, rng.random())
                hu = appearance.paint(hu, structures, volume, rng, synthetic=weight)
        if kind != Kind.FREE:
            scanner.surround(hu, structures, rng)
        hu, structures = scanner.view(hu, structures, rng, spacing_mm)
        hu = scanner.acquire(hu, rng, spacing_mm)
        if kind == Kind.FREE:
            hu = (hu - hu.mean()) / max(hu.std(), 1.0) * NORMALISATION.sd
        return Drawn(
            hu=np.clip(np.round(hu), -1024, 2000).astype(np.int16),
            labels=volume.targets[structures],
            unlabelled=volume.unlabelled,
            kind=kind,
        )


_SHARES = {
    Kind.REAL: 0.15,
    Kind.RECOLOURED: 0.4,
    Kind.SYNTHETIC: 0.17,
    Kind.MIXED: 0.23,
    Kind.FREE: 0.05,
}
"""Of the volumes that are no phantoms."""


def random_scan(rng: np.random.Generator, spacing_mm: float) -> Scan:
    """Draw a field of view, coverage and sharpness on the network's grid."""
    side = round(float(rng.choice((352, 400, 448))) / spacing_mm)
    return Scan(
        spacing_mm=(spacing_mm,) * 3,
        matrix=(side, side),
        coverage=None if rng.random() < 0.7 else (-235.0, 265.0),
        edge_mm=float(rng.uniform(1.2, 4.5)),
    )


def _phantom(seed: int, recipe: Recipe, rng: np.random.Generator) -> Drawn:
    if seed >= HELD_OUT_SEED:
        raise ValueError(f"seed {seed} is held out for evaluation; use a smaller --seed")
    kind = Kind.DISTRACTOR if rng.random() < recipe.distractors else Kind.PHANTOM
    make = make_distractor if kind == Kind.DISTRACTOR else make_phantom
    phantom = make(seed, random_scan(rng, recipe.spacing_mm))
    return Drawn(hu=phantom.volume.voxels, labels=phantom.labels, kind=kind)
