"""What to import."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to import, and what nobody can read from the folder."""

    folder: Path
    name: str
    version: str
    folds: tuple[str, ...] = ()
    """Numbers or ``all``; empty: every numbered fold that is there."""
    checkpoint: str = "checkpoint_final.pth"
    labels: str | None = None
    """See :func:`labels.label_tables`."""
    orientation: str | None = None
    """Of the training images' axes (x, y, z) as stored, e.g. ``RAS``."""
    example: Path | None = None
    """A training image, whose orientation is read instead."""
    mirroring: bool = True
    """Whether tiles are mirrored along the axes that the checkpoint allows, as nnU-Net does."""
    modalities: tuple[str, ...] = ()
    """``CT``, ``MR``; empty: the channels' names must say it."""
    trust_trainer: bool = False
    licence: str = "as the weights' owner has it; whoever imported them did not say"
