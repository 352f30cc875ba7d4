"""A network of two channels whose answer is plain arithmetic, and a study of two series for it."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import pydicom
from onnx import TensorProto, helper, numpy_helper

from phantoms import small_phantom
from viscera.cli import main
from viscera.models.write import dump_toml
from viscera.phantom import Phantom, write_series

LABEL = {
    "name": "brighter",
    "title": "Brighter",
    "category": {"value": "1", "scheme": "99TEST", "meaning": "Test"},
    "type": {"value": "2", "scheme": "99TEST", "meaning": "Brighter"},
    "rgb": [9, 9, 9],
}


def import_package(folder: Path) -> None:
    """Import `two`, which answers 1 where the second channel is the larger one."""
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
    onnx.save(network, folder / "net.onnx")
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
        "tiles": {"patch_size": [32, 48, 48]},
        "output": {"labels": [LABEL]},
    }
    (folder / "m.toml").write_text(dump_toml(manifest))
    given = [str(folder / "net.onnx"), "--manifest", str(folder / "m.toml")]
    assert main(["model", "import", "onnx", *given]) == 0


def phantoms() -> tuple[Phantom, Phantom]:
    """One patient before and after; both have places where they are brighter."""
    before = small_phantom(7)
    rng = np.random.default_rng(0)
    shifted = before.volume.voxels + rng.integers(-5, 6, before.volume.voxels.shape)
    after = replace(before, seed=8, volume=replace(before.volume, voxels=shifted.astype(np.int16)))
    return before, after


@dataclass(frozen=True)
class Study:
    """Two series on one grid."""

    series: dict[str, tuple[Path, ...]]
    series_uids: dict[str, str]
    brighter: int
    """Voxels of which `after` is larger."""


def write_study(folder: Path, **differing: str) -> Study:
    """Write both series into one study; `differing` attributes are of `after` alone."""
    before, after = phantoms()
    series, uids = {}, {}
    for name, phantom in (("before", before), ("after", after)):
        series[name] = write_series(phantom, folder / name)
        for path in series[name]:
            ds = pydicom.dcmread(path)
            ds.StudyInstanceUID, ds.FrameOfReferenceUID = "1.2.826.7", "1.2.826.8"
            ds.PatientID, ds.PatientName = "P", "P"
            ds.SeriesDescription = f"CT {name} contrast"
            if name == "after":
                for keyword, value in differing.items():
                    setattr(ds, keyword, value)
            ds.save_as(path)
            uids[name] = str(ds.SeriesInstanceUID)
    brighter = np.count_nonzero(after.volume.voxels > before.volume.voxels)
    return Study(series=series, series_uids=uids, brighter=brighter)
