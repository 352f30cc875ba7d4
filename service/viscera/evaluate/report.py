"""All cases of an evaluation, and what they come to."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from viscera import __version__
from viscera.errors import GeometryMismatch
from viscera.evaluate.cases import Case, Matching
from viscera.evaluate.intervals import LEVEL, RESAMPLES, Estimate, estimate
from viscera.evaluate.names import Naming, common
from viscera.evaluate.own_names import OwnNames, own_names
from viscera.evaluate.read import LabelMap, onto, read_label_map
from viscera.evaluate.scores import Score, by_name, score
from viscera.evaluate.unnamed import Named

Progress = Callable[[float, str], None]
"""(0..1, case): how far it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrganSummary:
    """One organ over all cases that have it in the reference."""

    organ: str
    dice: Estimate
    nsd: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What an evaluation found."""

    tolerance_mm: float
    cases: Mapping[str, tuple[Score, ...]]
    """By the case's name."""
    organs: tuple[OrganSummary, ...]
    """Those that some reference has."""
    mean_dice: Estimate | None
    """Over those organs; None where there are none."""
    mean_nsd: Estimate | None
    not_scored: tuple[str, ...]
    """Organs that no reference has."""
    not_predicted: tuple[str, ...]
    without_reference: tuple[str, ...]
    unnamed_predicted: Mapping[str, int] = field(default_factory=dict)
    """Values or segments in predictions under no name that the references know: in how many."""
    unnamed_reference: Mapping[str, int] = field(default_factory=dict)
    """The same in references."""


def evaluate(matching: Matching, naming: Naming, tolerance_mm: float, progress: Progress) -> Report:
    """Score every case.

    Raises
    ------
    GeometryMismatch
        If a prediction lies on another grid than its reference.
    InvalidRequest
        If the metrics are not installed, if prediction and reference have no name in common, or if
        of all that was predicted nothing has one.
    """
    ours = [own_names(case.prediction, naming.prediction) for case in matching.cases]
    theirs = [own_names(case.reference, naming.reference) for case in matching.cases]
    organs = common(_known(ours), _known(theirs))
    predicted, reference = Named(organs), Named(organs)
    cases = {}
    for done, case in enumerate(matching.cases):
        found = []
        prediction = read_label_map(case.prediction, ours[done].values)
        truth = read_label_map(case.reference, theirs[done].values)
        predicted.add(prediction)
        reference.add(truth)
        for share, one in _scores(case, prediction, truth, organs, tolerance_mm):
            found.append(one)
            progress((done + share) / len(matching.cases), case.name)
        cases[case.name] = tuple(found)
    progress(1.0, "")
    predicted.require()
    return replace(
        summarise(cases, organs, tolerance_mm, matching),
        unnamed_predicted=predicted.unnamed,
        unnamed_reference=reference.unnamed,
    )


def _known(names: Sequence[OwnNames]) -> frozenset[str]:
    return frozenset[str]().union(*(one.known for one in names))


def summarise(
    cases: Mapping[str, tuple[Score, ...]],
    organs: tuple[str, ...],
    tolerance_mm: float,
    matching: Matching,
) -> Report:
    """Return what the scores of all cases come to."""
    scored = [o for o in organs if any(s.organ == o and s.dice is not None for s in _all(cases))]
    dice, nsd = (_grid(cases, scored, metric) for metric in ("dice", "nsd"))
    return Report(
        tolerance_mm=tolerance_mm,
        cases=cases,
        organs=tuple(
            OrganSummary(organ=organ, dice=estimate(dice[:, [k]]), nsd=estimate(nsd[:, [k]]))
            for k, organ in enumerate(scored)
        ),
        mean_dice=estimate(dice) if scored else None,
        mean_nsd=estimate(nsd) if scored else None,
        not_scored=tuple(organ for organ in organs if organ not in scored),
        not_predicted=matching.not_predicted,
        without_reference=matching.without_reference,
    )


def write_json(path: Path, report: Report) -> None:
    """Write everything, scores of each case included; null where there is no number."""
    tree: dict[str, Any] = {
        "schema_version": 1,
        "viscera": __version__,
        "metrics": {
            "dice": "2 |A and B| / (|A| + |B|)",
            "nsd": f"surface Dice at {report.tolerance_mm:g} mm (DeepMind surface-distance)",
            "interval": f"{LEVEL:.0%} percentile bootstrap over cases, {RESAMPLES} resamples; "
            "null for one case",
        },
        **asdict(report),
    }
    text = json.dumps(tree, indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def _scores(
    case: Case,
    prediction: LabelMap,
    reference: LabelMap,
    organs: tuple[str, ...],
    tolerance_mm: float,
) -> Iterator[tuple[float, Score]]:
    """Yield how much of the case is done, and a score."""
    try:
        ours = onto(prediction, reference)
    except GeometryMismatch as error:
        raise GeometryMismatch(f"case {case.name}: {error}") from error
    for one in score(
        by_name(ours, prediction.names, organs),
        by_name(reference.labels, reference.names, organs),
        reference.geometry,
        organs,
        tolerance_mm,
    ):
        yield (organs.index(one.organ) + 1) / len(organs), one


def _all(cases: Mapping[str, tuple[Score, ...]]) -> list[Score]:
    return [score for scores in cases.values() for score in scores]


def _grid(cases: Mapping[str, tuple[Score, ...]], organs: list[str], metric: str) -> np.ndarray:
    """Return (case, organ), NaN where there is no score."""
    grid = np.full((len(cases), len(organs)), np.nan)
    for row, scores in enumerate(cases.values()):
        for one in scores:
            value = getattr(one, metric)
            if value is not None:
                grid[row, organs.index(one.organ)] = value
    return grid
