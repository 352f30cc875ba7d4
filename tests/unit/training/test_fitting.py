"""The loop and its loss. Needs the extra ``train``."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra `train` is not installed")

from viscera.errors import ModelRefused  # noqa: E402
from viscera.training.export import export_onnx  # noqa: E402
from viscera.training.fit import Fit  # noqa: E402
from viscera.training.labelled import UNSURE  # noqa: E402
from viscera.training.loss import allowed_of, loss_of  # noqa: E402
from viscera.training.pool import Patch  # noqa: E402
from viscera.training.recipe import REFERENCE  # noqa: E402

TINY = replace(REFERENCE, channels=(4, 6), convolutions=(1, 2), patch_size=(8, 8, 8), averaging=0.5)


class Random:
    """Patches of noise with two labels, one of them where it is bright."""

    def draw(self, rng: np.random.Generator) -> Patch:
        image = rng.standard_normal((8, 8, 8)).astype(np.float32)
        labels = np.where(image > 0, 6, 0).astype(np.uint8)
        labels[0] = UNSURE
        return Patch(image, labels, (5, 15))


def test_without_unsure_voxels_it_is_torch_s_cross_entropy() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 16, 4, 4, 4), torch.randint(0, 16, (2, 4, 4, 4))
    cross, _ = loss_of(logits, labels, allowed_of([(), ()], 16), 0.0)
    assert float(cross) == pytest.approx(
        float(torch.nn.functional.cross_entropy(logits, labels)), rel=1e-5
    )


def test_an_unlabelled_organ_is_neither_right_nor_wrong() -> None:
    labels = torch.full((1, 2, 2, 2), UNSURE)
    allowed = allowed_of([(5,)], 16)
    losses = []
    for chosen in (0, 5, 6):
        logits = torch.zeros(1, 16, 2, 2, 2)
        logits[:, chosen] = 12
        losses.append(float(loss_of(logits, labels, allowed, 0.5)[0]))
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    assert losses[0] < 0.01
    assert losses[2] > 5


def test_a_run_that_was_cut_off_goes_on_as_if_it_was_not(tmp_path: Path) -> None:
    checks = [Random().draw(np.random.default_rng(9))]
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    whole = Fit(TINY, tmp_path / "whole")
    whole.run(Random(), checks, steps=6, minutes=1)
    cut = Fit(TINY, tmp_path / "cut")
    while cut.step < 3:
        cut._one(Random(), cut.step / 6)
    cut.save()
    again = Fit(TINY, tmp_path / "cut")
    assert again.resume()
    again.run(Random(), checks, steps=6, minutes=1)
    assert again.step == 6
    for one, other in zip(whole.averaged.parameters(), again.averaged.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_package_s_weights_are_where_training_goes_on(tmp_path: Path) -> None:
    taught = Fit(TINY, tmp_path)
    for weights in taught.network.parameters():  # the exporter writes equal ones only once
        torch.nn.init.normal_(weights)
    (tmp_path / "model.onnx").write_bytes(export_onnx(taught.network, TINY))
    fresh = Fit(replace(TINY, seed=2), tmp_path)
    fresh.start(tmp_path)
    image = torch.randn(1, 1, 8, 8, 8)
    for network in (fresh.network, fresh.averaged):
        assert torch.equal(network.eval()(image), taught.network.eval()(image))


def test_weights_of_another_recipe_are_refused(tmp_path: Path) -> None:
    wide = replace(TINY, channels=(4, 8))
    (tmp_path / "model.onnx").write_bytes(export_onnx(Fit(wide, tmp_path).network, wide))
    with pytest.raises(ModelRefused, match="not the recipe's"):
        Fit(TINY, tmp_path).start(tmp_path)
