"""Every number of the recipes in one place."""

from dataclasses import dataclass

from viscera.domain.models import Normalisation, NormalisationScheme


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What, with a seed and the data, decides the weights. The defaults are the phantoms'."""

    name: str = "abdomen15-phantom"
    seed: int = 1
    channels: tuple[int, ...] = (12, 24, 48, 96)
    convolutions: tuple[int, ...] = (2, 2, 2, 2)
    """A level; full resolution costs the most, so fewer there buy many steps."""
    spacing_mm: float = 4.0
    patch_size: tuple[int, int, int] = (40, 64, 96)
    """(z, y, x): x spans most bodies, for left and right must be told apart."""
    batch: int = 2
    """Patches a step; on a CPU each has a thread of its own."""
    pool: int = 240
    """Volumes drawn once; patches and intensities vary on the fly."""
    validation: int = 12
    """Volumes of other seeds, for the curves alone: nothing is chosen by them."""
    phantoms: float = 1.0
    """Share of the pool that is drawn by `viscera.phantom`; the rest needs labelled volumes."""
    distractors: float = 0.07
    """Share of the phantoms that shows no abdomen."""
    seldom: float = 0.0
    """Share of the patches that show an organ drawn by how few volumes show it."""
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    warm_up: float = 0.02
    """Share of the run in which the rate rises."""
    averaging: float = 0.996
    """Decay of the averaged weights, which are the ones exported."""
    balance: float = 0.6
    """At the start, how far rare labels count as much as common ones; falls to `last_balance`."""
    last_balance: float = 0.0
    half_weight: float = 0.3
    """Weight of the loss at half resolution."""


PHANTOM = Recipe()

REFERENCE = Recipe(
    name="abdomen15-reference",
    channels=(16, 32, 64, 128, 160),
    convolutions=(1, 2, 2, 2, 2),
    spacing_mm=3.0,
    patch_size=(48, 80, 112),
    pool=400,
    phantoms=0.22,
    seldom=0.4,
    last_balance=0.25,
    averaging=0.992,
)

RECIPES = {"phantom": PHANTOM, "reference": REFERENCE}

AXES = "SPL"
NORMALISATION = Normalisation(
    scheme=NormalisationScheme.CT, lower=-250.0, upper=350.0, mean=0.0, sd=120.0
)
"""Zero is 0 HU: what the service pads small volumes with looks like water."""

HELD_OUT_SEED = 900_000
"""Seeds from here on are never drawn for training."""
VALIDATION_FROM = 9_000
"""Of the 10 000 draws that belong to a recipe's seed, those that only the curves see."""
