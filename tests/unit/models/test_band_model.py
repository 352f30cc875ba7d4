"""The band model is right: for every whole HU, by ONNX Runtime, exactly."""

from pathlib import Path

import numpy as np
import onnxruntime

import band
from viscera import models


def test_every_hu_gets_its_band(tmp_path: Path) -> None:
    model = band.write_band_package(tmp_path)
    hu = np.arange(-32768, 32768, dtype=np.float32)
    session = onnxruntime.InferenceSession(
        model.onnx.read_bytes(), providers=["CPUExecutionProvider"]
    )
    (logits,) = session.run(None, {"image": hu.reshape(2, 1, 32, 32, 32)})
    best = np.sort(logits, axis=1)[:, -2:]
    assert (best[:, 1] - best[:, 0]).min() >= 0.5  # rounding in a blend cannot turn it
    labels = logits.argmax(axis=1).reshape(-1)
    # One comparison a border, with nothing shared but the borders themselves.
    counted = sum((hu > border).astype(int) for border in band.BORDERS_HU)
    assert np.array_equal(labels, counted)
    assert np.array_equal(band.expected_labels(hu.astype(np.int16)), counted)


def test_air_and_padding_are_background_and_all_labels_occur() -> None:
    hu = np.arange(-1024, 3072, dtype=np.int16)
    labels = band.expected_labels(hu)
    assert labels[0] == 0
    assert labels.dtype == np.uint8
    assert set(labels) == set(range(16))


def test_arguments_reach_the_manifest(tmp_path: Path) -> None:
    band.write_band_package(tmp_path, patch=(8, 16, 24), axes="IAR", step=1.0)
    model = models.load_model(tmp_path, "band")
    assert (model.patch_size, model.axes, model.step) == ((8, 16, 24), "IAR", 1.0)
    assert model.spacing_mm is None
    assert model.modalities == ("CT", "MR")
    assert len(model.labels) == 15
    assert model.verdict.anchors == ()
