"""A results folder to the parts of a package; the checkpoint is opened in a child process."""

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from viscera.domain.geometry import Geometry, axes_transform
from viscera.errors import GeometryMismatch, ModelRefused
from viscera.models.nnunet.card import card
from viscera.models.nnunet.labels import LabelTables, label_tables
from viscera.models.nnunet.plans import Configuration, Resampling, read_configuration
from viscera.models.nnunet.request import Request

GOLDEN_SEED = 15
_ANCHORS = ("liver", "spleen", "right kidney", "left kidney", "aorta", "stomach")
_NEEDED_ANCHORS = 3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Imported:
    """What `write_package` needs."""

    manifest: dict[str, Any]
    onnx: bytes
    logits: np.ndarray
    """(1, output, z, y, x), float32: torch's answer to the golden input of `GOLDEN_SEED`."""
    card: str


def build(request: Request) -> Imported:
    """Return the parts of a package; nothing is written but to a temporary folder.

    Raises
    ------
    ModelRefused
        If the folder is damaged or asks for what cannot be served faithfully.
    """
    with tempfile.TemporaryDirectory(prefix="viscera-import-") as out:
        facts = _run_child(request, Path(out))
        onnx = (Path(out) / "model.onnx").read_bytes()
        logits = np.load(Path(out) / "logits.npy", allow_pickle=False)
    found = read_configuration(request.folder, facts["configuration"])
    tables = label_tables(found.labels, request.labels)
    mirror = sorted(facts["mirror_axes"]) if request.mirroring else []
    manifest = _manifest(request, found, tables, mirror, facts)
    text = card(request, found, tables, facts, mirror, len(onnx))
    return Imported(manifest=manifest, onnx=onnx, logits=logits, card=text)


def _run_child(request: Request, out: Path) -> dict[str, Any]:
    order = {
        "folder": str(request.folder.resolve()),
        "folds": request.folds,
        "checkpoint": request.checkpoint,
        "trust_trainer": request.trust_trainer,
        "seed": GOLDEN_SEED,
    }
    arguments = [sys.executable, "-m", "viscera.models.nnunet.child", json.dumps(order), str(out)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    answer = out / "answer.json"
    if done.returncode or not answer.is_file():
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise ModelRefused(
            f"the process that reads the checkpoints of {request.folder} ended with status"
            f" {done.returncode}: {last}"
        )
    facts: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
    if "refused" in facts:
        raise ModelRefused(facts["refused"])
    return facts


def _manifest(
    request: Request,
    found: Configuration,
    tables: LabelTables,
    mirror: list[int],
    facts: dict[str, Any],
) -> dict[str, Any]:
    modalities = request.modalities or _modalities(found.channels)
    anchors = [name for name in _ANCHORS if name in tables.labels]
    manifest: dict[str, Any] = {
        "format": 2,
        "name": request.name,
        "version": request.version,
        "grade": "research",
        "licence": request.licence,
        "intended_use": "Research. Imported from nnU-Net; not validated here.",
        "training_data": f"nnU-Net {facts['dataset']}, {facts['plans']}, {facts['trainer']}, "
        f"configuration {found.name}, folds {', '.join(facts['folds'])}",
        "accuracy": "not measured here",
        "input": {
            "modalities": list(modalities),
            "channels": list(found.channels),
            "axes": _axes(request, found),
            "spacing_mm": list(found.spacing_mm),
            "crop": "nonzero",
            "image_order": found.image.order,
            "separate_axis": _separate(found.image),
            "normalisation": {modality: list(found.normalisation) for modality in modalities},
        },
        "tiles": {"patch_size": list(found.patch_size), "step": 0.5, "mirror_axes": mirror},
        "output": {
            "labels": tables.labels,
            "outputs": tables.outputs,
            "not_segmented": tables.not_segmented,
            "logits_order": found.logits.order,
            "separate_axis": _separate(found.logits),
        },
    }
    if len(anchors) >= _NEEDED_ANCHORS:
        manifest["verdict"] = {"anchors": anchors, "min_anchors": _NEEDED_ANCHORS, "min_ml": 10.0}
    return manifest


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
