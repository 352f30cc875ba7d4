"""Every number of the recipe in one place."""

from dataclasses import dataclass

from viscera.domain.models import Normalisation, NormalisationScheme


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What, with a seed, decides the weights."""

    seed: int = 1
    channels: tuple[int, ...] = (12, 24, 48, 96)
    spacing_mm: float = 4.0
    patch_size: tuple[int, int, int] = (40, 64, 96)
    """(z, y, x): x spans most bodies, for left and right must be told apart."""
    batch: int = 2
    """Patches a step, each in a thread of its own."""
    pool: int = 240
    """Phantoms drawn once; patches and intensities vary on the fly."""
    distractors: float = 0.07
    """Share of the pool that shows no abdomen."""
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    warm_up: float = 0.02
    """Share of the run in which the rate rises."""
    averaging: float = 0.996
    """Decay of the averaged weights, which are the ones exported."""
    balance: float = 0.6
    """At the start, how far rare labels count as much as common ones; falls to 0."""
    half_weight: float = 0.3
    """Weight of the loss at half resolution."""


AXES = "SPL"
NORMALISATION = Normalisation(
    scheme=NormalisationScheme.CT, lower=-250.0, upper=350.0, mean=0.0, sd=120.0
)
"""Zero is 0 HU: what the service pads small volumes with looks like water."""

HELD_OUT_SEED = 900_000
"""Seeds from here on are never drawn for training."""
