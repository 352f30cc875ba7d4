"""`viscera evaluate` on files: what is matched, what is refused, what is written."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from viscera.cli import main
from viscera.domain.geometry import Geometry
from viscera.evaluate.read import LabelMap, onto

SPACING = (1.0, 1.5, 3.0)


def painted(seed: int, values=(1, 2, 6)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    labels = np.zeros((12, 30, 32), dtype=np.uint8)
    for value in values:
        z, y, x = rng.integers(1, 5), rng.integers(2, 14), rng.integers(2, 14)
        labels[z : z + 5, y : y + 12, x : x + 12] = value
    return labels


def save(path: Path, labels: np.ndarray, spacing=SPACING, origin=(5.0, -7.0, 100.0)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(labels)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    sitk.WriteImage(image, str(path))
    return path


def run(capsys, *arguments) -> tuple[int, str, str]:
    status = main(["evaluate", *map(str, arguments)])
    said = capsys.readouterr()
    return status, said.out, said.err


def sitk_dice(one: np.ndarray, other: np.ndarray, value: int) -> float:
    overlap = sitk.LabelOverlapMeasuresImageFilter()
    overlap.Execute(sitk.GetImageFromArray(one), sitk.GetImageFromArray(other))
    return overlap.GetDiceCoefficient(value)


def test_folders_are_matched_by_name_and_everything_is_written(tmp_path, capsys):
    ours, theirs = {}, {}
    for name in ("a", "b", "c"):
        ours[name], theirs[name] = painted(ord(name)), painted(ord(name) + 50, (1, 6))
        # As `viscera segment` writes a result, and as a reader keeps references.
        save(tmp_path / "pred" / name / "labels.nii.gz", ours[name])
        save(tmp_path / "ref" / f"{name}.mha", theirs[name])
    save(tmp_path / "pred" / "d" / "labels.nii.gz", ours["a"])
    save(tmp_path / "ref" / "e.nrrd", theirs["a"])
    (tmp_path / "ref" / "notes.txt").write_text("no label map")
    status, out, err = run(
        capsys, tmp_path / "pred", tmp_path / "ref",
        "--json", tmp_path / "e.json", "--picture", tmp_path / "e.png",
    )  # fmt: skip
    assert status == 0
    tree = json.loads((tmp_path / "e.json").read_text())
    assert set(tree["cases"]) == {"a", "b", "c"}
    organs = {one["organ"]: one for one in tree["organs"]}
    assert set(organs) == {"spleen", "liver"}
    for organ, value in (("spleen", 1), ("liver", 6)):
        expected = [sitk_dice(theirs[name], ours[name], value) for name in "abc"]
        found = [
            one["dice"] for name in "abc" for one in tree["cases"][name] if one["organ"] == organ
        ]
        assert found == pytest.approx(expected)
        dice = organs[organ]["dice"]
        assert dice["mean"] == pytest.approx(np.mean(expected))
        assert min(expected) - 1e-9 <= dice["low"] <= dice["mean"] <= dice["high"]
        assert dice["high"] <= max(expected) + 1e-9
        assert f"{np.mean(expected):.3f} (" in next(s for s in out.splitlines() if organ in s)
    assert "right kidney (3)" in out
    assert "References without a prediction: e." in out
    assert "Predictions without a reference: d." in out
    assert "not scored: right kidney, left kidney" in out
    assert "100%" in err
    with Image.open(tmp_path / "e.png") as picture:
        assert picture.size[1] > 100


def test_two_files_are_one_case_without_an_interval(tmp_path, capsys):
    one = save(tmp_path / "x.nii.gz", painted(1))
    other = save(tmp_path / "y.nrrd", painted(1))
    status, out, _ = run(capsys, one, other)
    assert status == 0
    assert "One case: there is no interval." in out
    assert [line.split()[-2:] for line in out.splitlines()[1:5]] == [["1.000", "1.000"]] * 4


def test_a_map_gives_values_their_names(tmp_path, capsys):
    ours = painted(3, (1, 2, 3))
    theirs = np.array([0, 60, 77, 77], dtype=np.uint8)[ours]
    (tmp_path / "map.toml").write_text(
        '[prediction]\n1 = "spleen"\n2 = "kidneys"\n3 = "kidneys"\n'
        '[reference]\n60 = "spleen"\n77 = "kidneys"\n'
    )
    arguments = (save(tmp_path / "a.mha", ours), save(tmp_path / "b.mha", theirs))
    status, out, _ = run(capsys, *arguments, "--labels", tmp_path / "map.toml")
    assert status == 0
    for organ in ("spleen", "kidneys"):
        line = next(one for one in out.splitlines() if one.startswith(organ))
        assert line.split()[1:] == ["1", "1.000", "1.000"]


def test_values_without_a_name_are_told(tmp_path, capsys):
    ours = save(tmp_path / "a.mha", painted(3, (1, 40, 41)))
    theirs = save(tmp_path / "b.mha", painted(3, (1, 6, 41)))
    (tmp_path / "map.toml").write_text('1 = "spleen"\n6 = "liver"\n')
    arguments = ("--labels", tmp_path / "map.toml", "--json", tmp_path / "e.json")
    status, out, _ = run(capsys, ours, theirs, *arguments)
    assert status == 0
    assert "Predicted without a name that the references know: value 40 (1), value 41 (1)." in out
    assert "In references without a name that the predictions know: value 41 (1)." in out
    tree = json.loads((tmp_path / "e.json").read_text())
    assert tree["unnamed_predicted"] == {"value 40": 1, "value 41": 1}


def test_a_prediction_of_which_nothing_has_a_name_is_refused(tmp_path, capsys):
    ours = save(tmp_path / "a.mha", painted(3, (51, 52)))
    theirs = save(tmp_path / "b.mha", painted(3, (1, 6)))
    status, _, err = run(capsys, ours, theirs)
    assert status == 2
    assert "of what was predicted nothing has a name" in err
    assert "value 51, value 52" in err


def test_nothing_to_score_is_status_one(tmp_path, capsys):
    empty = save(tmp_path / "a.mha", np.zeros((4, 5, 6), np.uint8))
    status, out, _ = run(capsys, empty, empty, "--picture", tmp_path / "p.png")
    assert status == 1
    assert "not scored: spleen" in out
    assert (tmp_path / "p.png").exists()


@pytest.mark.parametrize(
    ("spacing", "origin", "shape"),
    [
        ((1.0, 1.5, 3.1), (5, -7, 100), (12, 30, 32)),
        (SPACING, (5, -7, 100.5), (12, 30, 32)),
        (SPACING, (5, -7, 103), (12, 30, 32)),  # a slice up
        (SPACING, (5, -7, 100), (11, 30, 32)),
    ],
)
def test_another_grid_is_refused(tmp_path, capsys, spacing, origin, shape):
    theirs = save(tmp_path / "r.nii.gz", painted(1))
    ours = painted(1)[: shape[0]]
    status, _, err = run(capsys, save(tmp_path / "p.nii.gz", ours, spacing, origin), theirs)
    assert status == 2
    assert "viscera: GeometryMismatch: case r: the grids differ: prediction" in err


@pytest.mark.parametrize("axes", ["RAS", "PIR", "ASL"])
def test_one_grid_in_another_order_of_axes_is_one_grid(tmp_path, capsys, axes):
    labels = painted(4)
    theirs = save(tmp_path / "r.nii.gz", labels)
    turned = sitk.DICOMOrient(sitk.ReadImage(str(theirs)), axes)
    sitk.WriteImage(turned, str(tmp_path / "p.nii.gz"))
    assert turned.GetSize() != (12, 30, 32)
    status, out, _ = run(capsys, tmp_path / "p.nii.gz", theirs)
    assert status == 0
    assert "mean of organs      1  1.000" in out


def test_grids_whose_corners_agree_by_chance_differ():
    """Five voxels of 1.25 mm and six of 1 mm have their ends in common."""
    maps = []
    for count, step in ((5, 1.25), (6, 1.0)):
        affine = np.diag([step, 1.0, 1.0, 1.0])
        labels = np.zeros((count, 4, 4), dtype=np.uint8)
        grid = Geometry(shape=labels.shape, affine_lps=affine)
        maps.append(LabelMap(labels=labels, geometry=grid, names={}))
    with pytest.raises(Exception, match="the grids differ"):
        onto(maps[0], maps[1])


def test_bad_arguments_are_one_line(tmp_path, capsys):
    good = save(tmp_path / "a.mha", painted(1))
    (tmp_path / "folder").mkdir()
    image = sitk.GetImageFromArray(np.full((3, 4, 5), 0.5, np.float32))
    sitk.WriteImage(image, str(tmp_path / "float.mha"))
    (tmp_path / "bad.toml").write_text("spleen = 1")
    (tmp_path / "other.toml").write_text('[both]\n1 = "liver"')
    (tmp_path / "apart.toml").write_text('[prediction]\n1 = "x"')
    (tmp_path / "seg.dcm").write_text("no SEG")
    for arguments, says in (
        ((good, tmp_path / "gone"), "does not exist"),
        ((good, tmp_path / "folder"), "two files or two folders"),
        ((tmp_path / "folder", tmp_path / "folder"), "no label map in"),
        ((tmp_path / "float.mha", good), "is no label map"),
        ((tmp_path / "seg.dcm", good), "cannot be read as a DICOM-SEG"),
        ((good, good, "--labels", tmp_path / "bad.toml"), "should be a value from 1 to 255"),
        ((good, good, "--labels", tmp_path / "other.toml"), "neither [prediction]"),
        ((good, good, "--labels", tmp_path / "apart.toml"), "no name in common"),
        ((good, good, "--labels", tmp_path / "gone.toml"), "cannot be read as TOML"),
    ):
        status, _, err = run(capsys, *arguments)
        assert status == 2
        assert says in err.splitlines()[-1], arguments
    with pytest.raises(SystemExit):
        main(["evaluate", str(good), str(good), "--tolerance", "0"])


def test_without_the_extra_one_line_says_what_to_install(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "surface_distance", None)
    good = save(tmp_path / "a.mha", painted(1))
    status, _, err = run(capsys, good, good)
    assert status == 2
    assert err.splitlines() == [
        "viscera: InvalidRequest: the metrics are not installed; install them with: "
        "pip install 'viscera[evaluate]'"
    ]
