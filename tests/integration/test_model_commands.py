"""`viscera model import onnx | show | activate | rollback`, on real packages and engines."""

import hashlib
import shutil
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import band
from brought import BANDS, Viscera, brought, tree, write_scan
from phantoms import small_phantom
from viscera import models, volume
from viscera.config import load_settings
from viscera.errors import ModelRefused
from viscera.metrics import Metrics
from viscera.pipeline import Pipeline
from viscera.segment import tensorrt_start
from viscera.segment.driver import Gpu

REPO = Path(__file__).parents[2] / "model_repo"
SHIPPED = "abdomen15-phantom"


def test_an_onnx_file_is_imported_and_serves(viscera: Viscera, repo: Path, tmp_path: Path) -> None:
    network, manifest = brought(tmp_path)
    assert viscera("model", "import", "onnx", network, "--manifest", manifest)[0] == 0
    scan = small_phantom(7).volume
    write_scan(tmp_path / "scan.nii.gz", scan)
    status, _ = viscera(
        "segment", tmp_path / "scan.nii.gz", "--out", tmp_path / "out", "--model", "mine"
    )
    assert status == 0
    found = volume.read_volume(tmp_path / "out" / "labels.nii.gz", "CT")
    assert np.array_equal(found.voxels, band.expected_labels(scan.voxels))
    shown = viscera("model", "show", "mine")[1]
    assert 'name = "mine"' in shown
    assert "# mine/1" in shown
    assert sorted(p.name for p in repo.iterdir()) == ["mine"]


def test_half_precision_comes_with_a_package_that_bears_it(
    viscera: Viscera, repo: Path, tmp_path: Path
) -> None:
    network, manifest = brought(tmp_path)
    given = ("model", "import", "onnx", network, "--manifest", manifest)
    assert "in half precision too" in viscera(*given)[1]
    model = models.load_model(repo, "mine")
    assert model.half is not None
    assert hashlib.sha256(model.half.read_bytes()).hexdigest() == model.half_sha256
    typed = {w.name: w.data_type for w in onnx.load(model.half).graph.initializer}
    assert set(typed.values()) == {onnx.TensorProto.FLOAT16}
    gpu = Gpu(name="g", capability=(9, 0), cuda=13010, driver="580", memory_bytes=2**36)
    key = tensorrt_start.key_of("tensorrt", "11.4", model, 1, gpu)
    without = replace(model, half=None, half_sha256="")
    assert key != tensorrt_start.key_of("tensorrt", "11.4", without, 1, gpu)
    model.half.write_bytes(model.onnx.read_bytes())
    with pytest.raises(ModelRefused, match=r"model\.fp16\.onnx is not the file of the manifest"):
        models.load_model(repo, "mine")


def test_half_precision_is_left_out_where_it_answers_otherwise(
    viscera: Viscera, repo: Path, tmp_path: Path
) -> None:
    network, manifest = brought(tmp_path, version="2")
    graph = onnx.load(network)
    for weight in graph.graph.initializer:  # near 30000 half precision counts in steps of 16
        values = numpy_helper.to_array(weight)
        offset = 3e4 if weight.name == "offsets" else 0
        weight.CopyFrom(numpy_helper.from_array(values + np.float32(offset), weight.name))
    onnx.save(graph, network)
    status, said = viscera("model", "import", "onnx", network, "--manifest", manifest)
    assert (status, "half precision was left out" in said) == (0, True), said
    assert "half_left_out" in said  # it refers to the log, which is what the user sees here
    assert models.load_model(repo, "mine").half is None
    assert viscera("model", "check", "mine")[0] == 0


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"output": {"labels": ["liver"]}}, "was expected"),
        ({"tiles": {"patch_size": [8, 16]}}, "tiles.patch_size"),
        ({"name": "../mine"}, "a name is lower case"),
        ({"version": "1"}, "a version never changes"),
    ],
)
def test_a_bad_import_leaves_the_repository_as_it_was(
    viscera: Viscera, repo: Path, tmp_path: Path, changed: dict[str, object], says: str
) -> None:
    network, manifest = brought(tmp_path)
    assert viscera("model", "import", "onnx", network, "--manifest", manifest)[0] == 0
    before = tree(repo)
    network, manifest = brought(tmp_path, **{"version": "2", **changed})
    status, said = viscera("model", "import", "onnx", network, "--manifest", manifest)
    assert (status, says in said) == (2, True), said
    assert tree(repo) == before
    network.write_bytes(b"no network")
    assert viscera("model", "import", "onnx", network, "--manifest", manifest)[0] == 2
    assert tree(repo) == before
    assert [p.name for p in repo.iterdir()] == ["mine"]


def test_a_new_version_waits_until_it_is_activated(
    viscera: Viscera, repo: Path, tmp_path: Path
) -> None:
    for version in ("1", "2"):
        network, manifest = brought(tmp_path, version=version, output={"labels": list(BANDS)})
        assert viscera("model", "import", "onnx", network, "--manifest", manifest)[0] == 0
    assert models.load_model(repo, "mine").version == "1"
    settings = load_settings(None)
    with closing(Pipeline(settings, Metrics())) as worker:
        assert worker.serve("mine")[0].version == "1"
        status, said = viscera("model", "activate", "mine/2", "--unchecked")
        assert (status, said) == (0, "mine/2 serves as mine; it was not checked, as asked\n")
        assert "(active)" in viscera("model", "list")[1].splitlines()[1]
        assert worker.serve("mine")[0].version == "2"  # the same worker, its next job
        assert worker.serve("mine/1")[0].version == "1"
        assert viscera("model", "rollback", "mine")[1] == "mine/1 serves as mine again\n"
        assert worker.serve("mine")[0].version == "1"
    status, said = viscera("model", "rollback", "mine")
    assert (status, "was active before" in said) == (2, True)
    assert viscera("model", "activate", "mine/3", "--unchecked")[0] == 2


def test_a_model_with_left_and_right_exchanged_is_refused(
    viscera: Viscera, repo: Path, tmp_path: Path
) -> None:
    shutil.copytree(REPO / SHIPPED / "1", repo / SHIPPED / "1")
    shutil.copytree(REPO / SHIPPED / "1", repo / SHIPPED / "2")
    manifest = repo / SHIPPED / "2" / "manifest.toml"
    text = manifest.read_text().replace('version = "1"', 'version = "2"')
    manifest.write_text(text.replace('axes = "SPL"', 'axes = "SPR"'))
    scan = small_phantom(7).volume
    write_scan(tmp_path / "scan.nii.gz", scan)
    given = ("--volume", tmp_path / "scan.nii.gz")
    status, said = viscera("model", "activate", f"{SHIPPED}/1", *given)
    assert (status, "to the right of the spleen" in said) == (0, True), said
    status, said = viscera("model", "activate", f"{SHIPPED}/2", *given)
    assert (status, "its orientation is wrong" in said) == (2, True), said
    assert models.load_model(repo, SHIPPED).version == "1"
    write_scan(tmp_path / "scan.nii.gz", replace(scan, voxels=scan.voxels * 0 - 1000))
    status, said = viscera("model", "activate", f"{SHIPPED}/1", *given)
    assert (status, "finds no liver or no spleen" in said) == (2, True), said
