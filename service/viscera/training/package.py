"""The package: manifest, network, golden tile, and a card with what was measured."""

from pathlib import Path
from typing import Any

from viscera.domain.models import Golden, Model
from viscera.domain.organs import AMOS
from viscera.models import write_package
from viscera.phantom import Scan, make_phantom
from viscera.segment import golden
from viscera.segment.onnx_cpu import OnnxCpuEngine
from viscera.training.evaluate import Scores, evaluate, unseen
from viscera.training.recipe import AXES, NORMALISATION, Recipe

NAME, VERSION = "abdomen15-phantom", "1"
_GOLDEN_SEED = 15
_ANCHORS = ("liver", "spleen", "right kidney", "left kidney", "aorta", "stomach")

_CARD = """# {name}/{version}

A demonstration network for the fifteen organs of AMOS. **It has seen no patient**: every image it
learnt from was drawn by `viscera.phantom`. It shows that the service works, not that the network
does.

- **Grade**: demonstration. NOT FOR CLINICAL USE. It must not be used for patients, for research on
  patients' images, or to judge how well such a task can be solved.
- **Intended use**: the demo and the tests of this project.
- **Input**: CT, {spacing} mm, axes {axes}, HU clipped to [{lower:g}, {upper:g}] and divided by
  {sd:g}; patch {patch}.
- **Network**: 3-D U-Net, {channels} features, instance norm, leaky ReLU; {size:.1f} MB of float32.
- **Training data**: {pool} phantoms of seed {seed}, {distractors:.0%} of them without an abdomen;
  habitus 0.72 to 1.3, four contrast phases, noise of 15 to 28 HU, whole and cut fields of view. No
  mirroring.
- **Training**: {steps} steps of {batch} patches on two shared CPU cores. The rate followed the
  clock; `python -m viscera.training --seed {seed} --steps {steps} --repo model_repo` is the same
  recipe by steps, and reproducible.
- **Licence**: Apache-2.0, as the code that drew the data and made the weights.

## Accuracy

Mean Dice over {phantoms} phantoms with seeds that training never draws, on grids of 2.5 to 5 mm
slices and 2 mm pixels, through the service's own path. *HU classifier* is Bayes on a histogram of
HU, fitted on training phantoms, with the better of two priors for each organ: what brightness
alone gives away. *Mirrored* is the network on the same phantoms with left and right exchanged: it
should lose, for it must know the sides.

| organ | network | HU classifier | network, mirrored |
|---|---|---|---|
{rows}
| **mean** | **{mean:.2f}** | **{hu_mean:.2f}** | **{mirrored_mean:.2f}** |

On real CT expect far less, and wrong organs with confidence: no measurement on patients belongs
here, because none would make it fit for use.
"""


def build_package(repo: Path, onnx: bytes, recipe: Recipe, steps: int, out: Path) -> Model:
    """Evaluate the network and write its package into `repo`.

    Parameters
    ----------
    repo
        Model repository that gets ``abdomen15-phantom/1``.
    onnx
        The exported network.
    recipe, steps
        What it was made by, for the card.
    out
        Working folder; the package without scores is written there first.
    """
    draft = write_package(
        out / "model_repo" / NAME / VERSION,
        _manifest(recipe, "not measured yet"),
        onnx=onnx,
        make_golden=_make_golden,
        card="draft",
    )
    engine = OnnxCpuEngine(draft, threads=0, tile_batch=1)
    scores = evaluate(draft, engine, _known(recipe), unseen(12))
    engine.close()
    accuracy = (
        f"mean Dice {Scores.mean(scores.network):.2f} on {scores.phantoms} unseen phantoms "
        f"(HU classifier {Scores.mean(scores.hu_classifier):.2f}); never measured on patients"
    )
    return write_package(
        repo / NAME / VERSION,
        _manifest(recipe, accuracy),
        onnx=onnx,
        make_golden=_make_golden,
        card=_card(recipe, steps, scores, len(onnx)),
    )


def _known(recipe: Recipe) -> Any:
    """Phantoms as training drew them, for the HU classifier."""
    scan = Scan(spacing_mm=(recipe.spacing_mm,) * 3, matrix=(100, 100))
    return (make_phantom(recipe.seed * 10_000 + number, scan) for number in range(24))


def _make_golden(model: Model) -> Golden:
    engine = OnnxCpuEngine(model, threads=0, tile_batch=1)
    try:
        return golden.make(engine, model, _GOLDEN_SEED)
    finally:
        engine.close()


def _manifest(recipe: Recipe, accuracy: str) -> dict[str, Any]:
    n = NORMALISATION
    return {
        "format": 1,
        "name": NAME,
        "version": VERSION,
        "grade": "demonstration",
        "licence": "Apache-2.0",
        "intended_use": "Demonstration on phantoms. Must not be used for patients.",
        "training_data": f"{recipe.pool} phantoms of seed {recipe.seed}; no patient.",
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


def _card(recipe: Recipe, steps: int, scores: Scores, size_bytes: int) -> str:
    rows = (
        f"| {label.name} | {scores.network[label.name]:.2f} "
        f"| {scores.hu_classifier[label.name]:.2f} | {scores.mirrored[label.name]:.2f} |"
        for label in AMOS
        if label.name in scores.network
    )
    return _CARD.format(
        name=NAME,
        version=VERSION,
        spacing=f"{recipe.spacing_mm:g}",
        axes=AXES,
        lower=NORMALISATION.lower,
        upper=NORMALISATION.upper,
        sd=NORMALISATION.sd,
        patch=" x ".join(map(str, recipe.patch_size)),
        channels=", ".join(map(str, recipe.channels)),
        size=size_bytes / 1e6,
        pool=recipe.pool,
        seed=recipe.seed,
        distractors=recipe.distractors,
        steps=steps,
        batch=recipe.batch,
        phantoms=scores.phantoms,
        rows="\n".join(rows),
        mean=Scores.mean(scores.network),
        hu_mean=Scores.mean(scores.hu_classifier),
        mirrored_mean=Scores.mean(scores.mirrored),
    )
