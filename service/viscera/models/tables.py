"""The tables of a `manifest.toml`. Every key is known, every wrong one is named."""

from dataclasses import replace
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from viscera.domain.geometry import axes_transform
from viscera.domain.models import (
    Code,
    Crop,
    FirstResampling,
    Label,
    Normalisation,
    NormalisationScheme,
    Order,
    SeparateAxis,
)
from viscera.domain.organs import AMOS
from viscera.errors import GeometryMismatch

NAME_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,63}$"

Text = Annotated[str, Field(min_length=1)]
_Modality = Literal["CT", "MR"]
_Millimetres = Annotated[float, Field(gt=0, le=100)]
_Voxels = Annotated[int, Field(ge=1, le=1024)]
_Channel = Annotated[int, Field(ge=0, le=255)]
_InterpolationOrder = Annotated[int, Field(ge=0)]
_BY_NAME = {label.name: label for label in AMOS}


class Table(BaseModel):
    """Strict: no other keys, no "1" for 1."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True
    )


class CodeTable(Table):
    """A coded concept (PS3.3 section 8)."""

    value: Text
    scheme: Text
    meaning: Text

    def to_code(self) -> Code:
        """Return it as the domain has it."""
        return Code(self.value, self.scheme, self.meaning)


class LabelTable(Table):
    """One label that is not of AMOS, with its codes. Its value is its place in the list."""

    name: Text
    title: Text
    category: CodeTable
    type: CodeTable
    laterality: CodeTable | None = None
    rgb: tuple[_Channel, _Channel, _Channel]

    def to_label(self, value: int) -> Label:
        """Return it as the domain has it."""
        return Label(
            value=value,
            name=self.name,
            title=self.title,
            category=self.category.to_code(),
            type=self.type.to_code(),
            laterality=self.laterality.to_code() if self.laterality else None,
            rgb=self.rgb,
        )


class NormalisationTable(Table):
    """Intensities to network input, for one modality."""

    scheme: NormalisationScheme
    lower: float = 0.0
    upper: float = 0.0
    mean: float = 0.0
    sd: float = Field(1.0, gt=0)
    masked: bool = False

    @model_validator(mode="after")
    def _has_its_numbers(self) -> Self:
        clips = self.scheme in (NormalisationScheme.CT, NormalisationScheme.RESCALE_01)
        if clips and self.lower >= self.upper:
            raise ValueError(f"scheme {self.scheme} needs lower below upper")
        if self.masked and self.scheme is not NormalisationScheme.ZSCORE:
            raise ValueError("only scheme zscore can be masked")
        return self


class SeparateAxisTable(Table):
    """nnU-Net's rule for thick slices; without the table no axis is apart."""

    above: float = Field(3.0, ge=1)
    order: _InterpolationOrder = 0

    @field_validator("order")
    @classmethod
    def _can_be_computed(cls, order: int) -> int:
        return _computable(order, (0, 1))

    def to_rule(self) -> SeparateAxis:
        """Return it as the domain has it."""
        return SeparateAxis(self.above, self.order)


class FirstResamplingTable(Table):
    """TotalSegmentator's own resampling, before nnU-Net's rules begin."""

    spacing_mm: tuple[_Millimetres, _Millimetres, _Millimetres]
    order: Literal[1, 3] = 3

    def to_rule(self) -> FirstResampling:
        """Return it as the domain has it."""
        return FirstResampling(spacing_mm=self.spacing_mm, order=self.order)


class InputTable(Table):
    """What the network is fed."""

    modalities: tuple[_Modality, ...] = Field(min_length=1)
    channels: tuple[Text, ...] = ("image",)
    axes: str
    spacing_mm: tuple[_Millimetres, _Millimetres, _Millimetres] | None = None
    """(z, y, x); absent: the series' own."""
    first_resampling: FirstResamplingTable | None = None
    crop: Crop = Crop.NONE
    order: Order = Order.NORMALISE_FIRST
    image_order: _InterpolationOrder = 1
    separate_axis: SeparateAxisTable | None = None
    normalisation: dict[_Modality, NormalisationTable | tuple[NormalisationTable, ...]]
    """One table for every channel, or one for each."""

    @field_validator("axes")
    @classmethod
    def _name_three_directions(cls, axes: str) -> str:
        try:
            axes_transform(axes, "SPL")
        except GeometryMismatch as error:
            raise ValueError("expected three letters as in SPL") from error
        return axes

    @field_validator("channels")
    @classmethod
    def _differ(cls, channels: tuple[str, ...]) -> tuple[str, ...]:
        if not channels or len(set(channels)) != len(channels):
            raise ValueError("expected at least one name, and none twice")
        return channels

    @field_validator("image_order")
    @classmethod
    def _can_be_computed(cls, order: int) -> int:
        return _computable(order, (0, 1, 3))

    @model_validator(mode="after")
    def _every_modality_has_one(self) -> Self:
        if set(self.modalities) != set(self.normalisation):
            raise ValueError("normalisation must have one table for each of modalities")
        for modality, tables in self._tables().items():
            if len(tables) != len(self.channels):
                raise ValueError(f"normalisation.{modality} must have one table for each channel")
            if self.order is Order.RESAMPLE_FIRST and any(one.masked for one in tables):
                raise ValueError("masked z-scoring comes before resampling")
        return self

    def to_normalisation(self) -> dict[str, tuple[Normalisation, ...]]:
        """Return it as the domain has it."""
        return {
            modality: tuple(Normalisation(**one.model_dump()) for one in tables)
            for modality, tables in self._tables().items()
        }

    def _tables(self) -> dict[str, tuple[NormalisationTable, ...]]:
        return {
            modality: tables if isinstance(tables, tuple) else (tables,) * len(self.channels)
            for modality, tables in self.normalisation.items()
        }


class TilesTable(Table):
    """How a volume is cut."""

    patch_size: tuple[_Voxels, _Voxels, _Voxels]
    step: float = Field(0.5, gt=0, le=1)
    mirror_axes: tuple[Literal[0, 1, 2], ...] = ()

    @field_validator("mirror_axes")
    @classmethod
    def _differ(cls, axes: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(axes)) != len(axes):
            raise ValueError("an axis is named twice")
        return axes


class OutputTable(Table):
    """What the network answers."""

    labels: Literal["amos15"] | tuple[str | LabelTable, ...]
    """``amos15``; or by value from 1, AMOS names (which bring their codes) or whole tables."""
    not_segmented: tuple[str, ...] = ()
    """AMOS names of the task's labels that this network lacks."""
    outputs: tuple[_Channel, ...] = ()
    """For each output of the network, background first, the place in `labels` that it becomes,
    from 1; 0: it is not reported. Absent: output k is label k."""
    logits_order: _InterpolationOrder = 1
    separate_axis: SeparateAxisTable | None = None

    @field_validator("logits_order")
    @classmethod
    def _can_be_computed(cls, order: int) -> int:
        return _computable(order, (0, 1))

    @model_validator(mode="after")
    def _are_known_once(self) -> Self:
        if not self.labels:
            raise ValueError("labels must not be empty")
        shorthand = () if self.labels == "amos15" else self.labels
        named = [label for label in (*shorthand, *self.not_segmented) if isinstance(label, str)]
        if unknown := sorted(set(named) - set(_BY_NAME)):
            raise ValueError(f"no AMOS label is called {', '.join(unknown)}")
        names = [label.name for label in (*self.to_labels(), *self.to_not_segmented())]
        if len(set(names)) != len(names):
            raise ValueError("a label is named twice")
        return self

    @model_validator(mode="after")
    def _reach_every_label(self) -> Self:
        count = len(self.to_labels())
        if self.outputs and (self.outputs[0] != 0 or set(self.outputs) != set(range(count + 1))):
            raise ValueError(f"outputs must begin with 0 and name each label from 1 to {count}")
        return self

    def to_labels(self) -> tuple[Label, ...]:
        """Return the labels by value from 1."""
        if self.labels == "amos15":
            return AMOS
        return tuple(
            _amos(entry, value) if isinstance(entry, str) else entry.to_label(value)
            for value, entry in enumerate(self.labels, start=1)
        )

    def to_not_segmented(self) -> tuple[Label, ...]:
        """Return the labels that the network lacks, with the values that AMOS gives them."""
        return tuple(_BY_NAME[name] for name in self.not_segmented)


class PartOutputTable(Table):
    """What one part answers."""

    outputs: tuple[_Channel, ...] = Field(min_length=2)
    """For each output of the network, background first, the place in the package's `labels` that
    it becomes, from 1; 0: it is not reported, but takes its voxels from earlier parts."""
    logits_order: _InterpolationOrder = 1
    separate_axis: SeparateAxisTable | None = None

    @field_validator("logits_order")
    @classmethod
    def _can_be_computed(cls, order: int) -> int:
        return _computable(order, (0, 1))

    @field_validator("outputs")
    @classmethod
    def _say_something(cls, outputs: tuple[int, ...]) -> tuple[int, ...]:
        if outputs[0] != 0 or not any(outputs):
            raise ValueError("must begin with 0 and name a label")
        return outputs


class PartTable(Table):
    """One network of several that share a task. Its files are ``<name>.onnx`` and so on."""

    name: str = Field(pattern=NAME_PATTERN)
    output: PartOutputTable
    input: InputTable | None = None
    """Absent: the package's."""
    tiles: TilesTable | None = None
    """Absent: the package's."""


class PostprocessTable(Table):
    """Which pieces of the label map go; without it the network's label map stands as it is."""

    inside_body: bool = Field(
        False, description="Pieces of which less than half lies in the patient go (CT only)."
    )
    sides: bool = Field(
        False,
        description="Pieces of a kidney or adrenal on the wrong side of aorta and vena cava go, "
        "where there is one of at least `min_share` of the largest on the right side, and the "
        "liver lies to the right of the spleen.",
    )
    max_pieces: int = Field(
        0, ge=0, description="How many pieces of each organ stay, the largest first; 0: all."
    )
    max_pieces_of: dict[Text, Annotated[int, Field(ge=0)]] = Field(
        {}, description="The same for single organs, by name."
    )
    min_share: float = Field(
        0.0, ge=0, le=1, description="A smaller share of the largest piece's voxels is no piece."
    )
    min_ml: float = Field(
        0.0, ge=0, description="A smaller piece goes, even where it is all there is of an organ."
    )


class VerdictTable(Table):
    """When a result is worth delivering; without it only sides can speak against one."""

    anchors: tuple[str, ...] = ()
    min_anchors: int = Field(0, ge=0)
    min_ml: float = Field(5.0, ge=0)
    sides: bool = True
    """False only where labels bear organs' names and are none, as in a network of HU bands."""

    @model_validator(mode="after")
    def _can_be_met(self) -> Self:
        if self.min_anchors > len(self.anchors):
            raise ValueError("min_anchors is more than there are anchors")
        if self.anchors and not self.sides:
            raise ValueError("sides = false is for labels that are no organs, so for no anchors")
        return self


def _amos(name: str, value: int) -> Label:
    return replace(_BY_NAME[name], value=value)


def _computable(order: int, known: tuple[int, ...]) -> int:
    if order not in known:
        words = {0: "0 (nearest)", 1: "1 (linear)", 3: "3 (cubic)"}
        raise ValueError(
            f"interpolation order {order} cannot be computed;"
            f" {' and '.join(words[k] for k in known)} can"
        )
    return order
