"""How bright tissues are by contrast phase. Native, soft organs lie within 20 HU."""

from enum import StrEnum

import numpy as np


class Phase(StrEnum):
    """When after the injection of contrast the scan was taken."""

    NATIVE = "native"
    ARTERIAL = "arterial"
    PORTAL = "portal"
    DELAYED = "delayed"


_PHASES = (Phase.NATIVE, Phase.ARTERIAL, Phase.PORTAL, Phase.DELAYED)

_SOFT: dict[str, tuple[float, float, float, float]] = {
    # mean HU: native, arterial, portal, delayed
    "muscle": (52, 58, 64, 62),
    "liver": (53, 66, 104, 86),
    "spleen": (47, 118, 116, 88),
    "kidney": (38, 138, 158, 138),
    "kidney core": (36, 62, 138, 150),
    "kidney pelvis": (8, 10, 12, 190),
    "pancreas": (41, 98, 88, 70),
    "adrenal": (36, 72, 74, 58),
    "gut wall": (40, 72, 84, 68),
    "stomach wall": (42, 76, 86, 70),
    "esophagus": (40, 58, 70, 64),
    "artery": (42, 290, 145, 104),
    "vein": (41, 70, 135, 102),
    "cava high": (41, 105, 128, 102),
    "portal vein": (42, 84, 152, 104),
    "heart": (41, 220, 132, 102),
    "prostate": (42, 62, 72, 66),
    "uterus": (46, 78, 102, 94),
    "bladder wall": (36, 44, 52, 54),
}
_FIXED: dict[str, tuple[float, float]] = {
    # mean and spread between bodies
    "fat": (-102, 7),
    "skin": (10, 15),
    "lung": (-840, 35),
    "bile": (9, 6),
    "urine": (4, 4),
    "gut fluid": (24, 10),
    "stool": (32, 14),
    "gas": (-960, 20),
    "cortex": (430, 80),
    "marrow": (135, 40),
    "cartilage": (95, 15),
    "disc": (80, 10),
    "cord": (32, 5),
}


def draw_tissues(rng: np.random.Generator, phase: Phase, plain: bool) -> dict[str, float]:
    """Return one body's HU by tissue.

    Between bodies each organ varies by some 6 HU and, with contrast, by the dose and the timing,
    so that an organ's HU in one body is another organ's in the next.
    """
    column = _PHASES.index(phase)
    uptake, shift = rng.normal(1.0, 0.14), rng.normal(0.0, 3.0)
    found = {}
    for name, means in _SOFT.items():
        gain = (means[column] - means[0]) * max(uptake + rng.normal(0, 0.08), 0.3)
        found[name] = means[0] + gain + shift + rng.normal(0, 4.0)
    for name, (mean, spread) in _FIXED.items():
        found[name] = mean + rng.normal(0, spread)
    if rng.random() < 0.15 and not plain:  # a fatty liver is darker than the spleen
        found["liver"] -= rng.uniform(8, 25)
    if phase is Phase.DELAYED and rng.random() < 0.5:
        found["urine"] += rng.uniform(20, 250)
    if rng.random() < 0.15 and not plain:  # oral contrast
        found["gut fluid"] += rng.uniform(60, 200)
    return found
