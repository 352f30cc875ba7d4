"""What a manifest's policy takes away from a label map, and what it leaves alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from viscera.domain.geometry import Geometry
from viscera.domain.models import (
    Grade,
    Model,
    Normalisation,
    NormalisationScheme,
    PostprocessPolicy,
)
from viscera.domain.organs import AMOS
from viscera.domain.results import Removal
from viscera.domain.volumes import Volume
from viscera.errors import GeometryMismatch
from viscera.postprocess import postprocess
from viscera.postprocess.body import find_body
from viscera.volume.files import read_volume

VALUE = {label.name: label.value for label in AMOS}
SHAPE, SPACING = (24, 64, 80), (5.0, 5.0, 5.0)
AXES = {
    "SPL": [[0, 0, 5, -200], [0, 5, 0, -160], [5, 0, 0, 0], [0, 0, 0, 1]],
    "IAR": [[0, 0, -5, 195], [0, -5, 0, 155], [-5, 0, 0, 115], [0, 0, 0, 1]],
}


def model(policy: PostprocessPolicy | None) -> Model:
    here = Path()
    return Model(
        name="m", version="1", grade=Grade.RESEARCH, digest="0" * 64, folder=here, onnx=here,
        onnx_sha256="", golden=here, labels=AMOS, modalities=("CT",), axes="SPL", spacing_mm=None,
        patch_size=(1, 1, 1),
        normalisation={"CT": (Normalisation(scheme=NormalisationScheme.NONE),)},
        postprocess=policy,
    )  # fmt: skip


def torso(axes: str = "SPL", modality: str = "CT") -> Volume:
    """Return a body with a lung and a hollow table right under it, indexed as SPL on `axes`."""
    voxels = np.full(SHAPE, -1000, dtype=np.int16)
    voxels[:, 8:44, 10:70] = 40
    voxels[16:, 14:36, 20:38] = -850  # the lung: open to the top slice, closed to the sides
    voxels[:, 44:54, 5:75] = 60  # touches the back
    voxels[:, 45:53, 6:74] = -900
    if axes == "IAR":
        voxels = voxels[::-1, ::-1, ::-1]
    geometry = Geometry(shape=SHAPE, affine_lps=np.array(AXES[axes], dtype=float))
    assert geometry.axes == axes
    return Volume(voxels=np.ascontiguousarray(voxels), geometry=geometry, modality=modality)


def on(axes: str, painted: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(painted[::-1, ::-1, ::-1] if axes == "IAR" else painted)


def test_without_policy_nothing_changes():
    labels = np.random.default_rng(1).integers(0, 16, SHAPE).astype(np.uint8)
    before = labels.copy()
    assert postprocess(labels, torso(), model(None)) == ()
    # All rules off is the same as no table.
    assert postprocess(labels, torso(), model(PostprocessPolicy())) == ()
    assert (labels == before).all()


def test_other_grid_is_refused():
    with pytest.raises(GeometryMismatch):
        postprocess(np.zeros((2, 3, 4), np.uint8), torso(), model(PostprocessPolicy()))


@pytest.mark.parametrize("axes", AXES)
def test_organ_on_the_table_goes_and_gas_in_the_body_stays(axes):
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[4:12, 46:52, 20:60] = VALUE["liver"]  # in the table: the larger one
    labels[4:10, 12:30, 14:30] = VALUE["liver"]
    labels[17:21, 18:28, 22:34] = VALUE["stomach"]  # all air, within the body
    labels[2:4, 0:5, 2:9] = VALUE["bladder"]  # in the room: nothing else of it
    painted = on(axes, labels)
    policy = PostprocessPolicy(inside_body=True, max_pieces=1)
    removed = postprocess(painted, torso(axes), model(policy))
    kept = labels.copy()
    kept[4:12, 46:52, 20:60] = 0
    kept[2:4, 0:5, 2:9] = 0
    assert (painted == on(axes, kept)).all()
    assert removed == (
        Removal(name="liver", outside_body_voxels=8 * 6 * 40),
        Removal(name="bladder", outside_body_voxels=2 * 5 * 7),
    )


def test_body_is_not_asked_for_in_mr():
    assert find_body(torso(modality="MR")) is None
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[4:12, 46:52, 20:60] = VALUE["liver"]
    policy = PostprocessPolicy(inside_body=True)
    assert postprocess(labels, torso(modality="MR"), model(policy)) == ()


def test_scan_without_a_body_judges_nothing():
    air = replace(torso(), voxels=np.full(SHAPE, -1000, dtype=np.int16))
    assert find_body(air) is None


def test_real_body_holds_its_organs_and_not_the_table(shared_data):
    scan = read_volume(shared_data / "volumes" / "example_ct.nii.gz", "CT")
    body = find_body(scan)
    assert body is not None
    assert body.steps == (1, 1, 1)
    labels = sitk.GetArrayFromImage(
        sitk.ReadImage(shared_data / "volumes" / "example_ct_AMOS15_labels.nii.gz")
    )
    assert body.inside[labels > 0].mean() > 0.99
    # Rows grow to the front here: the table lies in the first ones, some 2 % of its shell above
    # the threshold of tissue.
    assert scan.geometry.axes == "SAR"
    assert (scan.voxels[:, :3] > -250).any()
    assert not body.inside[80:, :3].any()


@pytest.mark.parametrize(
    ("policy", "stays"),
    [
        (PostprocessPolicy(max_pieces=1), ["a"]),
        (PostprocessPolicy(max_pieces=2), ["a", "b"]),
        (PostprocessPolicy(max_pieces=1, max_pieces_of={"aorta": 2}), ["a", "b"]),
        (PostprocessPolicy(max_pieces=2, max_pieces_of={"aorta": 0}), ["a", "b", "c"]),
        (PostprocessPolicy(min_share=0.4), ["a", "b"]),
        (PostprocessPolicy(min_share=0.6), ["a"]),
        (PostprocessPolicy(min_share=0.1), ["a", "b", "c"]),
        (PostprocessPolicy(min_ml=26.0), ["a"]),
        (PostprocessPolicy(min_ml=1e6), []),
    ],
)
def test_number_and_share_of_pieces(policy, stays):
    boxes = {
        "a": np.s_[2:6, 10:20, 20:30],  # 400 voxels
        "b": np.s_[10:12, 10:20, 20:30],  # 200
        "c": np.s_[16:17, 10:14, 20:30],  # 40
    }
    labels = np.zeros(SHAPE, dtype=np.uint8)
    kept = labels.copy()
    for name, box in boxes.items():
        labels[box] = VALUE["aorta"]
        if name in stays:
            kept[box] = VALUE["aorta"]
    lost = int((labels > 0).sum() - (kept > 0).sum())
    removed = postprocess(labels, torso(), model(policy))
    assert (labels == kept).all()
    assert sum(one.apart_voxels for one in removed) == lost


def sided(axes: str, *, reversed_liver: bool = False, right_side: int = 4) -> np.ndarray:
    """Paint vessels in the middle, and two pieces of the right kidney: the larger one left."""
    labels = np.zeros(SHAPE, dtype=np.uint8)
    # Columns grow to the patient's left in SPL.
    labels[2:22, 30:33, 41:44] = VALUE["aorta"]
    labels[2:22, 30:33, 36:39] = VALUE["postcava"]
    liver, spleen = (np.s_[12:20, 14:28, 16:32], np.s_[12:20, 14:28, 52:60])
    labels[spleen if reversed_liver else liver] = VALUE["liver"]
    labels[liver if reversed_liver else spleen] = VALUE["spleen"]
    labels[4:10, 32:40, 50:60] = VALUE["right kidney"]
    labels[4 : 4 + right_side, 32:40, 20:30] = VALUE["right kidney"]
    return on(axes, labels)


@pytest.mark.parametrize("axes", AXES)
def test_piece_on_the_wrong_side_gives_way(axes):
    labels = sided(axes)
    policy = PostprocessPolicy(sides=True, min_share=0.2, max_pieces=1)
    removed = postprocess(labels, torso(axes), model(policy))
    assert removed == (Removal(name="right kidney", wrong_side_voxels=6 * 8 * 10),)
    left = on(axes, np.ones(SHAPE, dtype=np.uint8)) * (labels == VALUE["right kidney"])
    columns = np.argwhere(left)[:, 2]
    assert set(columns) == set(range(20, 30) if axes == "SPL" else range(50, 60))


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        (sided("SPL", reversed_liver=True), "right and left are in doubt"),
        (sided("SPL", right_side=1), "the piece on the right side is a speck"),
        (sided("SPL") * (sided("SPL") != VALUE["postcava"]), "no midline"),
    ],
)
def test_sides_are_left_alone_in_doubt(labels, why):
    kidney = labels == VALUE["right kidney"]
    policy = PostprocessPolicy(sides=True, min_share=0.2)
    postprocess(labels, torso(), model(policy))
    assert (labels[4:10, 32:40, 50:60] == VALUE["right kidney"]).all(), why
    assert kidney.sum() - (labels == VALUE["right kidney"]).sum() in (0, 80)


def test_no_label_is_changed_into_another():
    rng = np.random.default_rng(3)
    labels = (rng.integers(0, 16, SHAPE) * (rng.random(SHAPE) < 0.3)).astype(np.uint8)
    before = labels.copy()
    policy = PostprocessPolicy(inside_body=True, sides=True, max_pieces=1, min_share=0.1)
    removed = postprocess(labels, torso(), model(policy))
    changed = labels != before
    assert changed.any()
    assert not labels[changed].any()
    lost = {one.name: one.voxels for one in removed}
    for label in AMOS:
        count = int(((before == label.value) & changed).sum())
        assert lost.get(label.name, 0) == count
