"""Flags on organs: size, side, place, removal. The table of volumes has its sources."""

import re
import tomllib
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest
import SimpleITK as sitk
from test_measure_verdict import ABDOMEN, HEALTHY, organ

from viscera.domain.anatomy import USUAL
from viscera.domain.geometry import Geometry
from viscera.domain.organs import AMOS
from viscera.domain.results import FlagKind, Presence, Removal
from viscera.domain.volumes import Volume
from viscera.measure import judge, measure
from viscera.measure.flags import flagged
from viscera.volume.files import read_volume

NAMES = {label.name for label in AMOS}
VALUE = {label.name: label.value for label in AMOS}


def kinds(rows) -> dict[str, list[FlagKind]]:
    return {one.label.name: [flag.kind for flag in one.flags] for one in rows if one.flags}


def test_every_volume_range_is_ordered_and_has_its_sources():
    text = files("viscera.measure").joinpath("organ_volumes.toml").read_text()
    table = tomllib.loads(text)
    assert set(table["organs"]) == NAMES == set(USUAL)
    cited = set()
    for name, row in table["organs"].items():
        (least, most), (low, high) = row["possible"], row["usual"]
        assert 0 < least < low < high < most, name
        cited |= set(re.findall(r"\[(\w+)\]", row["usual_from"] + row["possible_from"]))
        if "factor 5" in row["possible_from"]:
            assert least == pytest.approx(low / 5, rel=0.01), name
        if row["possible_from"] == "factor 5":
            assert most == pytest.approx(high * 5, rel=0.01), name
    # ICRP 89 has no volume of a duct or vessel: those rows say what they are computed from.
    assert cited == set(table["sources"])
    assert all(re.search(r"(19|20)\d\d", source) for source in table["sources"].values())


# Geraghty 2004 and ICRP 89: the means of women and men.
MEANS = {
    "liver": (1411, 1710), "spleen": (179.8, 238.4), "pancreas": (64.4, 87.4),
    "right kidney": (156.5, 193.1), "left kidney": (138, 155), "left adrenal gland": (4.4, 7),
    "gall bladder": (17, 68), "stomach": (370, 400), "prostate/uterus": (17, 80),
}  # fmt: skip


@pytest.mark.parametrize("name", MEANS)
def test_published_means_are_usual_and_a_tenth_of_them_is_not(name):
    for mean in MEANS[name]:
        assert kinds(flagged([organ(name, mean)], {})) == {}
    for volume in (MEANS[name][0] / 10, MEANS[name][1] * 20):
        assert name in kinds(flagged([organ(name, volume)], {})), volume


def test_a_cut_organ_is_not_too_small_but_may_be_too_large():
    assert kinds(flagged([organ("liver", 30, cut=("array_edge",))], {})) == {}
    huge = flagged([organ("spleen", 900, cut=("array_edge",))], {})
    assert kinds(huge) == {"spleen": [FlagKind.VOLUME_UNUSUAL]}
    impossible = flagged([organ("liver", 9900, -70), organ("spleen", 3, 100)], {})
    assert kinds(impossible) == {name: [FlagKind.VOLUME_IMPOSSIBLE] for name in ("liver", "spleen")}


def test_both_organs_of_a_pair_carry_the_flag_and_the_verdict_says_it_once():
    rows = [replace(one) for one in HEALTHY if one.label.name != "right kidney"]
    rows = flagged([*rows, organ("right kidney", 150, 90)], {})
    side = [FlagKind.SIDE_CONTRADICTED]
    assert kinds(rows) == {"right kidney": side, "left kidney": side}


@pytest.mark.parametrize(("x", "flags"), [(-60, 0), (8, 0), (25, 1)])
def test_one_kidney_alone_is_judged_by_the_great_vessels(x, flags):
    rows = [organ("right kidney", 150, x), organ("aorta", 90, 15), organ("postcava", 60, -15)]
    assert len(kinds(flagged(rows, {}))) == flags
    # Liver and spleen the wrong way round: then the vessels say nothing of the kidney.
    reversed_ = [*rows, organ("liver", 1500, 60), organ("spleen", 200, -90)]
    assert "right kidney" not in kinds(flagged(reversed_, {}))


def real(shared_data):
    scan = read_volume(shared_data / "volumes" / "example_ct.nii.gz", "CT")
    path = shared_data / "volumes" / "example_ct_AMOS15_labels.nii.gz"
    return scan, sitk.GetArrayFromImage(sitk.ReadImage(path)).astype(np.uint8)


def test_real_anatomy_is_in_its_place(shared_data):
    scan, labels = real(shared_data)
    # This person's pancreas is small: 22 mL.
    assert kinds(measure(labels, scan, ABDOMEN)) == {"pancreas": [FlagKind.VOLUME_UNUSUAL]}


def test_false_spleen_at_the_hip_is_misplaced(shared_data):
    scan, labels = real(shared_data)
    labels[labels == VALUE["spleen"]] = 0
    assert scan.geometry.axes[0] == "S"
    labels[5:25, 40:60, 20:40] = VALUE["spleen"]
    rows = {one.label.name: one for one in measure(labels, scan, ABDOMEN)}
    (flag,) = rows["spleen"].flags
    assert flag.kind is FlagKind.MISPLACED
    assert "below where" in flag.text


def test_mirrored_real_scan_is_withheld(shared_data):
    scan, labels = real(shared_data)
    x = scan.geometry.axes.index("R")
    flipped = np.ascontiguousarray(np.flip(labels, x))
    voxels = np.ascontiguousarray(np.flip(scan.voxels, x))
    mirrored = Volume(voxels=voxels, geometry=scan.geometry, modality="CT")
    verdict = judge(measure(flipped, mirrored, ABDOMEN), mirrored, ABDOMEN)
    assert verdict.decision == "withhold"
    assert "Right and left are exchanged" in verdict.reasons[0]


@pytest.mark.parametrize(
    ("lost", "flag"), [(100, False), (1999, False), (2000, True), (9000, True)]
)
def test_much_that_was_removed_is_flagged(lost, flag):
    labels = np.zeros((20, 30, 40), dtype=np.uint8)
    labels[2:12, 5:25, 5:45] = VALUE["duodenum"]  # 7000 voxels: 56 mL
    grid = Geometry(shape=labels.shape, affine_lps=np.diag([2.0, 2, 2, 1]))
    scan = Volume(voxels=np.zeros(labels.shape, np.int16), geometry=grid, modality="CT")
    labels[2:12, 5:25, 39] = 0
    count = int((labels > 0).sum())
    removal = Removal(name="duodenum", apart_voxels=lost * count // 8000)
    rows = {o.label.name: o for o in measure(labels, scan, ABDOMEN, (removal,))}
    row = rows["duodenum"]
    assert row.removed_ml == pytest.approx(removal.voxels * 0.008)
    assert ([f.kind for f in row.flags] == [FlagKind.REMOVED]) is flag


def test_an_organ_that_was_removed_whole_is_flagged_though_not_found():
    labels = np.zeros((20, 30, 40), dtype=np.uint8)
    grid = Geometry(shape=labels.shape, affine_lps=np.diag([2.0, 2, 2, 1]))
    scan = Volume(voxels=np.zeros(labels.shape, np.int16), geometry=grid, modality="CT")
    removal = Removal(name="bladder", outside_body_voxels=1000)
    rows = {o.label.name: o for o in measure(labels, scan, ABDOMEN, (removal,))}
    assert rows["bladder"].presence is Presence.NOT_FOUND
    (flag,) = rows["bladder"].flags
    assert "8.0 of the 8.0 mL" in flag.text
