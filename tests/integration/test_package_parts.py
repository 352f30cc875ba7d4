"""A package of several networks is one model to everything: judged by arithmetic on HU."""

import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from phantoms import small_phantom
from thresholds import thresholds_logits, thresholds_onnx
from viscera import labelling, models, segment, volume
from viscera.cli import main
from viscera.config import load_settings
from viscera.domain.models import Model
from viscera.errors import ModelRefused
from viscera.importing import RecordedEngine
from viscera.metrics import Metrics
from viscera.models.write import dump_toml
from viscera.pipeline import Pipeline, fed_fast
from viscera.segment import golden

BORDERS = {
    "soft": (-20.5, 20.5, 60.5),
    "bright": (40.5, 90.5, 200.5),
    "fat": (-140.5, -60.5),
}
LABELS = ["liver", "spleen", "aorta", "pancreas"]
OUTPUTS = {"soft": [0, 1, 2, 0], "bright": [0, 3, 0, 2], "fat": [0, 4, 0]}
"""`bright` claims what `soft` found above 40 HU, reported or not; `fat` everything above -140."""


def manifest(**changed: Any) -> dict[str, Any]:
    return {
        "format": 3,
        **{"name": "parted", "version": "1", "grade": "research"},
        **dict.fromkeys(("licence", "intended_use", "training_data", "accuracy"), "tests"),
        "input": {
            "modalities": ["CT"],
            "axes": "SPL",
            "normalisation": {"CT": {"scheme": "none"}},
        },
        "tiles": {"patch_size": [16, 32, 32]},
        "output": {"labels": LABELS, "not_segmented": ["bladder"]},
        "parts": [
            {"name": "fat", "output": {"outputs": OUTPUTS["fat"]}},
            {"name": "soft", "output": {"outputs": OUTPUTS["soft"]}},
            {
                "name": "bright",
                "output": {"outputs": OUTPUTS["bright"]},
                "input": {
                    "modalities": ["CT"],
                    "axes": "SPL",
                    "crop": "nonzero",
                    "normalisation": {
                        "CT": {"scheme": "ct", "lower": -500, "upper": 500, "mean": 0.0, "sd": 1.0}
                    },
                },
                "tiles": {"patch_size": [8, 40, 24], "step": 0.8, "mirror_axes": [2]},
            },
        ],
        **changed,
    }


def write(repo: Path, **changed: Any) -> Model:
    tables = manifest(**changed)
    names = [part["name"] for part in tables["parts"]]

    def make_golden(network: Model) -> Any:
        shape = (1, 1, *network.patch_size)
        tile = np.random.default_rng(1).standard_normal(shape, np.float32)
        return golden.make(
            RecordedEngine(thresholds_logits(BORDERS[network.part], tile)), network, 1
        )

    return models.write_package(
        repo / "parted" / tables["version"],
        tables,
        onnx=[thresholds_onnx(BORDERS[name]) for name in names],
        make_golden=make_golden,
        card="# parted\n",
    )


def expected(hu: np.ndarray, order: tuple[str, ...] = ("fat", "soft", "bright")) -> np.ndarray:
    """What the parts say, voxel by voxel; the last one that says anything has it."""
    labels = np.zeros(hu.shape, np.uint8)
    for name in order:
        output = np.digitize(hu, BORDERS[name])
        labels = np.where(output > 0, np.array(OUTPUTS[name], np.uint8)[output], labels)
    return labels


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VISCERA_MODELS__REPO", str(tmp_path / "repo"))
    write(tmp_path / "repo")
    return tmp_path / "repo"


def test_where_two_parts_claim_a_voxel_the_later_one_has_it(repo: Path, tmp_path: Path) -> None:
    scan = small_phantom(7).volume
    right = expected(scan.voxels)
    assert len(np.unique(right)) == len(LABELS) + 1
    assert not np.array_equal(right, expected(scan.voxels, ("bright", "soft", "fat")))
    with closing(Pipeline(load_settings(None), Metrics())) as pipeline:
        stages: list[tuple[str, float]] = []
        model, found = pipeline.segment(
            [scan], "parted", lambda stage, done, engine: stages.append((stage, done))
        )
        again = write(repo, version="2", parts=manifest()["parts"][::-1])
        reversed_labels = pipeline.segment([scan], again.full_name, lambda *_: None)[1].labels
    assert np.array_equal(found.labels, right)
    assert np.array_equal(reversed_labels, expected(scan.voxels, ("bright", "soft", "fat")))
    assert [part.part for part in model.networks] == ["fat", "soft", "bright"]
    done = [share for stage, share in stages if stage == "segment"]
    assert done == sorted(done)
    assert done[-1] == 1.0
    names = {one.label.name: one.presence for one in found.measurements}
    assert list(names) == [*LABELS, "bladder"]
    assert names["bladder"] == "not_segmented"


def test_parts_that_are_fed_alike_are_prepared_for_once(
    repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = []
    prepare = volume.prepare

    def counted(channels: Any, model: Model, stream: Any = None) -> Any:
        prepared.append(model.part)
        return prepare(channels, model, stream)

    monkeypatch.setattr(labelling.volume, "prepare", counted)
    metrics = Metrics()
    with closing(Pipeline(load_settings(None), metrics)) as pipeline:
        pipeline.segment([small_phantom(7).volume], "parted", lambda *_: None)
    assert prepared == ["fat", "bright"]
    seen = {"stage": "prepare", "engine": ""}
    assert metrics.registry.get_sample_value("viscera_stage_seconds_count", seen) == 2


def test_commands_go_part_by_part(
    repo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["model", "check", "parted"]) == 0
    assert "digests and golden tiles of 3 parts agree on" in capsys.readouterr().out
    assert main(["model", "show", "parted"]) == 0
    assert capsys.readouterr().out.count("[[parts]]") == 3
    network = repo / "parted" / "1" / "soft.onnx"
    good = network.read_bytes()
    network.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert main(["model", "check", "parted"]) == 1
    assert "soft.onnx is not the file of the manifest" in capsys.readouterr().out
    network.write_bytes(good)
    wrong = manifest(version="3")
    wrong["parts"][1]["output"]["outputs"] = [0, 1, 2, 0, 0]
    with pytest.raises(ModelRefused, match="answered"):
        write(repo, **wrong)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda m: m.update(format=2), "format must be 3 for parts"),
        (lambda m: m["parts"].pop(), "must name each label"),
        (lambda m: m.update(parts=m["parts"][:1]), "at least two"),
        (lambda m: m["parts"][0].update(name="soft"), "none named twice"),
        (lambda m: m["parts"][0]["output"].update(outputs=[1, 0]), "must begin with 0"),
        (lambda m: m["output"].update(outputs=[0, 1, 2, 3, 4]), "each part's own"),
        (lambda m: m["parts"][2]["input"].update(axes="SPR"), "must have the package's"),
        (lambda m: m["files"].pop("fat.onnx"), "files must list fat.onnx"),
    ],
)
def test_a_wrong_manifest_is_refused_by_words(change: Any, says: str) -> None:
    from viscera.models.manifest import parse_manifest

    tables = manifest()
    names = [f"{name}{end}" for name in BORDERS for end in (".onnx", "-golden.npz")]
    tables["files"] = dict.fromkeys(names, "0" * 64)
    parse_manifest(dump_toml(tables), "parted/1")
    change(tables)
    with pytest.raises(ModelRefused, match=says):
        parse_manifest(dump_toml(tables), "parted/1")


def test_memory_is_asked_for_each_part(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(
        labelling.segment, "require_memory", lambda model, *_: asked.append(model.part)
    )
    with closing(Pipeline(load_settings(None), Metrics())) as pipeline:
        pipeline.segment([small_phantom(7).volume], "parted", lambda *_: None)
    assert asked == ["fat", "soft", "bright"]
    part = models.load_model(repo, "parted").parts[0]
    whole = segment.memory.job_needs(part, RecordedEngine(np.zeros(1)), (64, 64, 64), (64, 64, 64))
    alone = segment.memory.job_needs(
        models.load_model(repo, "parted"), RecordedEngine(np.zeros(1)), (64,) * 3, (64,) * 3
    )
    assert whole.host > alone.host  # the map that it is merged into


def test_results_say_what_the_parts_lack(repo: Path, tmp_path: Path) -> None:
    from viscera.phantom import write_series

    write_series(small_phantom(7), tmp_path / "series")
    out = tmp_path / "out"
    arguments = [str(tmp_path / "series"), "--out", str(out), "--model", "parted"]
    assert main(["segment", *arguments]) == 0
    told = json.loads((out / "volumes.json").read_text())
    presence = {organ["name"]: organ["presence"] for organ in told["organs"]}
    assert presence["bladder"] == "not_segmented"
    assert set(presence) == {*LABELS, "bladder"}
    report = (out / "report.dcm").read_bytes()
    assert report.count(b"Not looked for: the model does not know it.") == 1


def test_activation_looks_at_what_the_parts_say_together(
    repo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan = small_phantom(7).volume
    image = sitk.GetImageFromArray(scan.voxels)
    image.SetSpacing(scan.geometry.spacing_mm[::-1])
    sitk.WriteImage(image, str(tmp_path / "scan.nii.gz"))
    labels = expected(scan.voxels)
    left = [np.argwhere(labels == value)[:, 2].mean() for value in (1, 2)]  # x grows leftwards
    gap_mm = abs(left[0] - left[1]) * scan.geometry.spacing_mm[2]
    status = main(["model", "activate", "parted/1", "--volume", str(tmp_path / "scan.nii.gz")])
    said = capsys.readouterr()
    assert status == (0 if left[0] < left[1] else 2)
    assert f"{gap_mm:.0f} mm to the" in said.out + said.err


def test_the_fast_profile_reaches_every_part(repo: Path) -> None:
    model = fed_fast(models.load_model(repo, "parted"))
    assert [part.skip_air for part in model.networks] == [True] * 3
    cubic = replace(model, parts=tuple(replace(part, image_order=3) for part in model.parts))
    assert [part.image_order for part in fed_fast(cubic).networks] == [1] * 3
