"""What `manifest.toml` may say. Every key is known, every wrong one is named."""

import json
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from viscera.domain.geometry import axes_transform
from viscera.domain.models import (
    Code,
    Crop,
    Grade,
    Label,
    Model,
    Normalisation,
    NormalisationScheme,
    Order,
    PostprocessPolicy,
    SeparateAxis,
    VerdictPolicy,
)
from viscera.domain.organs import AMOS
from viscera.errors import GeometryMismatch, ModelRefused

NAME_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,63}$"
VERSION_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,31}$"

_Text = Annotated[str, Field(min_length=1)]
_Modality = Literal["CT", "MR"]
_Millimetres = Annotated[float, Field(gt=0, le=100)]
_Voxels = Annotated[int, Field(ge=1, le=1024)]
_Channel = Annotated[int, Field(ge=0, le=255)]
_InterpolationOrder = Annotated[int, Field(ge=0)]
_BY_NAME = {label.name: label for label in AMOS}
_FORMAT_2 = {"crop", "separate_axis", "outputs"}


class _Table(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True
    )


class CodeTable(_Table):
    """A coded concept (PS3.3 section 8)."""

    value: _Text
    scheme: _Text
    meaning: _Text

    def to_code(self) -> Code:
        """Return it as the domain has it."""
        return Code(self.value, self.scheme, self.meaning)


class LabelTable(_Table):
    """One label that is not of AMOS, with its codes. Its value is its place in the list."""

    name: _Text
    title: _Text
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


class NormalisationTable(_Table):
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


class SeparateAxisTable(_Table):
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


class InputTable(_Table):
    """What the network is fed."""

    modalities: tuple[_Modality, ...] = Field(min_length=1)
    channels: tuple[_Text, ...] = ("image",)
    axes: str
    spacing_mm: tuple[_Millimetres, _Millimetres, _Millimetres] | None = None
    """(z, y, x); absent: the series' own."""
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


class TilesTable(_Table):
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


class OutputTable(_Table):
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


class PostprocessTable(_Table):
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
    max_pieces_of: dict[_Text, Annotated[int, Field(ge=0)]] = Field(
        {}, description="The same for single organs, by name."
    )
    min_share: float = Field(
        0.0, ge=0, le=1, description="A smaller share of the largest piece's voxels is no piece."
    )


class VerdictTable(_Table):
    """When a result is worth delivering; without it every result is."""

    anchors: tuple[str, ...] = ()
    min_anchors: int = Field(0, ge=0)
    min_ml: float = Field(5.0, ge=0)

    @model_validator(mode="after")
    def _can_be_met(self) -> Self:
        if self.min_anchors > len(self.anchors):
            raise ValueError("min_anchors is more than there are anchors")
        return self


class Manifest(_Table):
    """A whole `manifest.toml`."""

    format: Literal[1, 2]
    """2 may say how nnU-Net's networks are fed; what wrote 1 cannot read those keys."""
    name: str = Field(pattern=NAME_PATTERN)
    version: str = Field(pattern=VERSION_PATTERN)
    grade: Grade
    licence: _Text
    intended_use: _Text
    training_data: _Text
    accuracy: _Text
    input: InputTable
    tiles: TilesTable
    output: OutputTable
    postprocess: PostprocessTable | None = None
    verdict: VerdictTable = VerdictTable()
    files: dict[str, Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]]
    """sha256 of every file of the package but this one."""

    @model_validator(mode="after")
    def _says_its_format(self) -> Self:
        tables = (("input", self.input), ("output", self.output))
        newer = [
            f"{name}.{key}"
            for name, table in tables
            for key in sorted(table.model_fields_set & _FORMAT_2)
        ]
        if self.format == 1 and (newer or len(self.input.channels) > 1):
            raise ValueError(f"format must be 2 for {', '.join(newer or ['several channels'])}")
        return self

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if missing := {"model.onnx", "golden.npz"} - set(self.files):
            raise ValueError(f"files must list {', '.join(sorted(missing))}")
        if unsafe := [name for name in self.files if Path(name).name != name]:
            raise ValueError(f"files must lie in the package's own folder: {', '.join(unsafe)}")
        names = {label.name for label in self.output.to_labels()}
        if unknown := [name for name in self.verdict.anchors if name not in names]:
            raise ValueError(f"anchors that are no label: {', '.join(unknown)}")
        pieces = self.postprocess.max_pieces_of if self.postprocess else {}
        if unknown := [name for name in pieces if name not in names]:
            raise ValueError(f"max_pieces_of names that are no label: {', '.join(unknown)}")
        return self

    def to_model(self, folder: Path, digest: str) -> Model:
        """Return the domain's view of it.

        Parameters
        ----------
        folder
            Where the package lies.
        digest
            sha256 of the manifest's bytes.
        """
        return Model(
            name=self.name,
            version=self.version,
            grade=self.grade,
            digest=digest,
            folder=folder,
            onnx=folder / "model.onnx",
            onnx_sha256=self.files["model.onnx"],
            golden=folder / "golden.npz",
            labels=self.output.to_labels(),
            not_segmented=self.output.to_not_segmented(),
            modalities=self.input.modalities,
            channels=self.input.channels,
            axes=self.input.axes,
            spacing_mm=self.input.spacing_mm,
            order=self.input.order,
            crop=self.input.crop,
            normalisation=self.input.to_normalisation(),
            image_order=self.input.image_order,
            image_separate=_rule(self.input.separate_axis),
            logits_order=self.output.logits_order,
            logits_separate=_rule(self.output.separate_axis),
            outputs=self.output.outputs,
            patch_size=self.tiles.patch_size,
            step=self.tiles.step,
            mirror_axes=self.tiles.mirror_axes,
            postprocess=(
                PostprocessPolicy(**self.postprocess.model_dump()) if self.postprocess else None
            ),
            verdict=VerdictPolicy(**self.verdict.model_dump()),
            licence=self.licence,
            intended_use=self.intended_use,
            training_data=self.training_data,
            accuracy=self.accuracy,
        )


def parse_manifest(text: str, where: str) -> Manifest:
    """Check the text of a manifest.

    Parameters
    ----------
    where
        Which package, for the error.

    Raises
    ------
    ModelRefused
        With every wrong key named, one to a line.
    """
    try:
        # As JSON, because pydantic's strict mode then knows that a list may be a tuple and a
        # word an enum, and still takes no "1" for 1.
        return Manifest.model_validate_json(json.dumps(tomllib.loads(text)))
    except (tomllib.TOMLDecodeError, TypeError) as error:
        raise ModelRefused(f"the manifest of {where} is not what TOML allows: {error}") from error
    except ValidationError as error:
        lines = [f"{_key(e['loc'])}: {e['msg']}" for e in error.errors(include_url=False)]
        raise ModelRefused("\n".join([f"the manifest of {where} is wrong:", *lines])) from error


def _key(location: tuple[Any, ...]) -> str:
    return ".".join(map(str, location)) or "manifest"


def _amos(name: str, value: int) -> Label:
    return replace(_BY_NAME[name], value=value)


def _rule(table: SeparateAxisTable | None) -> SeparateAxis | None:
    return table.to_rule() if table else None


def _computable(order: int, known: tuple[int, ...]) -> int:
    if order not in known:
        words = {0: "0 (nearest)", 1: "1 (linear)", 3: "3 (cubic)"}
        raise ValueError(
            f"interpolation order {order} cannot be computed;"
            f" {' and '.join(words[k] for k in known)} can"
        )
    return order
