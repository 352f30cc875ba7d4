"""What is withheld, flagged and delivered."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from viscera.domain.geometry import Geometry
from viscera.domain.models import (
    Grade,
    Model,
    Normalisation,
    NormalisationScheme,
    VerdictPolicy,
)
from viscera.domain.organs import AMOS
from viscera.domain.results import Decision, OrganMeasurement, Presence
from viscera.domain.volumes import Volume
from viscera.measure import judge
from viscera.measure.flags import flagged

HERE = Path()
BANDS = Model(
    name="m", version="1", grade=Grade.RESEARCH, digest="0" * 64, folder=HERE, onnx=HERE,
    onnx_sha256="", golden=HERE, labels=AMOS, modalities=("CT",), axes="SPL", spacing_mm=None,
    patch_size=(1, 1, 1), normalisation={"CT": (Normalisation(scheme=NormalisationScheme.NONE),)},
)  # fmt: skip
ABDOMEN = replace(
    BANDS,
    verdict=VerdictPolicy(
        anchors=("liver", "spleen", "right kidney", "left kidney"), min_anchors=2, min_ml=5.0
    ),
)
SCAN = Volume(
    voxels=np.zeros((3, 4, 4), dtype=np.int16),
    geometry=Geometry(shape=(3, 4, 4), affine_lps=np.eye(4)),
    modality="CT",
)
LABELS = {label.name: label for label in AMOS}


def organ(name: str, volume_ml: float, x: float = 0.0, cut: tuple[str, ...] = ()):
    return OrganMeasurement(
        label=LABELS[name],
        presence=Presence.FOUND_TRUNCATED if cut else Presence.FOUND,
        voxels=int(volume_ml * 100),
        volume_ml=volume_ml,
        mean_intensity=50.0,
        sd_intensity=10.0,
        extent_mm=(10.0, 10.0, 10.0),
        centroid_lps=(x, 0.0, 0.0),
        truncated_by=cut,
    )


HEALTHY = (
    organ("spleen", 220, 100),
    organ("right kidney", 150, -60),
    organ("left kidney", 160, 60),
    organ("liver", 1500, -70),
    organ("aorta", 90, 10, ("array_edge",)),
)


def without(*names: str):
    return tuple(one for one in HEALTHY if one.label.name not in names)


def verdict_on(rows, model=ABDOMEN):
    return judge(flagged(rows, {}), SCAN, model)


def test_healthy_abdomen_is_delivered_without_a_word():
    verdict = verdict_on(HEALTHY)
    assert (verdict.decision, verdict.reasons) == (Decision.DELIVER, ())


@pytest.mark.parametrize(
    "rows",
    [
        (),
        (OrganMeasurement(label=LABELS["liver"], presence=Presence.NOT_FOUND),),
        (organ("liver", 4.9), organ("spleen", 3.0), organ("aorta", 100)),
        # A head: bits of brain called liver, whole and far too small for one.
        (organ("liver", 120), organ("stomach", 200)),
    ],
)
def test_no_abdomen_is_withheld(rows):
    verdict = verdict_on(rows)
    assert verdict.decision is Decision.WITHHOLD
    assert "not look like an abdomen" in verdict.reasons[0]


def test_cut_liver_counts_as_an_anchor_and_is_flagged():
    rows = (organ("liver", 120, -70, ("array_edge",)), organ("spleen", 40, 100))
    verdict = verdict_on(rows)
    assert verdict.decision is Decision.FLAG
    assert verdict.reasons == (
        "Cut off by the edge of the scan: Liver. Their volumes are lower bounds.",
    )


@pytest.mark.parametrize(
    ("rows", "word"),
    [
        ((*without("right kidney"), organ("right kidney", 150, 90)), "right kidney lies"),
        ((*without("liver"), organ("liver", 1500, 130)), "liver lies"),
        ((*HEALTHY, organ("gall bladder", 900)), "more than the 600 mL"),
        ((*HEALTHY, organ("pancreas", 1.2)), "less than the 5 mL"),
        ((*HEALTHY, organ("gall bladder", 300)), "not within the 2 to 120 mL"),
        (
            (*HEALTHY, organ("right adrenal gland", 4, 30), organ("left adrenal gland", 4, -30)),
            "right adrenal gland lies",
        ),
    ],
)
def test_contradicted_anatomy_is_flagged(rows, word):
    verdict = verdict_on(rows)
    assert verdict.decision is Decision.FLAG
    assert len(verdict.reasons) == 1
    assert word in verdict.reasons[0]


def test_model_of_bands_is_always_delivered():
    bands = replace(BANDS, verdict=VerdictPolicy(sides=False))
    mirrored = tuple(replace(one, centroid_lps=(0.0, 0.0, 0.0), volume_ml=0.1) for one in HEALTHY)
    for rows in ((), mirrored):
        assert verdict_on(rows, bands).decision is Decision.DELIVER


@pytest.mark.parametrize("pairs", [1, 2, 3])
def test_right_and_left_exchanged_throughout_is_withheld(pairs):
    every = {
        "right kidney": 150, "left kidney": 160, "liver": 1500, "spleen": 220,
        "right adrenal gland": 4, "left adrenal gland": 4,
    }  # fmt: skip
    names = list(every)[: 2 * pairs]
    # The right one at +40: to the left of its partner.
    rows = [organ(name, every[name], 40 if k % 2 == 0 else -40) for k, name in enumerate(names)]
    verdict = verdict_on(rows)
    expected = Decision.FLAG if pairs == 1 else Decision.WITHHOLD
    assert verdict.decision is expected
    # One pair the right way round: a slip of the network, not a mirrored series.
    if pairs == 3:
        slip = [replace(one, centroid_lps=(-one.centroid_lps[0], 0, 0)) for one in rows[:2]]
        assert verdict_on([*slip, *rows[2:]]).decision is Decision.FLAG
