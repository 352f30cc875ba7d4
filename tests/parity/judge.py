"""nnU-Net's own predictor: its labels, and how sure a float32 run of it is of each voxel."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
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
    precise: np.ndarray
    """Labels of a run with float32 sums, where nnU-Net has half precision."""
    margin: np.ndarray
    """Between the two largest logits of that run."""
    linear: np.ndarray
    """Labels of such a run on an image that nnU-Net itself resampled with order 1."""
    voxel_ml: float


def judge(folder: Path, images: Sequence[Path], folds: Sequence[int], mirroring: bool) -> Judged:
    """Predict one image, a file a channel, as nnU-Net does, and with what it says of it above."""
    predictor = nnUNetPredictor(
        use_mirroring=mirroring,
        device=torch.device("cpu"),
        allow_tqdm=False,
        perform_everything_on_device=False,
    )
    predictor.initialize_from_trained_model_folder(str(folder), tuple(folds))
    pixels, properties = SimpleITKIO().read_images([str(path) for path in images])
    labels = predictor.predict_single_npy_array(pixels, properties, None, None, False)
    with _float32_sums():
        logits = _logits(predictor, pixels, properties)
        # A copy, for the original remembers the function that it once made from this table.
        predictor.configuration_manager = deepcopy(predictor.configuration_manager)
        predictor.configuration_manager.configuration["resampling_fn_data_kwargs"]["order"] = 1
        linear = _logits(predictor, pixels, properties).argmax(0)
    ordered = np.partition(logits, -2, axis=0)
    return Judged(
        labels=labels,
        precise=_on_source(logits.argmax(0).astype(labels.dtype), 0, predictor, properties),
        margin=_on_source(ordered[-1] - ordered[-2], np.inf, predictor, properties),
        linear=_on_source(linear.astype(labels.dtype), 0, predictor, properties),
        voxel_ml=float(np.prod(properties["spacing"])) / 1e3,
    )


def _logits(predictor: nnUNetPredictor, pixels: np.ndarray, properties: dict) -> np.ndarray:
    """Return logits on the cropped, transposed source grid."""
    plans, configuration = predictor.plans_manager, predictor.configuration_manager
    data, _, properties = DefaultPreprocessor(verbose=False).run_case_npy(
        pixels, None, properties, plans, configuration, predictor.dataset_json
    )
    logits = predictor.predict_logits_from_preprocessed_data(torch.from_numpy(data))
    resampled = configuration.resampling_fn_probabilities(
        logits,
        properties["shape_after_cropping_and_before_resampling"],
        configuration.spacing,
        [properties["spacing"][i] for i in plans.transpose_forward],
    )
    return np.asarray(resampled)


def _on_source(
    values: np.ndarray, outside: float, predictor: nnUNetPredictor, properties: dict
) -> np.ndarray:
    """Return `values` on the whole source grid, `outside` where nnU-Net cropped."""
    plans = predictor.plans_manager
    shape = [properties["shape_before_cropping"][k] for k in range(3)]
    whole = np.full(shape, outside, values.dtype)
    whole[tuple(slice(*pair) for pair in properties["bbox_used_for_cropping"])] = values
    return whole.transpose(plans.transpose_backward)


@contextmanager
def _float32_sums() -> Iterator[None]:
    half, torch.half = torch.half, torch.float32
    try:
        yield
    finally:
        torch.half = half
