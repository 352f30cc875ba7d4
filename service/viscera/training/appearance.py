"""What tissue looks like: plausible HU by structure and contrast phase, on real or no texture.

The table is by hand, from the ranges that radiology textbooks give for 120 kV: it need not be
right, only wide enough that no real scan lies outside of what is drawn from it.
"""

from dataclasses import dataclass

import numpy as np

from viscera.training.folder import VALUES, organ_name
from viscera.training.labelled import BONE, FAT, GAS, LUNG, LabelledVolume
from viscera.training.noise import blur, smooth_noise

_FAT_HU = -105.0

# Native, arterial, portal venous, late.
_PHASES = {
    "liver": (56, 70, 110, 92),
    "spleen": (48, 125, 120, 95),
    "kidney": (33, 150, 185, 160),
    "pancreas": (38, 100, 95, 75),
    "adrenal": (25, 75, 75, 58),
    "aorta": (42, 320, 165, 120),
    "artery": (42, 320, 165, 120),
    "postcava": (40, 95, 150, 120),
    "vena": (40, 80, 150, 120),
    "vein": (40, 120, 170, 130),
    "heart": (42, 200, 150, 115),
    "stomach": (35, 60, 75, 65),
    "duodenum": (35, 65, 80, 65),
    "bowel": (35, 65, 80, 65),
    "colon": (35, 55, 70, 60),
    "prostate": (38, 55, 75, 75),
    "gall bladder": (8, 8, 8, 10),
    "bladder": (8, 8, 8, 40),
}
_MUSCLE = (50, 55, 62, 60)
_HOLLOW = ("stomach", "duodenum", "bowel", "colon", "esophagus")
_BONY = ("vertebra", "rib", "hip", "sacrum", "femur", "humerus", "scapula", "clavicula", BONE)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Look:
    """One drawn appearance, by structure."""

    target_hu: np.ndarray
    texture_hu: np.ndarray
    recoloured: np.ndarray
    """Whether real texture is shifted to the target; bone, gas and fat keep their own."""
    hollow: np.ndarray


def draw_look(volume: LabelledVolume, rng: np.random.Generator) -> Look:
    """Draw a phase, and around it what each structure looks like."""
    phase = rng.choice(4, p=(0.4, 0.17, 0.28, 0.15))
    independent = rng.random() < 0.3  # every organ in a phase of its own
    share = rng.random()  # phases pass into one another
    names = [organ_name(name) for name in volume.names]
    target = np.full(len(names), -1000.0)
    for value, name in enumerate(names[1:], start=1):
        own = rng.integers(4) if independent else phase
        after = min(own + 1, 3) if own else 0
        row = _row(name)
        mean = row[own] * (1 - share) + row[after] * share
        target[value] = mean + rng.normal(0, 6 + 0.1 * abs(mean))
    _draw_special(names, target, rng)
    bony = np.array([any(word in name for word in _BONY) for name in names])
    fixed = np.isin(names, (GAS, FAT, LUNG)) | np.array(["lung" in name for name in names])
    return Look(
        target_hu=target.astype(np.float32),
        texture_hu=np.where(bony, 60, np.where(fixed, 12, rng.uniform(1, 9, len(names)))).astype(
            np.float32
        ),
        recoloured=~(bony | fixed) & (np.arange(len(names)) > 0),
        hollow=np.array([any(word in name for word in _HOLLOW) for name in names]),
    )


def _row(name: str) -> tuple[float, ...]:
    if any(word in name for word in _BONY):
        return (220, 225, 230, 230)
    if "lung" in name:
        return (-820,) * 4
    special = {GAS: -900.0, FAT: _FAT_HU}
    if name in special:
        return (special[name],) * 4
    return next((row for word, row in _PHASES.items() if word in name), _MUSCLE)


def _draw_special(names: list[str], target: np.ndarray, rng: np.random.Generator) -> None:
    """Fatty livers, contrast drunk or excreted, vessels of one kind alike."""
    for value, name in enumerate(names):
        if name == "liver" and rng.random() < 0.2:
            target[value] -= rng.uniform(15, 50)
        if name == "bladder" and rng.random() < 0.12:
            target[value] = rng.uniform(60, 400)
        if any(word in name for word in _HOLLOW):
            kind = rng.random()
            if kind < 0.25:
                target[value] = rng.uniform(80, 350)
            elif kind < 0.55:
                target[value] = rng.uniform(-5, 20)
        if "vertebra" in name or "rib" in name:
            target[value] = target[names.index(BONE)]
    for pair in (("right kidney", "left kidney"), ("iliac artery left", "iliac artery right")):
        if all(name in names for name in pair):
            one, other = (names.index(name) for name in pair)
            target[other] = target[one] + rng.normal(0, 4)


def paint(
    hu: np.ndarray,
    structures: np.ndarray,
    volume: LabelledVolume,
    rng: np.random.Generator,
    *,
    synthetic: float,
) -> np.ndarray:
    """Return the image in a drawn look.

    Parameters
    ----------
    hu, structures
        (z, y, x); a deformed `volume`.
    synthetic
        0 shifts the real image's structures; 1 draws all of it from `structures`; between, both.
    """
    look = draw_look(volume, rng)
    painted = _recolour(hu, structures, volume, look)
    if synthetic > 0:
        drawn = _draw(hu, structures, look, rng)
        painted = painted + np.float32(synthetic) * (drawn - painted)
    _add_vessels(painted, volume.organs[structures] == VALUES["liver"], rng)
    if rng.random() < 0.35:
        _thin_inner_fat(painted, structures, volume, rng)
    return painted


def _recolour(
    hu: np.ndarray, structures: np.ndarray, volume: LabelledVolume, look: Look
) -> np.ndarray:
    """Shift every structure by its share of tissue: voxels that are half fat move half as far."""
    medians = volume.medians_hu
    delta = np.where(look.recoloured, look.target_hu - medians, 0).astype(np.float32)
    width = np.where(look.recoloured, np.maximum(medians - _FAT_HU, 60), 60).astype(np.float32)
    share = np.clip((hu - np.float32(_FAT_HU)) / width[structures], 0, 1)
    result: np.ndarray = hu + share * delta[structures]
    return result


def _draw(
    hu: np.ndarray, structures: np.ndarray, look: Look, rng: np.random.Generator
) -> np.ndarray:
    texture = smooth_noise(rng, hu.shape, rng.uniform(1.5, 5))
    drawn = look.target_hu[structures] + look.texture_hu[structures] * texture
    if rng.random() < 0.7:  # else everything hollow is full
        drawn[look.hollow[structures] & (hu < -250)] = -950
    return blur(drawn, (rng.uniform(0.2, 0.9),) * 3)


def _add_vessels(hu: np.ndarray, liver: np.ndarray, rng: np.random.Generator) -> None:
    """Draw branches where two smooth fields cross zero, and a lesion at times."""
    contrast = rng.normal(0, 25)
    width = rng.uniform(0.1, 0.3)
    one, other = (smooth_noise(rng, hu.shape, 7.0) for _ in range(2))
    branches = np.exp(-(one**2 + other**2) / (2 * width**2))
    hu += np.where(liver, np.float32(contrast) * branches, 0).astype(np.float32)
    if rng.random() < 0.3:
        blobs = smooth_noise(rng, hu.shape, rng.uniform(4, 9)) > rng.uniform(1.6, 2.2)
        hu += np.where(blobs & liver, np.float32(rng.uniform(-70, 40)), 0).astype(np.float32)


def _thin_inner_fat(
    hu: np.ndarray, structures: np.ndarray, volume: LabelledVolume, rng: np.random.Generator
) -> None:
    """Make the fat between the organs of a thin person nearly as bright as the organs."""
    patchy = np.clip(0.7 + 0.5 * smooth_noise(rng, hu.shape, 12.0), 0, 1)
    fat = (structures == volume.names.index(FAT)) & (hu < 0) & (hu > -200)
    towards = rng.uniform(-50, 35)
    strength = np.float32(rng.uniform(0.4, 1.0)) * patchy
    hu += np.where(fat, strength * (towards - hu), 0).astype(np.float32)


def paint_freely(
    structures: np.ndarray, volume: LabelledVolume, rng: np.random.Generator
) -> np.ndarray:
    """Return an image of no modality: every structure as bright as chance will, as MR may be."""
    target = rng.uniform(-220, 320, len(volume.names))
    target[[0, volume.names.index(GAS), volume.names.index(LUNG)]] = -250
    target[volume.names.index(BONE)] = rng.uniform(-250, -50)
    texture = smooth_noise(rng, structures.shape, rng.uniform(1.5, 5))
    hu = target.astype(np.float32)[structures] + np.float32(rng.uniform(2, 20)) * texture
    hu += np.float32(rng.uniform(0, 40)) * smooth_noise(rng, structures.shape, 40.0)
    return blur(hu, (rng.uniform(0.2, 0.9),) * 3)
