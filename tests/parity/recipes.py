"""The results folders of this suite."""

from dataclasses import dataclass

NAMES = (
    *("background", "spleen", "right kidney", "left kidney", "gall bladder", "esophagus", "liver"),
    *("stomach", "aorta", "postcava", "pancreas", "right adrenal gland", "left adrenal gland"),
    *("duodenum", "bladder", "prostate/uterus"),
)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One results folder."""

    name: str
    planner: str = "ExperimentPlanner"
    spacing_mm: tuple[float, float, float] = (8.0, 8.0, 8.0)
    """(z, y, x) of the network, which the planner is told."""
    orientation: str = "RAS"
    channels: tuple[str, ...] = ("CT",)
    features: int = 8
    memory_share: float = 0.004
    """Of nnU-Net's own budget: decides the patch."""
    steps: int = 360
    folds: int = 1
    start_from: "Recipe | None" = None
    """Weights to begin with; a network of more channels sees the first at first."""
    flips: tuple[int, ...] = ()
    """Axes along which patches are flipped in training, and which the checkpoint then allows. A
    network that has seen none, but may be mirrored along all, finds nothing when it is."""


PLAIN = Recipe(name="plain", folds=2)
FINE = Recipe(name="fine", spacing_mm=(5.0, 5.0, 5.0), memory_share=0.01, steps=480)
RESIDUAL = Recipe(
    name="residual",
    planner="nnUNetPlannerResEncM",
    spacing_mm=(8.0, 8.0, 10.0),
    orientation="LPS",
    features=6,
    steps=300,
)
MIRRORED = Recipe(name="mirrored", steps=120, folds=2, start_from=PLAIN, flips=(0, 1))
MASKED = Recipe(name="masked", channels=("T1", "T2"), steps=60, start_from=PLAIN)
