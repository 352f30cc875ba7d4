"""nnU-Net's own predictor: its labels, and how sure a float32 run of it is of each voxel."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """What the judge says, on (z, y, x) as its reader hands images over."""

    labels: np.ndarray
    margin: np.ndarray
    """Between the two largest logits of the float32 run."""
    voxel_ml: float


def judge(folder: Path, images: Sequence[Path], folds: Sequence[int], mirroring: bool) -> Judged:
    """Predict one image, a file a channel, twice: as nnU-Net does, and with float32 sums."""
    predictor = nnUNetPredictor(
        use_mirroring=mirroring, device=torch.device("cpu"), allow_tqdm=False
    )
    predictor.initialize_from_trained_model_folder(str(folder), tuple(folds))
    pixels, properties = SimpleITKIO().read_images([str(path) for path in images])
    labels = predictor.predict_single_npy_array(pixels, properties, None, None, False)
    with _float32_sums():
        logits = _logits(predictor, pixels, dict(properties))
    ordered = np.partition(logits, -2, axis=0)
    margin = np.full(labels.shape, np.inf, np.float32)
    back = np.argsort(predictor.plans_manager.transpose_forward)
    box = tuple(slice(*pair) for pair in properties["bbox_used_for_cropping"])
    turned = margin.transpose(predictor.plans_manager.transpose_forward)
    turned[box] = ordered[-1] - ordered[-2]
    assert turned.transpose(back).shape == labels.shape
    return Judged(
        labels=labels, margin=margin, voxel_ml=float(np.prod(properties["spacing"])) / 1e3
    )


def _logits(predictor: nnUNetPredictor, pixels: np.ndarray, properties: dict) -> np.ndarray:
    """Return float32 logits on the cropped, transposed source grid."""
    plans, configuration = predictor.plans_manager, predictor.configuration_manager
    data, _, properties = DefaultPreprocessor(verbose=False).run_case_npy(
        pixels, None, properties, plans, configuration, predictor.dataset_json
    )
    logits = predictor.predict_logits_from_preprocessed_data(torch.from_numpy(data))
    return configuration.resampling_fn_probabilities(
        logits,
        properties["shape_after_cropping_and_before_resampling"],
        configuration.spacing,
        [properties["spacing"][i] for i in plans.transpose_forward],
    )


@contextmanager
def _float32_sums() -> Iterator[None]:
    half, torch.half = torch.half, torch.float32
    try:
        yield
    finally:
        torch.half = half
