"""`--totalsegmentator` gives what SciPy's `zoom` around nnU-Net's own predictor gives."""

from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy import ndimage

if find_spec("nnunetv2") is None:
    pytest.skip("nnU-Net is not here", allow_module_level=True)

from judge import _float32_sums, _logits
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from recipes import NAMES, PLAIN
from results_folder import build, resampled, training_image

from viscera import importing, segment, volume
from viscera.config import load_settings
from viscera.metrics import Metrics
from viscera.models.nnunet import Request
from viscera.pipeline import Pipeline

SPACING_ZYX = (5.0, 2.0, 2.5)
"""Thick slices: nnU-Net would resample z apart, TotalSegmentator does not."""


def judged(folder: Path, hu: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return labels and the margin of a float32 run, on the grid of `hu`: (z, y, x) of RAS."""
    predictor = nnUNetPredictor(
        tile_step_size=0.8,
        use_mirroring=False,
        device=torch.device("cpu"),
        allow_tqdm=False,
        perform_everything_on_device=False,
    )
    predictor.initialize_from_trained_model_folder(str(folder), (0,))
    spacing = list(predictor.configuration_manager.spacing)
    scale = np.array(SPACING_ZYX) / spacing
    zoomed = ndimage.zoom(hu.astype(float), scale, mode="nearest", order=3).astype(np.int32)
    pixels = zoomed[None].astype(np.float32)
    labels = predictor.predict_single_npy_array(pixels, {"spacing": spacing}, None, None, False)
    with _float32_sums():
        logits = _logits(predictor, pixels, {"spacing": spacing})
    ordered = np.partition(logits, -2, axis=0)
    assert ordered.shape[1:] == labels.shape  # nothing was cropped, nothing resampled
    back = np.array(hu.shape) / np.array(labels.shape)
    return tuple(
        ndimage.zoom(one, back, mode="nearest", order=0)
        for one in (labels.astype(np.uint8), ordered[-1] - ordered[-2])
    )


@pytest.mark.xdist_group(PLAIN.name)
def test_labels_are_totalsegmentators(shared_data: Path, tmp_path: Path) -> None:
    folder = build(shared_data, PLAIN)
    image = resampled(training_image(shared_data, PLAIN), SPACING_ZYX[::-1])
    sitk.WriteImage(image, str(tmp_path / "scan.nii.gz"))
    hu = sitk.GetArrayFromImage(sitk.DICOMOrient(image, "RAS"))
    theirs, margin = judged(folder, hu)

    found = load_settings(None)
    repo = found.models.model_copy(update={"repo": tmp_path / "model_repo"})
    settings = found.model_copy(update={"models": repo})
    (tmp_path / "names.toml").write_text(
        "[labels]\n" + "".join(f'"{name}" = "{name}"\n' for name in NAMES[1:])
    )
    request = {"folder": folder, "version": "1", "folds": ("0",), "modalities": ("CT",)}
    labels = str(tmp_path / "names.toml")
    importing.import_nnunet(
        Request(**request, name="total", labels=labels, totalsegmentator=3), settings
    )
    importing.import_nnunet(
        Request(**request, name="plain", orientation="RAS", mirroring=False), settings
    )
    engine = settings.engine
    segment.configure_numba(engine.numba_cache, engine.numba_threading_layer, engine.threads)
    scan = volume.read_volume(tmp_path / "scan.nii.gz", "CT")
    with closing(Pipeline(settings, Metrics())) as pipeline:
        ours, nnunets = (
            volume.to_axes(
                pipeline.segment([scan], name, lambda *_: None)[1].labels,
                scan.geometry.axes,
                "SAR",
            )
            for name in ("total", "plain")
        )
    differ = ours != theirs
    print(f"{differ.sum()} of {differ.size} voxels differ, nnU-Net's {(nnunets != theirs).sum()}")
    assert len(np.unique(theirs)) > 6
    assert differ.mean() < 1e-4
    assert margin[differ].max(initial=0.0) < 0.05
    assert (nnunets != theirs).mean() > 10 * differ.mean() + 1e-4
