"""The picture's orientation and proportions, and the numbers for programs."""

import json

import numpy as np
import pytest
from encode_stacks import context, model
from PIL import Image

from viscera.domain.geometry import Geometry
from viscera.domain.organs import AMOS
from viscera.domain.results import Decision, ResultKind, Verdict
from viscera.domain.volumes import Volume
from viscera.encode import write_qc, write_results, write_volumes_json
from viscera.encode.planes import chosen_planes
from viscera.measure import measure

DELIVER = Verdict(Decision.DELIVER)
STEPS_LPS = {"S": (2, 1), "I": (2, -1), "L": (0, 1), "R": (0, -1), "P": (1, 1), "A": (1, -1)}


def scan(axes: str, spacing=(4.0, 1.5, 1.0), shape=(12, 30, 40), modality="CT") -> Volume:
    """Return an empty volume whose indices grow towards `axes`."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for index, letter in enumerate(axes):
        world, sign = STEPS_LPS[letter]
        affine[world, index] = sign * spacing[index]
    return Volume(
        voxels=np.zeros(shape, dtype=np.int16),
        geometry=Geometry(shape=shape, affine_lps=affine),
        modality=modality,
    )


def marked(volume: Volume) -> np.ndarray:
    """Return labels with the liver right, front and up, the spleen left, back and down of it."""
    corners = np.array([[0, 0, 0], np.array(volume.geometry.shape) - 1])
    low, high = np.sort(volume.geometry.to_lps(corners), axis=0)
    index = np.indices(volume.geometry.shape).reshape(3, -1).T
    share = ((volume.geometry.to_lps(index) - low) / (high - low)).reshape(*volume.voxels.shape, 3)
    x, y, z = np.moveaxis(share, -1, 0)
    labels = np.zeros(volume.voxels.shape, dtype=np.uint8)
    labels[(x < 0.3) & (y < 0.5) & (z > 0.3)] = 6
    labels[(x > 0.7) & (y > 0.4) & (z < 0.7)] = 1
    return labels


@pytest.mark.parametrize("axes", ["SPL", "IAR", "SAL", "PSL", "LIA", "RPS"])
def test_right_is_left_and_head_is_up(axes):
    volume = scan(axes)
    axial, coronal = chosen_planes(marked(volume), volume)
    for plane in (axial, coronal):
        liver, spleen = (np.argwhere(plane.labels == v).mean(axis=0) for v in (6, 1))
        assert liver[1] < spleen[1]  # the patient's right is on the left
        assert liver[0] < spleen[0]  # front (axial) and head (coronal) are up
        assert plane.letters[1::2] == ("L", "R")
    across = ["LR".find(a) >= 0 for a in axes].index(True)
    assert axial.pixel_mm[1] == volume.geometry.spacing_mm[across]
    assert (axial.letters, coronal.letters) == (("A", "L", "P", "R"), ("H", "L", "F", "R"))


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_picture_shows_organs_in_their_colours_at_true_proportions(modality, tmp_path):
    volume = scan("SPL", modality=modality)
    labels = marked(volume)
    rows = measure(labels, volume, model())
    write_qc(tmp_path / "qc.png", labels, volume, rows, DELIVER, context())
    image = np.asarray(Image.open(tmp_path / "qc.png")).astype(int)
    # Fully opaque outlines carry the organ's very colour.
    left = image[:, :660]
    liver = np.argwhere((left == AMOS[5].rgb).all(axis=2))
    spleen = np.argwhere((left == AMOS[0].rgb).all(axis=2))
    assert liver[:, 1].max() < spleen[:, 1].min()
    assert liver[:, 0].mean() < spleen[:, 0].mean()
    # 12 of 40 columns of 1 mm and 15 of 30 rows of 1.5 mm, as drawn.
    high, wide = np.ptp(liver, axis=0) + 1
    assert high / wide == pytest.approx(15 * 1.5 / 12, rel=0.03)


def test_picture_holds_no_text_chunks(tmp_path):
    volume = scan("SPL")
    write_qc(tmp_path / "q.png", marked(volume), volume, (), DELIVER, context())
    with Image.open(tmp_path / "q.png") as picture:
        assert picture.info == {}


def test_empty_label_map_and_long_reasons_draw(tmp_path):
    volume = scan("SPL")
    labels = np.zeros(volume.voxels.shape, np.uint8)
    sizes = []
    for reasons in ((), ("a long reason " * 40,)):
        verdict = Verdict(Decision.WITHHOLD, reasons)
        rows = measure(labels, volume, model())
        write_qc(tmp_path / "q.png", labels, volume, rows, verdict, context())
        with Image.open(tmp_path / "q.png") as picture:
            sizes.append(picture.size[1])
    assert sizes[1] > sizes[0]


def test_volumes_json_says_everything(tmp_path):
    volume = scan("SPL")
    labels = marked(volume)
    rows = measure(labels, volume, model(AMOS[:14], not_segmented=AMOS[14:]))
    verdict = Verdict(Decision.FLAG, ("Because.",))
    path = tmp_path / "v.json"
    write_volumes_json(path, rows, verdict, volume.geometry, "CT", context())
    tree = json.loads(path.read_text())
    assert tree["schema_version"] == 1
    assert tree["model"] == {
        "name": "organs", "version": "3", "sha256": "ab" * 32, "grade": "research",
    }  # fmt: skip
    assert (tree["job_id"], tree["engine"]) == ("job-1", "onnx-cpu")
    assert tree["spacing_mm"] == [4.0, 1.5, 1.0]
    assert tree["verdict"] == {"decision": "flag", "reasons": ["Because."]}
    assert tree["warning"] == "NOT FOR CLINICAL USE"
    organs = {one["name"]: one for one in tree["organs"]}
    assert len(organs) == 15
    liver = organs["liver"]
    assert liver["voxels"] == np.count_nonzero(labels == 6)
    assert liver["volume_ml"] == pytest.approx(liver["voxels"] * 0.006, abs=1e-4)
    assert liver["presence"] == "found_truncated"
    assert organs["prostate/uterus"]["presence"] == "not_segmented"
    assert organs["aorta"]["mean_intensity"] is None
    assert organs["left kidney"]["laterality"]["meaning"] == "Left"


def test_volume_without_dicom_gets_picture_and_numbers_only(tmp_path):
    volume = scan("LPS")
    labels = marked(volume)
    files = write_results(
        labels=labels, volume=volume, stack=None, measurements=measure(labels, volume, model()),
        verdict=DELIVER, context=context(), folder=tmp_path, root=tmp_path,
    )  # fmt: skip
    assert [one.kind for one in files] == [ResultKind.QC, ResultKind.VOLUMES]
    for one in files:
        assert (tmp_path / one.path).stat().st_size == one.size_bytes
