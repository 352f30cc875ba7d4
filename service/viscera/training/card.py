"""What stands in a package's model card, by recipe."""

from dataclasses import dataclass

from viscera.domain.organs import AMOS
from viscera.training.evaluate import Scores, mean_of
from viscera.training.folder import VALUES, Folder, organ_name
from viscera.training.recipe import AXES, NORMALISATION, Recipe

_PHANTOM = """# {name}/{version}

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

_LABELLED = """# {name}/{version}

A network for the fifteen organs of AMOS that has seen the anatomy of {people}:
{description}.

Everything else it learnt from was made: other bodies by deforming the labelled volumes, other
contrast phases and scanners by repainting them, and phantoms that were drawn. It is a place to
start, not a tool.

- **Grade**: research. NOT FOR CLINICAL USE. It must not be used for diagnosis, treatment or
  triage, not to measure volumes that anyone acts on, and not to judge how well such a task can be
  solved with data that shows more people.
- **Intended use**: to try the service on real CT, and as weights to train further on a site's own
  labelled data.
- **Input**: CT, {spacing} mm, axes {axes}, HU clipped to [{lower:g}, {upper:g}] and divided by
  {sd:g}; patch {patch}.
- **Network**: 3-D U-Net, {channels} features, {convolutions} convolutions a
  level, instance norm, leaky ReLU; {size:.1f} MB of float32.
- **Training data**: {pool} volumes of seed {seed}, out of {people} and of `viscera.phantom`:
  {kinds}.
  Habitus 0.68 to 1.45, all fat down to a quarter, that under the skin 0.15 to 2 times as thick,
  organs that grow, shrink, move or are missing, four contrast phases, slices of 1 to 8 mm, cut
  fields of view, tables, arms. A scan that ends in the liver gets a drawn dome. No mirroring.
- **Organs that no person taught**: {unlabelled}. Only phantoms show them; on
  patients expect nothing of them.
- **Training**: {steps} steps of {batch} patches{after}; the rate followed the clock. By steps,
  the recipe is reproducible: `python -m viscera.training --recipe reference --data FOLDER
  --seed {seed} --steps {steps} --learning-rate {rate:g}{start}`.
{note}- **Licence**: {licence}; the phantoms and the code Apache-2.0.

## Accuracy

Dice through the service's own path, implausible pieces taken away as the manifest says. No
volume here, and no other scan of the same person, was trained on, and nothing was chosen by these
figures. A dash: the volume does not show the organ, or its labels lack it.
{beside}
*Phantoms*: mean over {phantoms} with seeds that training never draws.

{table}

{starred}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What one network was measured on.

    Parameters
    ----------
    phantoms
        Mean Dice by organ.
    held_out
        Dice by volume and organ; empty where there are no such volumes.
    """

    phantoms: dict[str, float]
    phantom_count: int
    held_out: dict[str, dict[str, float]]


def phantom_card(recipe: Recipe, version: str, steps: int, scores: Scores, size_bytes: int) -> str:
    """Return the card of a network that phantoms alone have taught."""
    rows = (
        f"| {label.name} | {scores.network[label.name]:.2f} "
        f"| {scores.hu_classifier[label.name]:.2f} | {scores.mirrored[label.name]:.2f} |"
        for label in AMOS
        if label.name in scores.network
    )
    return _PHANTOM.format(
        **_facts(recipe, version, steps, size_bytes),
        distractors=recipe.distractors,
        phantoms=scores.phantoms,
        rows="\n".join(rows),
        mean=mean_of(scores.network),
        hu_mean=mean_of(scores.hu_classifier),
        mirrored_mean=mean_of(scores.mirrored),
    )


def labelled_card(
    recipe: Recipe,
    version: str,
    steps: int,
    size_bytes: int,
    *,
    known: Folder,
    kinds: str,
    started_from: str,
    note: str,
    measured: dict[str, Measured],
) -> str:
    """Return the card of a network that labelled volumes have taught.

    Parameters
    ----------
    known
        What was trained on.
    kinds
        How many volumes of each kind the pool held.
    started_from
        The package whose weights came first; may be empty.
    note
        What else is to be said about the run; may be empty.
    measured
        By network; the one that the card is about comes first, others stand beside it.
    """
    own = next(iter(measured.values()))
    taught = {organ_name(name) for name in known.names.values()}
    count = len(list(known.pairs()))
    others = [name for name in measured if name != recipe.name]
    return _LABELLED.format(
        **_facts(recipe, version, steps, size_bytes),
        people="one person" if count == 1 else f"{count} labelled volumes",
        description=known.description or "see their folder",
        licence=known.licence,
        kinds=kinds,
        rate=recipe.learning_rate,
        after=f", which began with the weights of {started_from}" if started_from else "",
        start=" --start PACKAGE" if started_from else "",
        unlabelled=", ".join(name for name in VALUES if name not in taught) or "none",
        phantoms=own.phantom_count,
        beside=f"Beside it, on the same volumes: {', '.join(others)}.\n" if others else "",
        table=_table(measured, taught),
        note=f"- **This run**: {note}\n" if note else "",
        starred="\\* Only phantoms taught this organ: no figure on people stands behind it.",
    )


def _facts(recipe: Recipe, version: str, steps: int, size_bytes: int) -> dict[str, object]:
    return {
        "name": recipe.name,
        "version": version,
        "spacing": f"{recipe.spacing_mm:g}",
        "axes": AXES,
        "lower": NORMALISATION.lower,
        "upper": NORMALISATION.upper,
        "sd": NORMALISATION.sd,
        "patch": " x ".join(map(str, recipe.patch_size)),
        "channels": ", ".join(map(str, recipe.channels)),
        "convolutions": ", ".join(map(str, recipe.convolutions)),
        "size": size_bytes / 1e6,
        "pool": recipe.pool,
        "seed": recipe.seed,
        "steps": steps,
        "batch": recipe.batch,
    }


def _table(measured: dict[str, Measured], taught: set[str]) -> str:
    """Return a table with a column for each volume and network."""
    columns: dict[str, dict[str, float]] = {}
    own = next(iter(measured.values()))
    for volume in own.held_out:
        for network, result in measured.items():
            columns[f"{volume}: {network}"] = result.held_out[volume]
    for network, result in measured.items():
        columns[f"phantoms: {network}"] = result.phantoms
    lines = ["| organ | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for label in AMOS:
        name = label.name if label.name in taught else f"{label.name} \\*"
        cells = [
            f"{dice[label.name]:.2f}" if label.name in dice else "–" for dice in columns.values()
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    means = [f"**{mean_of(dice):.2f}**" for dice in columns.values()]
    lines.append("| **mean** | " + " | ".join(means) + " |")
    return "\n".join(lines)
