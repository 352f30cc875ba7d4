"""The pool, the curves and the scores: what a run leaves on disk, and how it is judged."""

import math
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from viscera.domain.organs import AMOS
from viscera.errors import InvalidRequest
from viscera.training import pool
from viscera.training.card import Measured, labelled_card
from viscera.training.curves import Curves
from viscera.training.draw import Sources
from viscera.training.evaluate import dice_by_organ
from viscera.training.folder import open_folder
from viscera.training.labelled import LabelledVolume
from viscera.training.package import require_free
from viscera.training.recipe import REFERENCE, VALIDATION_FROM


@pytest.fixture
def filled(tmp_path: Path, volume: LabelledVolume, monkeypatch: pytest.MonkeyPatch) -> Path:
    recipe = replace(REFERENCE, spacing_mm=6.0, phantoms=0.0)
    monkeypatch.setattr(pool, "_sources", Sources.prepare(recipe, [volume]), raising=False)
    for number in (0, 1, 2, VALIDATION_FROM):
        pool._draw_into(tmp_path, number)
    return tmp_path


def test_patches_have_the_patch_s_size_and_repeat_by_seed(filled: Path) -> None:
    recipe = replace(REFERENCE, pool=3, validation=1, patch_size=(48, 64, 80))
    patches = pool.Patches(filled, recipe, pool.training(recipe))
    for seed in range(8):
        one, other = (patches.draw(np.random.default_rng(seed)) for _ in range(2))
        assert one.image.shape == one.labels.shape == (48, 64, 80)
        assert np.array_equal(one.image, other.image)
        assert one.image.dtype == np.float32
        assert 5 in one.unlabelled
    (check,) = pool.Patches(filled, recipe, pool.validation(recipe)).fixed(1)
    (again,) = pool.Patches(filled, recipe, pool.validation(recipe)).fixed(1)
    assert np.array_equal(check.image, again.image)
    assert sum(int(word) for word in pool.kinds(filled, range(3)).split() if word.isdigit()) == 3


LIVER, BLADDER = 6, 14


def shares(folder: Path, seldom: float, draws: int = 200) -> tuple[float, float]:
    """Return which share of patches shows one of the two organs, and which the bladder."""
    recipe = replace(REFERENCE, pool=4, patch_size=(26, 26, 26), seldom=seldom)
    patches = pool.Patches(folder, recipe, pool.training(recipe))
    rng = np.random.default_rng(4)
    shown = [set(np.unique(patches.draw(rng).labels)) - {0} for _ in range(draws)]
    return sum(map(bool, shown)) / draws, sum(BLADDER in one for one in shown) / draws


def test_seldom_organs_get_patches_of_their_own(tmp_path: Path) -> None:
    """The liver is in four volumes, the bladder in one: four of five such patches are for it."""
    for number in range(4):
        labels = np.zeros((80, 80, 80), np.uint8)
        labels[70:74, 40:44, 40:44] = LIVER
        labels[6:10, 40:44, 40:44] = BLADDER if number == 2 else 0
        hu = np.full(labels.shape, 40, np.int16)
        np.savez(pool._path(tmp_path, number), hu=hu, labels=labels, unlabelled=[])
    all_their_own, none = shares(tmp_path, 1.0), shares(tmp_path, 0.0)
    assert all_their_own[0] == 1
    assert all_their_own[1] == pytest.approx(0.8, abs=0.08)
    assert none[0] < 0.7
    assert none[1] < 0.2


def test_a_recipe_that_needs_people_says_so(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="--data"):
        pool.fill_pool(tmp_path, REFERENCE, None, 1)


def test_curves_are_a_picture_and_go_on_where_a_run_was_cut_off(tmp_path: Path) -> None:
    curves = Curves(tmp_path)
    curves.trained(50, 1.5, 0.9)
    curves.validated(100, [0.5, *[math.nan] * 14])
    curves.trained(150, 1.0, 0.8)
    curves.validated(200, [0.7, *[math.nan] * 14])
    again = Curves(tmp_path)
    again.resume(100)
    again.validated(120, [0.6] * 15)
    rows = (tmp_path / "curves.csv").read_text().splitlines()[1:]
    assert [float(row.split(",")[0]) for row in rows] == [50, 100, 120]
    picture = ET.fromstring((tmp_path / "curves.svg").read_text())
    lines = picture.findall("{http://www.w3.org/2000/svg}polyline")
    mean = lines[-1].attrib["points"].split()
    assert len(lines) == len(AMOS) + 3
    assert [float(point.split(",")[1]) for point in mean] == pytest.approx(
        [20 + 320 * 0.5, 20 + 320 * 0.4]
    )


def test_dice_is_what_itk_says() -> None:
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 16, (6, 20, 20)).astype(np.uint8)
    found = np.where(rng.random(truth.shape) < 0.7, truth, 3).astype(np.uint8)
    judge = sitk.LabelOverlapMeasuresImageFilter()
    judge.Execute(sitk.GetImageFromArray(found), sitk.GetImageFromArray(truth))
    ours = dice_by_organ(found, truth, voxel_ml=1.0)
    assert len(ours) == 15
    for label in AMOS:
        assert ours[label.name] == pytest.approx(judge.GetDiceCoefficient(label.value))
    assert dice_by_organ(found, truth, voxel_ml=0.001) == {}  # too little to count


def test_the_card_says_which_organs_no_person_taught(tmp_path: Path) -> None:
    for part in ("imagesTr", "labelsTr"):
        (tmp_path / part).mkdir()
    (tmp_path / "labelsTr/a.nii.gz").touch()
    (tmp_path / "imagesTr/a_0000.nii.gz").touch()
    (tmp_path / "dataset.json").write_text('{"labels": {"liver": 1}, "licence": "CC BY 4.0"}')
    own = Measured(
        phantoms={"liver": 0.9, "spleen": 0.5},
        phantom_count=12,
        held_out={"someone": {"liver": 0.8}},
    )
    other = Measured(
        phantoms={"liver": 0.95}, phantom_count=12, held_out={"someone": {"liver": 0.1}}
    )
    text = labelled_card(
        REFERENCE,
        "1",
        7,
        2_000_000,
        known=open_folder(tmp_path),
        kinds="3 real",
        started_from="former/1 (sha256 0123)",
        note="It was warm.",
        measured={REFERENCE.name: own, "abdomen15-phantom": other},
    )
    rows = {
        row.split("|")[1].strip(): row.split("|")[2:-1] for row in text.splitlines() if "|" in row
    }
    assert [cell.strip() for cell in rows["liver"]] == ["0.80", "0.10", "0.90", "0.95"]
    assert [cell.strip() for cell in rows["spleen \\*"]] == ["–", "–", "0.50", "–"]
    assert [cell.strip(" *") for cell in rows["**mean**"]] == ["0.80", "0.10", "0.70", "0.95"]
    for said in (
        "one person",
        "CC BY 4.0",
        "NOT FOR CLINICAL USE",
        "It was warm.",
        "esophagus, ",
        "former/1 (",
    ):
        assert said in text


def test_a_package_is_never_written_over(tmp_path: Path) -> None:
    require_free(tmp_path, "abdomen15-oursite", "1")
    (tmp_path / "abdomen15-oursite" / "1").mkdir(parents=True)
    require_free(tmp_path, "abdomen15-oursite", "2")
    with pytest.raises(InvalidRequest, match="--version"):
        require_free(tmp_path, "abdomen15-oursite", "1")
