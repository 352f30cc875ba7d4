"""A network of two channels takes two series: as files, as DICOM, and never one for both."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import SimpleITK as sitk
from onnx import TensorProto, helper, numpy_helper

from phantoms import small_phantom
from viscera import volume
from viscera.cli import main
from viscera.models.write import dump_toml
from viscera.phantom import write_series

LABEL = {
    "name": "brighter",
    "title": "Brighter",
    "category": {"value": "1", "scheme": "99TEST", "meaning": "Test"},
    "type": {"value": "2", "scheme": "99TEST", "meaning": "Brighter"},
    "rgb": [9, 9, 9],
}


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that answers 1 where the second channel is the larger one."""
    weights = np.eye(2, dtype=np.float32).reshape(2, 2, 1, 1, 1)
    shape = ["tile", 2, "z", "y", "x"]
    graph = helper.make_graph(
        [helper.make_node("Conv", ["image", "weights"], ["logits"], kernel_shape=[1] * 3)],
        "larger",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(weights, "weights")],
    )
    network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(network, tmp_path / "net.onnx")
    manifest = {
        "format": 2,
        **{"name": "two", "version": "1", "grade": "research"},
        **dict.fromkeys(("licence", "intended_use", "training_data", "accuracy"), "tests"),
        "input": {
            "modalities": ["CT"],
            "channels": ["before", "after"],
            "axes": "SPL",
            "normalisation": {"CT": {"scheme": "none"}},
        },
        "tiles": {"patch_size": [8, 16, 16]},
        "output": {"labels": [LABEL]},
    }
    (tmp_path / "m.toml").write_text(dump_toml(manifest))
    monkeypatch.setenv("VISCERA_MODELS__REPO", str(tmp_path / "repo"))
    given = [str(tmp_path / "net.onnx"), "--manifest", str(tmp_path / "m.toml")]
    assert main(["model", "import", "onnx", *given]) == 0
    return tmp_path / "repo"


@pytest.mark.usefixtures("repo")
def test_two_series_are_two_channels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = small_phantom(7)
    rng = np.random.default_rng(0)
    shifted = before.volume.voxels + rng.integers(-5, 6, before.volume.voxels.shape)
    after = replace(before, seed=8, volume=replace(before.volume, voxels=shifted.astype(np.int16)))
    expected = after.volume.voxels > before.volume.voxels
    folders = [tmp_path / "before", tmp_path / "after"]
    files = [tmp_path / "before.nii.gz", tmp_path / "after.nii.gz"]
    for phantom, folder, file in zip((before, after), folders, files, strict=True):
        write_series(phantom, folder)
        image = sitk.GetImageFromArray(phantom.volume.voxels)
        image.SetSpacing(phantom.volume.geometry.spacing_mm[::-1])
        sitk.WriteImage(image, str(file))

    def segment(out: str, *inputs: Path) -> int:
        arguments = [*map(str, inputs), "--out", str(tmp_path / out), "--model", "two"]
        return main(["segment", *arguments])

    assert segment("files", *files) == 0
    labels = volume.read_volume(tmp_path / "files" / "labels.nii.gz", "CT").voxels
    assert np.array_equal(labels, expected)
    assert segment("dicom", *folders) == 0
    found = json.loads((tmp_path / "dicom" / "volumes.json").read_text())
    (organ,) = [one for one in found["organs"] if one["name"] == "brighter"]
    assert organ["voxels"] == np.count_nonzero(expected)
    capsys.readouterr()
    assert segment("one", folders[0]) == 1
    assert "takes 2 series at once (before, after)" in capsys.readouterr().out
    assert segment("swapped", *folders[::-1]) == 0
    found = json.loads((tmp_path / "swapped" / "volumes.json").read_text())
    (organ,) = [one for one in found["organs"] if one["name"] == "brighter"]
    assert organ["voxels"] == np.count_nonzero(before.volume.voxels > after.volume.voxels)
