"""What is usual in an abdomen: where organs lie along the body, and on which side.

Craniocaudal ranges are in mm above the middle of the first lumbar vertebra, from the vertebral
levels of surface anatomy (liver T8 to L2/L3, spleen and its ribs T9 to L1, right kidney T12 to L3
and the left half a vertebra higher, pancreas L1 to L2, aortic bifurcation L4, confluence of the
iliac veins L5, bladder and uterus in the lesser pelvis) with 26 mm to a lower thoracic and 36 mm
to a lumbar vertebra and its disc. A public CT of an adult with labelled organs lies within 25 mm
of every row.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Usual:
    """The usual place of one organ along the body, by AMOS's name."""

    top_mm: float
    bottom_mm: float
    compact: bool = True
    """Lies whole in most abdominal scans; the others are cut in nearly all, which says nothing."""


USUAL: dict[str, Usual] = {
    "spleen": Usual(85, -30),
    "right kidney": Usual(25, -85),
    "left kidney": Usual(40, -70),
    "gall bladder": Usual(20, -50),
    "esophagus": Usual(320, 50, compact=False),
    "liver": Usual(110, -65),
    "stomach": Usual(90, -60),
    "aorta": Usual(250, -105, compact=False),
    "postcava": Usual(120, -135, compact=False),
    "pancreas": Usual(25, -45),
    "right adrenal gland": Usual(45, 0),
    "left adrenal gland": Usual(50, 0),
    "duodenum": Usual(10, -80),
    "bladder": Usual(-180, -275),
    "prostate/uterus": Usual(-190, -300),
}

RIGHT_OF: tuple[tuple[str, str], ...] = (
    ("liver", "spleen"),
    ("right kidney", "left kidney"),
    ("right adrenal gland", "left adrenal gland"),
)
"""Pairs of which the first lies nearer to the patient's right; the largest organs first."""

_SIDE_MARGIN_MM = 10.0
"""How far across the midline an organ's centroid may lie before its side is contradicted."""


@dataclass(frozen=True, slots=True)
class Side:
    """The side of the great vessels on which an organ lies."""

    sign: int
    """Of LPS x, which grows towards the patient's left."""

    @property
    def other(self) -> str:
        """The other side: ``left`` or ``right``."""
        return "right" if self.sign > 0 else "left"

    def contradicted_by(self, offset_mm: float) -> bool:
        """Whether a centroid `offset_mm` to the left of the midline lies on the other side."""
        return self.sign * offset_mm < -_SIDE_MARGIN_MM


SIDES: dict[str, Side] = {
    "right kidney": Side(-1),
    "left kidney": Side(1),
    "right adrenal gland": Side(-1),
    "left adrenal gland": Side(1),
}


def midline_x_mm(x_mm: Mapping[str, float]) -> float | None:
    """Return where the patient's midline lies, by the organs found.

    Aorta and inferior vena cava run along the spine on either side of the midline.

    Parameters
    ----------
    x_mm
        LPS x of organs' centroids, by AMOS's names.

    Returns
    -------
    float or None
        None where a vessel is missing, and where the liver does not lie to the right of the
        spleen: then right and left cannot be told apart by organs.
    """
    vessels = [x_mm[name] for name in ("aorta", "postcava") if name in x_mm]
    reversed_ = "liver" in x_mm and "spleen" in x_mm and x_mm["liver"] >= x_mm["spleen"]
    return sum(vessels) / 2 if len(vessels) == 2 and not reversed_ else None


LANDMARK_MIN_ML = 5.0
"""A smaller organ says too little about where the scan lies."""


def margin_mm(distance_mm: float) -> float:
    """How far an organ may lie from its usual place, `distance_mm` from what was found.

    People vary in where organs lie (a kidney by a vertebra) and in the length of the trunk (by a
    tenth).
    """
    return 25.0 + 0.1 * abs(distance_mm)
