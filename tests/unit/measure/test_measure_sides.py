"""Right and left are compared whatever else the model has: also without anchors."""

from dataclasses import replace

import numpy as np
import pytest
from test_measure_verdict import BANDS

from viscera.domain.geometry import Geometry
from viscera.domain.models import VerdictPolicy
from viscera.domain.organs import AMOS
from viscera.domain.results import Decision, FlagKind
from viscera.domain.volumes import Volume
from viscera.measure import judge, measure

KIDNEYS = ("right kidney", "left kidney")
ADRENALS = ("right adrenal gland", "left adrenal gland")


def judged(names: tuple[str, ...], at: dict[str, int], verdict: VerdictPolicy | None = None):
    """Measure and judge blocks of 1 mL at the given columns; x grows towards the left."""
    labels = np.zeros((9, 20, 40), dtype=np.uint8)
    for value, name in enumerate(names, 1):
        if name in at:
            labels[2:7, 2 * value : 2 * value + 2, at[name] : at[name] + 2] = value
    grid = Geometry.from_planes(
        labels.shape, np.zeros(3), np.array([0.0, 0.0, 4.0]), (1, 0, 0, 0, 1, 0), (3.5, 3.5)
    )
    assert grid.axes == "SPL"
    scan = Volume(voxels=np.zeros(labels.shape, np.int16), geometry=grid, modality="CT")
    by_name = {label.name: label for label in AMOS}
    model = replace(
        BANDS,
        labels=tuple(replace(by_name[name], value=k) for k, name in enumerate(names, 1)),
        verdict=verdict or VerdictPolicy(),
    )
    rows = measure(labels, scan, model)
    return rows, judge(rows, scan, model)


@pytest.mark.parametrize("names", [KIDNEYS, ADRENALS, ("liver", "spleen")])
def test_one_pair_alone_the_wrong_way_round_is_flagged(names) -> None:
    rows, verdict = judged(names, {names[0]: 30, names[1]: 8})
    assert verdict.decision is Decision.FLAG
    assert f"The {names[0]} lies to the patient's left" in verdict.reasons[0]
    assert [[flag.kind for flag in row.flags] for row in rows] == [[FlagKind.SIDE_CONTRADICTED]] * 2
    rows, verdict = judged(names, {names[0]: 8, names[1]: 30})
    assert (verdict.decision, verdict.reasons) == (Decision.DELIVER, ())


def test_two_pairs_the_wrong_way_round_are_withheld_without_anchors_too() -> None:
    at = {KIDNEYS[0]: 30, KIDNEYS[1]: 8, ADRENALS[0]: 28, ADRENALS[1]: 10}
    _, verdict = judged((*KIDNEYS, *ADRENALS), at)
    assert verdict.decision is Decision.WITHHOLD
    assert "Right and left are exchanged" in verdict.reasons[0]
    _, verdict = judged((*KIDNEYS, *ADRENALS), at | {ADRENALS[0]: 8, ADRENALS[1]: 30})
    assert verdict.decision is Decision.FLAG


def test_without_anchors_size_place_and_what_is_cut_off_are_no_reasons() -> None:
    names = ("liver", "pancreas", *KIDNEYS)
    rows, verdict = judged(names, {"liver": 0, "pancreas": 38, KIDNEYS[0]: 8, KIDNEYS[1]: 30})
    assert (verdict.decision, verdict.reasons) == (Decision.DELIVER, ())
    assert all(row.flags == () for row in rows)


def test_labels_that_are_said_to_be_no_anatomy_have_no_sides() -> None:
    rows, verdict = judged(
        (*KIDNEYS, *ADRENALS),
        {KIDNEYS[0]: 30, KIDNEYS[1]: 8, ADRENALS[0]: 28, ADRENALS[1]: 10},
        VerdictPolicy(sides=False),
    )
    assert (verdict.decision, verdict.reasons) == (Decision.DELIVER, ())
    assert all(row.flags == () for row in rows)
