"""Packages: what loads, what is refused, and by which words."""

import hashlib
import tomllib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import band
from viscera import models
from viscera.domain.models import Grade, NormalisationScheme, Order, PostprocessPolicy
from viscera.domain.organs import AMOS
from viscera.errors import ModelNotFound, ModelRefused
from viscera.models.manifest import parse_manifest
from viscera.models.write import dump_toml


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    band.write_band_package(tmp_path, patch=(4, 6, 8))
    return tmp_path


def rewrite(repo: Path, old: str, new: str) -> None:
    path = repo / "band" / "1" / "manifest.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_manifest_becomes_a_model(tmp_path: Path) -> None:
    written = band.write_band_package(
        tmp_path,
        patch=(4, 6, 8),
        axes="SAR",
        step=0.75,
        grade="demonstration",
        input={
            "spacing_mm": [3.0, 1.5, 1.25],
            "order": "resample_then_normalise",
            "image_order": 0,
            "modalities": ["CT"],
            "normalisation": {
                "CT": {"scheme": "ct", "lower": -900.0, "upper": 400, "mean": 7.5, "sd": 100.0}
            },
        },
        tiles={"mirror_axes": [2, 0]},
        output={
            "labels": [
                "liver",
                "spleen",
                {
                    "name": "psoas",
                    "title": "Psoas",
                    "category": {"value": "91723000", "scheme": "SCT", "meaning": "Anatomy"},
                    "type": {"value": "68455001", "scheme": "SCT", "meaning": "Psoas"},
                    "rgb": [1, 2, 255],
                },
            ],
            "not_segmented": ["bladder"],
            "logits_order": 0,
        },
        verdict={"anchors": ["liver", "spleen"], "min_anchors": 1, "min_ml": 9},
        postprocess={"inside_body": True, "max_pieces": 1, "max_pieces_of": {"spleen": 2}},
    )
    model = models.load_model(tmp_path, "band")
    assert model == written
    assert (model.full_name, model.grade) == ("band/1", Grade.DEMONSTRATION)
    assert [(label.value, label.name) for label in model.labels] == [
        (1, "liver"),
        (2, "spleen"),
        (3, "psoas"),
    ]
    assert model.labels[0].type == AMOS[5].type
    assert model.labels[2].rgb == (1, 2, 255)
    assert [label.value for label in model.not_segmented] == [14]
    assert model.spacing_mm == (3.0, 1.5, 1.25)
    assert (model.order, model.image_order, model.logits_order) == (Order.RESAMPLE_FIRST, 0, 0)
    (ct,) = model.normalisation["CT"]
    assert (ct.scheme, ct.lower, ct.upper, ct.sd) == (NormalisationScheme.CT, -900, 400, 100)
    assert (model.patch_size, model.step, model.mirror_axes) == ((4, 6, 8), 0.75, (2, 0))
    assert (model.verdict.anchors, model.verdict.min_ml) == (("liver", "spleen"), 9)
    assert model.postprocess == PostprocessPolicy(
        inside_body=True, max_pieces=1, max_pieces_of={"spleen": 2}
    )
    assert (model.axes, model.accuracy) == ("SAR", "exact by construction")


def test_a_manifest_without_postprocessing_keeps_the_label_map(repo: Path) -> None:
    before = models.load_model(repo, "band")
    assert before.postprocess is None
    rewrite(repo, "[files]", "[postprocess]\nmax_pieces = 1\n[files]")
    after = models.load_model(repo, "band")
    assert after.postprocess == PostprocessPolicy(max_pieces=1)
    # The digest is in every job's key: other rules are another result.
    assert after.digest != before.digest


def test_digest_is_the_manifests_and_covers_the_network(repo: Path) -> None:
    model = models.load_model(repo, "band/1")
    manifest = (repo / "band" / "1" / "manifest.toml").read_bytes()
    assert model.digest == hashlib.sha256(manifest).hexdigest()
    assert model.onnx_sha256 == hashlib.sha256(model.onnx.read_bytes()).hexdigest()
    assert model.onnx_sha256.encode() in manifest


def test_writing_twice_gives_the_same_package(tmp_path: Path) -> None:
    first = band.write_band_package(tmp_path / "a", patch=(4, 6, 8))
    second = band.write_band_package(tmp_path / "b", patch=(4, 6, 8))
    assert first.digest == second.digest


@pytest.mark.parametrize("name", ["model.onnx", "golden.npz", "MODEL_CARD.md"])
def test_file_with_another_digest_is_refused(repo: Path, name: str) -> None:
    path = repo / "band" / "1" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(ModelRefused, match=f"{name} is not the file of the manifest"):
        models.load_model(repo, "band")
    path.unlink()
    with pytest.raises(ModelRefused, match=f"{name} is listed but cannot be read"):
        models.load_model(repo, "band")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("step =", "stepp =", "tiles.stepp"),
        ("step = 0.5", 'step = "0.5"', "tiles.step"),
        ("step = 0.5", "step = 1.5", "tiles.step"),
        ("step = 0.5", "step = nan", "tiles.step"),
        ("step = 0.5", "", ""),
        ('grade = "research"', 'grade = "good"', "grade"),
        ('grade = "research"', "", "grade"),
        ("[4, 6, 8]", "[4, 6]", "tiles.patch_size"),
        ("[4, 6, 8]", "[4, 6, 0]", "tiles.patch_size.2"),
        ('axes = "SPL"', 'axes = "SPP"', "input.axes"),
        ('axes = "SPL"', 'axes = "SPL"\nimage_order = 2', "input.image_order.*cannot be computed"),
        ('axes = "SPL"', 'axes = "SPL"\nspacing_mm = [1, 1, -1]', "input.spacing_mm.2"),
        ('axes = "SPL"', 'axes = "SPL"\nchannels = ["a", "b"]', "format must be 2 for several"),
        ('axes = "SPL"', 'axes = "SPL"\nchannels = ["a", "a"]', "input.channels.*none twice"),
        ('axes = "SPL"', 'axes = "SPL"\ncrop = "nonzero"', "format must be 2 for input.crop"),
        ('CT]\nscheme = "none"', 'CT]\nscheme = "none"\nmasked = true', "only scheme zscore"),
        ('"amos15"', '["liver"]\noutputs = [1, 0]', "output.*must begin with 0"),
        ('"amos15"', '["liver"]\noutputs = [0, 2]', "output.*each label from 1 to 1"),
        ('"CT", "MR"', '"CT"', "input: .*one table for each of modalities"),
        ('"CT", "MR"', '"CT", "PT"', "input.modalities.1"),
        ('CT]\nscheme = "none"', 'CT]\nscheme = "ct"', "input.normalisation.CT.*lower below upper"),
        ('"amos15"', '["liver", "lever"]', "output.*no AMOS label is called lever"),
        ('"amos15"', '["liver", "liver"]', "output.*named twice"),
        ('"amos15"', "[]", "output.*must not be empty"),
        ('"amos15"', '"amos15"\nlogits_order = 3', "output.logits_order.*cannot be computed"),
        ("sides = false", 'anchors = ["heart"]', "no label: heart"),
        ("[files]", "[postprocess.max_pieces_of]\nheart = 1\n[files]", "no label: heart"),
        ("[files]", "[postprocess]\nmin_share = 2\n[files]", "postprocess.min_share"),
        ("sides = false", "min_anchors = 1", "verdict.*more than there are"),
        ("sides = false", 'sides = false\nanchors = ["liver"]', "no anchors"),
        ('"model.onnx"', '"../model.onnx"', "model.onnx"),
        ('"MODEL_CARD.md"', '"../card"', "own folder"),
        ("format = 1", "format = 4", "format"),
        ("format = 1", "format = 1979-05-27", "TOML"),
        ("format = 1", "format = ", "TOML"),
        ('name = "band"', 'name = "other"', "says that it is other/1"),
    ],
)
def test_wrong_manifest_is_refused_by_key(repo: Path, old: str, new: str, says: str) -> None:
    rewrite(repo, old, new)
    if not says:  # a key with a default may be left out
        assert models.load_model(repo, "band").step == 0.5
        return
    with pytest.raises(ModelRefused, match=says):
        models.load_model(repo, "band")


def test_every_wrong_key_is_named_at_once(repo: Path) -> None:
    rewrite(repo, "step = 0.5", "step = 7\nfoo = 1")
    rewrite(repo, 'axes = "SPL"', 'axes = "XYZ"')
    with pytest.raises(ModelRefused, match=r"(?s)input\.axes.*tiles\.step.*tiles\.foo"):
        models.load_model(repo, "band")


def test_newest_version_counts_numbers_as_numbers(tmp_path: Path) -> None:
    for version in ("9", "10", "1.2", "1.10", "1.9"):
        band.write_band_package(tmp_path, patch=(2, 2, 2), version=version)
    assert models.load_model(tmp_path, "band").version == "10"
    assert models.load_model(tmp_path, "band/1.9").version == "1.9"
    order = ["band/1.2", "band/1.9", "band/1.10", "band/9", "band/10"]
    assert list(models.package_names(tmp_path)) == order
    assert [m.full_name for m in models.list_models(tmp_path)] == order


def test_refused_newest_version_is_not_replaced_by_an_older_one(tmp_path: Path) -> None:
    for version in ("1", "2"):
        band.write_band_package(tmp_path, patch=(2, 2, 2), version=version)
    (tmp_path / "band" / "2" / "model.onnx").write_bytes(b"other")
    with pytest.raises(ModelRefused):
        models.load_model(tmp_path, "band")
    assert [m.version for m in models.list_models(tmp_path)] == ["1"]
    assert models.package_names(tmp_path) == ("band/1", "band/2")


@pytest.mark.parametrize(
    "name", ["other", "band/2", "", "/", "band/", "../band", "band/..", "band/1/1", "/etc", "Band"]
)
def test_names_that_are_none(repo: Path, name: str) -> None:
    if name == "band/":  # an empty version is no version
        assert models.load_model(repo, name).version == "1"
        return
    with pytest.raises(ModelNotFound):
        models.load_model(repo, name)


def test_missing_repository_is_empty(tmp_path: Path) -> None:
    assert models.list_models(tmp_path / "none") == ()
    with pytest.raises(ModelNotFound):
        models.load_model(tmp_path / "none", "band")


def test_unfinished_package_is_none(tmp_path: Path) -> None:
    with pytest.raises(ModelRefused, match="grade"):
        band.write_band_package(tmp_path, grade="perfect")
    assert models.package_names(tmp_path) == ()


def test_golden_tile_is_read_back(repo: Path) -> None:
    model = models.load_model(repo, "band")
    golden, expected = models.read_golden(model), band.band_golden(model)
    assert golden.seed == expected.seed
    assert np.array_equal(golden.argmax, expected.argmax)
    assert np.array_equal(golden.sample, expected.sample)
    assert np.array_equal(golden.logits, expected.logits)


def test_golden_tile_is_never_unpickled(repo: Path) -> None:
    model = models.load_model(repo, "band")
    with np.load(model.golden) as file:
        arrays = dict(file)

    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return (print, ("pickled",))

    np.savez(model.golden, **{**arrays, "logits": np.array([Trap()], object)})
    with pytest.raises(ModelRefused, match="golden tile"):
        models.read_golden(model)
    for key, value in (
        ("argmax", arrays["argmax"][1:]),
        ("sample", arrays["sample"] + 10**9),
        ("logits", arrays["logits"][1:]),
        ("logits", arrays["logits"].astype(np.float64)),
    ):
        np.savez(model.golden, **{**arrays, key: value})
        with pytest.raises(ModelRefused, match="does not fit"):
            models.read_golden(model)
    for content in (b"", b"PK\x03\x04 no zip"):
        model.golden.write_bytes(content)
        with pytest.raises(ModelRefused, match="cannot be read"):
            models.read_golden(model)


TEXT = st.text(st.characters(exclude_categories=["Cs"]))
LEAF = TEXT | st.integers(-(2**63), 2**63 - 1) | st.booleans()
LEAF |= st.floats(allow_nan=False, allow_infinity=False)
TREE = st.dictionaries(
    TEXT,
    st.recursive(
        LEAF | st.lists(LEAF, max_size=3),
        lambda inner: (
            st.dictionaries(TEXT, inner, max_size=3)
            | st.lists(st.dictionaries(TEXT, LEAF, max_size=2), max_size=2)
        ),
        max_leaves=8,
    ),
    max_size=4,
)


@given(TREE)
def test_toml_that_we_write_is_what_tomllib_reads(tree: dict[str, object]) -> None:
    assert tomllib.loads(dump_toml(tree)) == tree


def test_manifest_text_is_checked_before_files() -> None:
    with pytest.raises(ModelRefused, match="the manifest of x/1"):
        parse_manifest("", "x/1")
