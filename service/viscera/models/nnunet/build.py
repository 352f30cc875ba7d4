"""A results folder to the parts of a package; the checkpoint is opened in a child process."""

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from viscera.errors import ModelRefused
from viscera.models.nnunet.card import card
from viscera.models.nnunet.labels import label_tables
from viscera.models.nnunet.plans import read_configuration
from viscera.models.nnunet.request import Request
from viscera.models.nnunet.source import Source
from viscera.models.nnunet.tables import manifest_of

GOLDEN_SEED = 15


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImportedNetwork:
    """One ONNX file of a package."""

    onnx: bytes
    logits: np.ndarray
    """(1, output, z, y, x), float32: torch's answer to the golden input of `GOLDEN_SEED`."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Imported:
    """What `write_package` needs."""

    manifest: dict[str, Any]
    networks: tuple[ImportedNetwork, ...]
    """In the order of the manifest's parts; one where it has none."""
    card: str


def build(request: Request) -> Imported:
    """Return the parts of a package; nothing is written but to a temporary folder.

    Raises
    ------
    ModelRefused
        If a folder is damaged or asks for what cannot be served faithfully.
    """
    folders = (request.folder, *request.further)
    exported = [_export(request, folder) for folder in folders]
    sources = [source for source, _ in exported]
    return Imported(
        manifest=manifest_of(request, sources),
        networks=tuple(network for _, network in exported),
        card=card(request, sources),
    )


def _export(request: Request, folder: Path) -> tuple[Source, ImportedNetwork]:
    with tempfile.TemporaryDirectory(prefix="viscera-import-") as out:
        facts = _run_child(request, folder, Path(out))
        onnx = (Path(out) / "model.onnx").read_bytes()
        logits = np.load(Path(out) / "logits.npy", allow_pickle=False)
    found = read_configuration(folder, facts["configuration"])
    try:
        tables = label_tables(found.labels, request.labels_or_default)
    except ModelRefused as error:
        raise ModelRefused(f"{folder}: {error}") from error
    source = Source(found=found, tables=tables, facts=facts, size_bytes=len(onnx))
    return source, ImportedNetwork(onnx=onnx, logits=logits)


def _run_child(request: Request, folder: Path, out: Path) -> dict[str, Any]:
    order = {
        "folder": str(folder.resolve()),
        "folds": request.folds,
        "checkpoint": request.checkpoint,
        "trust_trainer": request.trust_trainer,
        "seed": GOLDEN_SEED,
    }
    # -P: the working folder may be the results folder, and hold a torch.py from anywhere.
    command = (sys.executable, "-P", "-m", "viscera.models.nnunet.child")
    done = subprocess.run(
        [*command, json.dumps(order), str(out)], capture_output=True, text=True, check=False
    )
    answer = out / "answer.json"
    if done.returncode or not answer.is_file():
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise ModelRefused(
            f"the process that reads the checkpoints of {folder} ended with status"
            f" {done.returncode}: {last}"
        )
    facts: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
    if "refused" in facts:
        raise ModelRefused(facts["refused"])
    return facts
