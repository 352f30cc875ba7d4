"""What the run-time knows of a network. `models/` reads it from a manifest."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import numpy as np


class Grade(StrEnum):
    """How far a model may be trusted; below `validated` nothing is for clinical use."""

    DEMONSTRATION = "demonstration"
    RESEARCH = "research"
    VALIDATED = "validated"


class NormalisationScheme(StrEnum):
    """nnU-Net's names for what we can compute."""

    NONE = "none"
    CT = "ct"  # clip to [lower, upper], subtract mean, divide by sd
    ZSCORE = "zscore"  # of the whole volume, or of what is not zero in it
    RESCALE_01 = "rescale_01"  # clip to [lower, upper], map to [0, 1]
    MINMAX = "minmax"  # map the volume's own range to [0, 1]; nnU-Net's RescaleTo01


class Order(StrEnum):
    """Which comes first; nnU-Net normalises on the native grid."""

    NORMALISE_FIRST = "normalise_then_resample"
    RESAMPLE_FIRST = "resample_then_normalise"


class Crop(StrEnum):
    """Which part of a volume the network sees; the rest is background."""

    NONE = "none"
    NONZERO = "nonzero"  # the smallest box that holds every voxel that is not 0 in all channels


class Profile(StrEnum):
    """How closely the input follows the training's own preparation."""

    EXACT = "exact"
    FAST = "fast"  # cubic image resampling becomes linear, tiles of air are left out


@dataclass(frozen=True, slots=True)
class SeparateAxis:
    """nnU-Net's rule for thick slices: the coarsest axis is resampled apart, at another order.

    It applies where the largest spacing is more than `above` times the smallest, in the source or
    else on the model's grid, and one axis alone is that coarse.
    """

    above: float = 3.0
    order: int = 0
    """0: nearest, 1: linear."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstResampling:
    """TotalSegmentator's own: before all else a volume goes onto another grid, as whole numbers.

    The outer voxels' centres stay where they are. The label map returns by the nearest voxel.
    """

    spacing_mm: tuple[float, float, float]
    """(z, y, x), on the model's axes."""
    order: int
    """1: linear, 3: cubic spline."""


@dataclass(frozen=True, slots=True)
class Code:
    """A coded concept: value, scheme designator, meaning (PS3.3 section 8)."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """One output of the network, as DICOM names it."""

    value: int
    name: str
    """The training set's name, e.g. AMOS's ``right kidney``."""
    title: str
    """For people: ``Right kidney``."""
    category: Code
    type: Code
    laterality: Code | None = None
    rgb: tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalisation:
    """Intensities to network input, for one modality."""

    scheme: NormalisationScheme
    lower: float = 0.0
    upper: float = 0.0
    mean: float = 0.0
    sd: float = 1.0
    masked: bool = False
    """For z-scoring: over voxels that are not 0 in all channels, holes filled; 0 stays outside."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictPolicy:
    """When a result is worth delivering. Empty anchors: what it shows need not be an abdomen."""

    anchors: tuple[str, ...] = ()
    """Names of labels of which `min_anchors` must be found."""
    min_anchors: int = 0
    min_ml: float = 5.0
    """An anchor below this volume does not count."""
    sides: bool = True
    """Whether right and left are compared; False: labels bear organs' names, but are none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PostprocessPolicy:
    """Which pieces of the network's label map are taken away as implausible."""

    inside_body: bool = False
    """Pieces that lie mostly outside the patient go (CT only)."""
    sides: bool = False
    """Pieces of a kidney or adrenal on the wrong side go, where the right side has one too."""
    max_pieces: int = 0
    """The largest pieces of each organ that stay; 0: all."""
    max_pieces_of: Mapping[str, int] = field(default_factory=dict)
    """By the label's name, where it differs."""
    min_share: float = 0.0
    """A further piece goes if it has less than this share of the largest one's voxels."""
    min_ml: float = 0.0
    """A smaller piece goes, even where it is all that there is of an organ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A checked package: everything the run-time must know."""

    name: str
    version: str
    grade: Grade
    digest: str
    """sha256 over the manifest's bytes, which hold the digests of all other files."""
    folder: Path
    onnx: Path
    onnx_sha256: str
    half: Path | None = None
    """The network with convolutions in half precision, typed for TensorRT; None: not there."""
    half_sha256: str = ""
    golden: Path
    part: str = ""
    """Of a package with parts, which of them this is; empty: the whole package."""
    parts: tuple["Model", ...] = ()
    """Networks that share the task, each fed by its own rules; where two claim a voxel, the later
    one has it. Empty: the package is one network. They share labels, channels and modalities."""
    labels: tuple[Label, ...]
    """By value from 1; background is 0 and not listed. The network's output has one more."""
    not_segmented: tuple[Label, ...] = ()
    """Labels of the task that this network lacks; listed in every result."""
    modalities: tuple[str, ...]
    channels: tuple[str, ...] = ("image",)
    axes: str
    """Towards which side each index (z, y, x) of the training arrays grows, e.g. ``SPL``."""
    spacing_mm: tuple[float, float, float] | None
    """(z, y, x); None: the series' own."""
    first: FirstResampling | None = None
    """What comes before crop, normalisation and resampling; None: nothing does."""
    crop: Crop = Crop.NONE
    order: Order = Order.NORMALISE_FIRST
    normalisation: dict[str, tuple[Normalisation, ...]]
    """By modality, one for each channel."""
    image_order: int = 1
    """0: nearest, 1: linear, 3: cubic spline."""
    image_separate: SeparateAxis | None = None
    logits_order: int = 1
    """0: nearest, 1: linear."""
    logits_separate: SeparateAxis | None = None
    outputs: tuple[int, ...] = ()
    """For each output of the network, the label's value that it becomes: 0 where it is not
    reported. Empty: output k is label k."""
    patch_size: tuple[int, int, int]
    step: float = 0.5
    """nnU-Net's tile_step_size: the share of a patch from one tile to the next."""
    mirror_axes: tuple[int, ...] = ()
    skip_air: bool = False
    """Whether tiles that show nothing but air are left out. The settings' profile says it."""
    postprocess: PostprocessPolicy | None = None
    """None: the network's label map stands as it is."""
    verdict: VerdictPolicy = VerdictPolicy()
    licence: str = ""
    intended_use: str = ""
    training_data: str = ""
    accuracy: str = ""
    """What was measured, on what."""

    @property
    def full_name(self) -> str:
        """``name/version``, and ``:part`` of a part."""
        return f"{self.name}/{self.version}" + (f":{self.part}" if self.part else "")

    @property
    def networks(self) -> tuple["Model", ...]:
        """What is run, in order: the parts, or the model itself."""
        return self.parts or (self,)

    @property
    def output_count(self) -> int:
        """How many logits a voxel has, background included."""
        return len(self.outputs) or len(self.labels) + 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Golden:
    """What a network must answer on any device before it may serve.

    The input is ``np.random.default_rng(seed).standard_normal((1, channels, *patch), float32)``.
    """

    seed: int
    argmax: np.ndarray
    """(z, y, x), uint8: the winning label of every voxel."""
    sample: np.ndarray
    """(n,), int64: flat indices into (label, z, y, x)."""
    logits: np.ndarray
    """(n,), float32: the logits there."""
