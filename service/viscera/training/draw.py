"""One training volume out of a labelled one: deform, recolour, scan. And the phantoms' way."""

from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from viscera.phantom import Scan, make_distractor, make_phantom
from viscera.training import appearance, deform, dome, scanner
from viscera.training.folder import VALUES
from viscera.training.labelled import FAT, LabelledVolume
from viscera.training.outline import Outline, outline_of
from viscera.training.recipe import HELD_OUT_SEED, NORMALISATION, Recipe

_DOME_MM = 75.0


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
class Sources:
    """The labelled volumes with their outlines, ready to be deformed."""

    recipe: Recipe
    volumes: list[LabelledVolume] = field(default_factory=list)
    outlines: list[Outline] = field(default_factory=list)

    @classmethod
    def prepare(cls, recipe: Recipe, volumes: list[LabelledVolume]) -> "Sources":
        """Give volumes that end in the liver a dome, and measure all outlines."""
        complete = [
            dome.with_dome(one, _DOME_MM, recipe.spacing_mm) if dome.has_cut_liver(one) else one
            for one in volumes
        ]
        return cls(recipe, complete, [outline_of(one) for one in complete])

    def draw(self, seed: int) -> Drawn:
        """Draw training volume `seed`: the same seed gives the same volume."""
        rng = np.random.default_rng((seed, 1))
        if not self.volumes or rng.random() < self.recipe.phantoms:
            return _phantom(seed, self.recipe, rng)
        number = int(rng.integers(len(self.volumes)))
        return self._deformed(self.volumes[number], self.outlines[number], rng)

    def _deformed(
        self, volume: LabelledVolume, outline: Outline, rng: np.random.Generator
    ) -> Drawn:
        spacing_mm = self.recipe.spacing_mm
        kind = Kind(rng.choice([*_SHARES], p=[*_SHARES.values()]))
        by = deform.draw_warp(volume, rng, spacing_mm)
        hu, structures = deform.warp(volume, outline, by)
        if rng.random() < 0.25:
            _remove_gall_bladder(hu, structures, volume, rng)
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


def _remove_gall_bladder(
    hu: np.ndarray, structures: np.ndarray, volume: LabelledVolume, rng: np.random.Generator
) -> None:
    """Leave fat where it was, as the commonest operation of the abdomen does."""
    gone = volume.organs[structures] == VALUES["gall bladder"]
    hu[gone] = rng.normal(-90, 20, int(gone.sum()))
    structures[gone] = volume.names.index(FAT)


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
