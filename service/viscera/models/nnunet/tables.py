"""Results folders to the tables of a manifest."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from viscera.domain.geometry import Geometry, axes_transform
from viscera.errors import GeometryMismatch, ModelRefused
from viscera.models.nnunet.labels import joined
from viscera.models.nnunet.plans import Configuration, Resampling
from viscera.models.nnunet.request import TOTALSEGMENTATOR_STEP, Request
from viscera.models.nnunet.source import Source

_NNUNET_STEP = 0.5
_ANCHORS = ("liver", "spleen", "right kidney", "left kidney", "aorta", "stomach")
_NEEDED_ANCHORS = 3


def manifest_of(request: Request, sources: Sequence[Source]) -> dict[str, Any]:
    """Return the tables of `manifest.toml` but ``files``.

    Raises
    ------
    ModelRefused
        If nobody said what the folders do not tell: orientation, modality.
    """
    tables, outputs = joined([one.tables for one in sources])
    first = sources[0]
    manifest: dict[str, Any] = {
        "format": 3 if len(sources) > 1 or request.totalsegmentator else 2,
        "name": request.name,
        "version": request.version,
        "grade": "research",
        "licence": request.licence,
        "intended_use": "Research. Imported from nnU-Net; not validated here.",
        "training_data": "; ".join(one.title for one in sources),
        "accuracy": "not measured here",
        "input": _input(request, first),
        "tiles": _tiles(request, first),
        "output": {"labels": tables.labels, "not_segmented": tables.not_segmented},
    }
    if len(sources) > 1:
        manifest["parts"] = [
            _part(request, f"part{k}", one, own, manifest)
            for k, (one, own) in enumerate(zip(sources, outputs, strict=True), start=1)
        ]
    else:
        manifest["output"] |= _output(first, outputs[0])
    anchors = [name for name in _ANCHORS if name in tables.labels]
    if len(anchors) >= _NEEDED_ANCHORS:
        manifest["verdict"] = {"anchors": anchors, "min_anchors": _NEEDED_ANCHORS, "min_ml": 10.0}
    return manifest


def _part(
    request: Request, name: str, source: Source, outputs: list[int], manifest: dict[str, Any]
) -> dict[str, Any]:
    """Return one part; what it is fed as the package says is not said again."""
    part: dict[str, Any] = {"name": name, "output": _output(source, outputs)}
    for key, table in (("input", _input(request, source)), ("tiles", _tiles(request, source))):
        if table != manifest[key]:
            part[key] = table
    return part


def _input(request: Request, source: Source) -> dict[str, Any]:
    found = source.found
    modalities = request.modalities or _modalities(found.channels)
    first = None
    if request.totalsegmentator is not None:
        first = {"spacing_mm": list(found.spacing_mm), "order": request.totalsegmentator}
    return {
        "modalities": list(modalities),
        "channels": list(found.channels),
        "axes": _axes(request, found),
        "spacing_mm": list(found.spacing_mm),
        "first_resampling": first,
        "crop": "nonzero",
        "image_order": found.image.order,
        "separate_axis": _separate(found.image),
        "normalisation": {modality: list(found.normalisation) for modality in modalities},
    }


def _tiles(request: Request, source: Source) -> dict[str, Any]:
    return {
        "patch_size": list(source.found.patch_size),
        "step": _NNUNET_STEP if request.totalsegmentator is None else TOTALSEGMENTATOR_STEP,
        "mirror_axes": source.mirror_axes(request),
    }


def _output(source: Source, outputs: list[int]) -> dict[str, Any]:
    logits = source.found.logits
    return {
        "outputs": outputs,
        "logits_order": logits.order,
        "separate_axis": _separate(logits),
    }


def _separate(rule: Resampling) -> dict[str, Any] | None:
    if rule.apart_above is None:
        return None
    return {"above": rule.apart_above, "order": rule.apart_order}


def _modalities(channels: tuple[str, ...]) -> tuple[str, ...]:
    words = {name.casefold().split("_")[0] for name in channels}
    if words == {"ct"}:
        return ("CT",)
    if words <= {"mr", "mri", "t1", "t2", "t1w", "t2w", "flair", "adc", "dwi"}:
        return ("MR",)
    raise ModelRefused(
        f"the channels {', '.join(channels)} do not say whether they are CT or MR;"
        " give --modality CT, MR or both"
    )


def _axes(request: Request, found: Configuration) -> str:
    """Return towards which side each index (z, y, x) of the network's input grows."""
    stored = _stored_axes(request, found.orientation)
    return "".join(stored[k] for k in found.transpose_forward)


def _stored_axes(request: Request, reorients: str | None) -> str:
    if request.totalsegmentator is not None:
        return "RAS"[::-1]  # its program turns every image before nnU-Net reads it
    if reorients is not None:
        return reorients[::-1]
    if request.orientation is not None:
        letters = request.orientation.upper()
        try:
            axes_transform(letters, "SPL")
        except GeometryMismatch as error:
            raise ModelRefused(
                f"--orientation {request.orientation}: three letters as in RAS were expected"
            ) from error
        return letters[::-1]
    if request.example is not None:
        return _axes_of(request.example)
    raise ModelRefused(
        "this nnU-Net was trained on images as they were stored, and its files do not say how"
        " that was; give --orientation (e.g. LPS) or --example TRAINING_IMAGE: a wrong guess"
        " exchanges left and right"
    )


def _axes_of(image: Path) -> str:
    import SimpleITK as sitk  # seldom needed, slow to import

    reader = sitk.ImageFileReader()
    reader.SetFileName(str(image))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise ModelRefused(f"--example {image} cannot be read as an image") from error
    directions = np.reshape(reader.GetDirection(), (-1, reader.GetDimension()))
    if directions.shape != (3, 3):
        raise ModelRefused(f"--example {image} is not 3-D")
    affine = np.eye(4)
    affine[:3, :3] = directions[:, ::-1]
    return Geometry(shape=(1, 1, 1), affine_lps=affine).axes
