"""What to import."""

from dataclasses import dataclass
from pathlib import Path

TOTALSEGMENTATOR = "totalsegmentator"
"""Said for `labels`: its class names."""
TOTALSEGMENTATOR_STEP = 0.8
"""Of the task ``total`` and its kin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to import, and what nobody can read from the folder."""

    folder: Path
    further: tuple[Path, ...] = ()
    """Folders of networks that share the task: the package has a part for each, `folder`'s first;
    a voxel that two parts claim is the later one's."""
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
    totalsegmentator: int | None = None
    """1 or 3: TotalSegmentator's own answer, with its first resampling of this order. None:
    nnU-Net's."""
    licence: str = "as the weights' owner has it; whoever imported them did not say"

    @property
    def mirrors(self) -> bool:
        """Whether tiles are mirrored at all; TotalSegmentator's program never does."""
        return self.mirroring and self.totalsegmentator is None

    @property
    def labels_or_default(self) -> str | None:
        """What `labels` says, TotalSegmentator's names where its answer is asked for."""
        return self.labels or (TOTALSEGMENTATOR if self.totalsegmentator is not None else None)
