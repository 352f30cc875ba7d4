"""What `manifest.toml` may say as a whole."""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from viscera.domain.models import Grade, Model, PostprocessPolicy, SeparateAxis, VerdictPolicy
from viscera.errors import ModelRefused
from viscera.models.tables import (
    NAME_PATTERN,
    InputTable,
    OutputTable,
    PartTable,
    PostprocessTable,
    SeparateAxisTable,
    Table,
    Text,
    TilesTable,
    VerdictTable,
)

VERSION_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,31}$"

_FORMAT_2 = {"crop", "separate_axis", "outputs"}
WHOLE = "model"
MAX_PARTED_LABELS = 253
"""Of 255 values in a label map, merging needs one for what a part finds and does not report."""


class Manifest(Table):
    """A whole `manifest.toml`."""

    format: Literal[1, 2, 3]
    """2 may say how nnU-Net's networks are fed, 3 may have parts; what wrote a lower one cannot
    read those keys."""
    name: str = Field(pattern=NAME_PATTERN)
    version: str = Field(pattern=VERSION_PATTERN)
    grade: Grade
    licence: Text
    intended_use: Text
    training_data: Text
    accuracy: Text
    input: InputTable
    tiles: TilesTable
    output: OutputTable
    parts: tuple[PartTable, ...] = ()
    """Run in this order; a voxel that two claim is the later one's."""
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
        if self.format < 3 and (self.parts or self.input.first_resampling):
            raise ValueError("format must be 3 for parts and input.first_resampling")
        return self

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        stems = [part.name for part in self.parts] or [WHOLE]
        needed = {name for stem in stems for name in (onnx_name(stem), golden_name(stem))}
        if missing := needed - set(self.files):
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

    @model_validator(mode="after")
    def _parts_share_the_task(self) -> Self:
        if not self.parts:
            return self
        names = [part.name for part in self.parts]
        if len(self.parts) < 2 or len(set(names)) != len(names):
            raise ValueError("parts must be at least two, and none named twice")
        if self.output.outputs:
            raise ValueError("output.outputs is each part's own where there are parts")
        for part in self.parts:
            own = part.input or self.input
            if _shared(own) != _shared(self.input):
                raise ValueError(
                    f"part {part.name} must have the package's modalities, channels, axes and"
                    " first_resampling"
                )
        told = {label for part in self.parts for label in part.output.outputs}
        count = len(self.output.to_labels())
        if told != set(range(count + 1)) or count > MAX_PARTED_LABELS:
            raise ValueError(
                "the parts' outputs together must name each label, and no others; at most"
                f" {MAX_PARTED_LABELS}"
            )
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
        whole = self._whole(folder, digest)
        parts = tuple(self._part(whole, one) for one in self.parts)
        return replace(whole, parts=parts) if parts else whole

    def _part(self, whole: Model, part: PartTable) -> Model:
        return replace(
            whole,
            part=part.name,
            outputs=part.output.outputs,
            logits_order=part.output.logits_order,
            logits_separate=_rule(part.output.separate_axis),
            **_files(whole.folder, self.files, part.name),
            **_feeding(part.input or self.input, part.tiles or self.tiles),
        )

    def _whole(self, folder: Path, digest: str) -> Model:
        stem = self.parts[0].name if self.parts else WHOLE
        return Model(
            name=self.name,
            version=self.version,
            grade=self.grade,
            digest=digest,
            folder=folder,
            **_files(folder, self.files, stem),
            labels=self.output.to_labels(),
            not_segmented=self.output.to_not_segmented(),
            **_feeding(self.input, self.tiles),
            logits_order=self.output.logits_order,
            logits_separate=_rule(self.output.separate_axis),
            outputs=self.output.outputs,
            postprocess=(
                PostprocessPolicy(**self.postprocess.model_dump()) if self.postprocess else None
            ),
            verdict=VerdictPolicy(**self.verdict.model_dump()),
            licence=self.licence,
            intended_use=self.intended_use,
            training_data=self.training_data,
            accuracy=self.accuracy,
        )


def onnx_name(stem: str) -> str:
    """Return the file of a network: of a part, or of ``model``, the only one."""
    return f"{stem}.onnx"


def golden_name(stem: str) -> str:
    """Return the file of its golden tile."""
    return "golden.npz" if stem == WHOLE else f"{stem}-golden.npz"


def half_name(stem: str) -> str:
    """Return the file of the same network in half precision, which a package need not have."""
    return f"{stem}.fp16.onnx"


def _shared(given: InputTable) -> tuple[Any, ...]:
    """Return what all parts of a package must have in common."""
    return given.modalities, given.channels, given.axes, given.first_resampling


def _files(folder: Path, files: Mapping[str, str], stem: str) -> dict[str, Any]:
    half = half_name(stem)
    return {
        "onnx": folder / onnx_name(stem),
        "onnx_sha256": files[onnx_name(stem)],
        "half": folder / half if half in files else None,
        "half_sha256": files.get(half, ""),
        "golden": folder / golden_name(stem),
    }


def _feeding(given: InputTable, tiles: TilesTable) -> dict[str, Any]:
    """Return what a `Model` says of its input."""
    return {
        "modalities": given.modalities,
        "channels": given.channels,
        "axes": given.axes,
        "spacing_mm": given.spacing_mm,
        "first": given.first_resampling.to_rule() if given.first_resampling else None,
        "order": given.order,
        "crop": given.crop,
        "normalisation": given.to_normalisation(),
        "image_order": given.image_order,
        "image_separate": _rule(given.separate_axis),
        "patch_size": tiles.patch_size,
        "step": tiles.step,
        "mirror_axes": tiles.mirror_axes,
    }


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


def _rule(table: SeparateAxisTable | None) -> SeparateAxis | None:
    return table.to_rule() if table else None
