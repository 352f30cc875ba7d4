"""The package: manifest, network, golden tile, and a card with what was measured."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from viscera.config import EngineSettings
from viscera.domain.models import Golden, Model
from viscera.errors import InvalidRequest
from viscera.metrics import Metrics
from viscera.models import load_model, read_golden, write_package
from viscera.phantom import Phantom, Scan, make_phantom
from viscera.segment import golden, start_engine
from viscera.segment.onnx_cpu import OnnxCpuEngine
from viscera.training.card import Measured, labelled_card, phantom_card
from viscera.training.evaluate import evaluate, held_out, mean_dice, mean_of, unseen
from viscera.training.folder import Folder
from viscera.training.recipe import AXES, NORMALISATION, PHANTOM, Recipe

_GOLDEN_SEED = 15
_PHANTOMS = 12
_PHANTOMS_BESIDE = 6
"""Where people are measured too, and two networks."""
_ANCHORS = ("liver", "spleen", "right kidney", "left kidney", "aorta", "stomach")


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """What a package was made by and from.

    Parameters
    ----------
    known, held_out
        Labelled volumes that were trained on, and those of other people; None where there are
        none.
    kinds
        How many volumes of each kind the pool held.
    started_from
        The package whose weights came first, and its digest; empty where none did.
    note
        What else the card must say about this run.
    """

    recipe: Recipe
    steps: int
    version: str = "1"
    known: Folder | None = None
    held_out: Folder | None = None
    kinds: str = ""
    started_from: str = ""
    note: str = ""


def require_free(repo: Path, name: str, version: str) -> None:
    """Refuse to write over a package: workers may serve it, and a version never changes.

    Raises
    ------
    InvalidRequest
        If there is one.
    """
    package = repo / name / version
    if package.exists():
        raise InvalidRequest(f"{package} is there; give --version another, or take it away")


def build_package(repo: Path, onnx: bytes, training: Training, out: Path) -> Model:
    """Evaluate the network and write its package into `repo`.

    Parameters
    ----------
    repo
        Model repository that gets ``NAME/VERSION``. If it holds the phantoms' network, that
        one is measured beside a network of labelled volumes.
    onnx
        The exported network.
    out
        Working folder; the package without scores is written there first.
    """
    draft = _write(out / "model_repo", onnx, training, "not measured yet", "draft")
    measure = _of_phantoms if training.known is None else _of_labelled
    accuracy, card = measure(draft, training, repo)
    return _write(repo, onnx, training, accuracy, card)


def _of_phantoms(draft: Model, training: Training, repo: Path) -> tuple[str, str]:
    """Return the manifest's sentence and the card of a network that phantoms alone have taught."""
    engine = OnnxCpuEngine(draft, threads=0, tile_batch=1)
    scores = evaluate(draft, engine, _known(training.recipe), unseen(_PHANTOMS))
    engine.close()
    accuracy = (
        f"mean Dice {mean_of(scores.network):.2f} on {scores.phantoms} unseen phantoms "
        f"(HU classifier {mean_of(scores.hu_classifier):.2f}); never measured on patients"
    )
    size_bytes = draft.onnx.stat().st_size
    return accuracy, phantom_card(
        training.recipe, training.version, training.steps, scores, size_bytes
    )


def _of_labelled(draft: Model, training: Training, repo: Path) -> tuple[str, str]:
    """Return the same for a network of labelled volumes, with the phantoms' beside it."""
    assert training.known is not None
    name = training.recipe.name
    measured = {name: _measure(draft, training)}
    if (repo / PHANTOM.name).is_dir():
        measured[PHANTOM.name] = _measure(load_model(repo, PHANTOM.name), training)
    card = labelled_card(
        training.recipe,
        training.version,
        training.steps,
        draft.onnx.stat().st_size,
        known=training.known,
        kinds=training.kinds,
        started_from=training.started_from,
        note=training.note,
        measured=measured,
    )
    own = measured[name]
    people = [
        f"{mean_of(dice):.2f} over {len(dice)} organs of {volume}"
        for volume, dice in own.held_out.items()
    ]
    accuracy = (
        f"mean Dice {mean_of(own.phantoms):.2f} on {own.phantom_count} unseen phantoms; on people "
        f"not trained on: {', '.join(people) or 'never measured'}"
    )
    return accuracy, card


def _write(repo: Path, onnx: bytes, training: Training, accuracy: str, card: str) -> Model:
    return write_package(
        repo / training.recipe.name / training.version,
        _manifest(training, accuracy),
        onnx=onnx,
        make_golden=_make_golden,
        card=card,
    )


def _measure(model: Model, training: Training) -> Measured:
    """Measure `model` through the best engine of the service's own ladder."""
    engine = start_engine(model, read_golden(model), EngineSettings(), Metrics())
    try:
        return Measured(
            phantoms=mean_dice(model, engine, unseen(_PHANTOMS_BESIDE)),
            phantom_count=_PHANTOMS_BESIDE,
            held_out=held_out(training.held_out, model, engine) if training.held_out else {},
        )
    finally:
        engine.close()


def _known(recipe: Recipe) -> Iterator[Phantom]:
    """Phantoms as training drew them, for the HU classifier."""
    scan = Scan(spacing_mm=(4.0,) * 3, matrix=(100, 100))
    return (make_phantom(recipe.seed * 10_000 + number, scan) for number in range(24))


def _make_golden(model: Model) -> Golden:
    engine = OnnxCpuEngine(model, threads=0, tile_batch=1)
    try:
        return golden.make(engine, model, _GOLDEN_SEED)
    finally:
        engine.close()


def _manifest(training: Training, accuracy: str) -> dict[str, Any]:
    recipe, n = training.recipe, NORMALISATION
    return {
        "format": 1,
        "name": recipe.name,
        "version": training.version,
        **_provenance(training),
        "accuracy": accuracy,
        "input": {
            "modalities": ["CT"],
            "axes": AXES,
            "spacing_mm": [recipe.spacing_mm] * 3,
            "normalisation": {
                "CT": {
                    "scheme": str(n.scheme),
                    "lower": n.lower,
                    "upper": n.upper,
                    "mean": n.mean,
                    "sd": n.sd,
                }
            },
        },
        "tiles": {"patch_size": list(recipe.patch_size), "step": 0.5},
        "output": {"labels": "amos15"},
        "verdict": {"anchors": list(_ANCHORS), "min_anchors": 3, "min_ml": 10.0},
    }


def _provenance(training: Training) -> dict[str, Any]:
    """Return grade, licence, use and data, and what a weak network on people needs besides."""
    recipe = training.recipe
    if training.known is None:
        return {
            "grade": "demonstration",
            "licence": "Apache-2.0",
            "intended_use": "Demonstration on phantoms. Must not be used for patients.",
            "training_data": f"{recipe.pool} phantoms of seed {recipe.seed}; no patient.",
        }
    count = len(list(training.known.pairs()))
    return {
        "grade": "research",
        "licence": training.known.licence,
        "intended_use": "To try the service on CT, and to train further. Not for clinical use.",
        "training_data": (
            f"{recipe.pool} volumes of seed {recipe.seed}, made from {count} labelled "
            f"({training.known.description}) and from phantoms."
        ),
        "postprocess": {
            "inside_body": True,
            "sides": True,
            "max_pieces": 1,
            # Hollow and winding organs fall into pieces that belong to them.
            "max_pieces_of": {
                "stomach": 2,
                "pancreas": 3,
                "duodenum": 3,
                "aorta": 3,
                "postcava": 3,
            },
            "min_share": 0.1,
            "min_ml": 0.5,
        },
    }
