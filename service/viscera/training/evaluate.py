"""How well a package does on what it has not seen: phantoms, and people whom nobody trained on."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from viscera.domain.models import Model, Normalisation, NormalisationScheme
from viscera.domain.organs import AMOS
from viscera.domain.volumes import Volume
from viscera.phantom import Phantom, Scan, make_phantom
from viscera.postprocess import postprocess
from viscera.segment import segment
from viscera.segment.engine import Engine
from viscera.training.folder import VALUES, Folder, organ_name
from viscera.training.recipe import HELD_OUT_SEED
from viscera.volume import prepare, read_volume, to_axes

_LEAST_ML = 0.5
"""Less of an organ in the field of view is not counted."""
_BIN_HU = 8
_LOWEST_HU, _HIGHEST_HU = -1024, 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Mean Dice by organ name; organs that no phantom shows are absent."""

    network: dict[str, float]
    hu_classifier: dict[str, float]
    mirrored: dict[str, float]
    phantoms: int


def mean_of(dice: dict[str, float]) -> float:
    """Return the mean over organs."""
    return float(np.mean(list(dice.values())))


def unseen(count: int, seed: int = HELD_OUT_SEED) -> Iterable[Phantom]:
    """Draw phantoms on scanners' grids, every other one with a random coverage."""
    for number in range(count):
        rng = np.random.default_rng((seed, number))
        spacing = (float(rng.choice((2.5, 4.0, 5.0))), 2.0, 2.0)
        coverage = (-235.0, 265.0) if number % 2 else None
        yield make_phantom(
            seed + number, Scan(spacing_mm=spacing, matrix=(208, 208), coverage=coverage)
        )


def segment_volume(volume: Volume, model: Model, engine: Engine) -> np.ndarray:
    """Return the label map on `volume`'s grid, by the service's own way, pieces taken away too."""
    labels = np.zeros(volume.geometry.shape, np.uint8)
    out = to_axes(labels, volume.geometry.axes, model.axes)
    segment(prepare(volume, model).image, model, engine, out, lambda _: None)
    postprocess(labels, volume, model)
    return labels


def mirror(phantom: Phantom) -> Phantom:
    """Return the phantom with left and right exchanged, the grid and the labels' names kept."""
    volume = replace(phantom.volume, voxels=phantom.volume.voxels[:, :, ::-1])
    return replace(phantom, volume=volume, labels=phantom.labels[:, :, ::-1])


def dice_by_organ(found: np.ndarray, labels: np.ndarray, voxel_ml: float) -> dict[str, float]:
    """Return Dice of the organs of which `labels` shows half a millilitre or more."""
    both = np.bincount(labels[found == labels], minlength=16).astype(float)
    true = np.bincount(labels.ravel(), minlength=16)
    sizes = np.bincount(found.ravel(), minlength=16) + true
    return {
        label.name: float(2 * both[label.value] / sizes[label.value])
        for label in AMOS
        if true[label.value] * voxel_ml >= _LEAST_ML
    }


def held_out(folder: Folder, model: Model, engine: Engine) -> dict[str, dict[str, float]]:
    """Return Dice by volume of `folder` and organ, each volume on its own grid, as it comes.

    A modality that `model` was not made for is z-scored, to see what it makes of it.
    """
    values = np.zeros(256, np.uint8)
    for value, name in folder.names.items():
        values[value] = VALUES.get(organ_name(name), 0)
    scores = {}
    for name, image, labels in folder.pairs():
        volume = read_volume(image, folder.modalities.get(name, "CT"))
        truth = values[read_volume(labels, "CT").voxels]
        found = segment_volume(volume, accepting(model, volume.modality), engine)
        scores[name] = dice_by_organ(found, truth, volume.geometry.voxel_ml)
    return scores


def accepting(model: Model, modality: str) -> Model:
    """Return `model`, made to take `modality` with z-scored intensities if it did not."""
    if modality in model.normalisation:
        return model
    scored = (Normalisation(scheme=NormalisationScheme.ZSCORE),)
    return replace(model, normalisation={**model.normalisation, modality: scored})


class HuClassifier:
    """Bayes on a histogram of HU: the best that a voxel's brightness alone can do.

    Parameters
    ----------
    phantoms
        To learn from.
    equal_priors
        Whether every label counts the same; else as often as it was seen, which is right for
        most voxels and calls small organs background.
    """

    def __init__(self, phantoms: Iterable[Phantom], *, equal_priors: bool) -> None:
        bins = (_HIGHEST_HU - _LOWEST_HU) // _BIN_HU
        counts = np.zeros((bins, 16))
        for phantom in phantoms:
            pairs = _bins(phantom.volume.voxels) * 16 + phantom.labels
            counts += np.bincount(pairs.ravel(), minlength=bins * 16).reshape(bins, 16)
        if equal_priors:
            counts /= np.maximum(counts.sum(axis=0), 1)
        self._answer = counts.argmax(axis=1).astype(np.uint8)

    def segment(self, volume: Volume) -> np.ndarray:
        """Return the label map of `volume`."""
        labels: np.ndarray = self._answer[_bins(volume.voxels)]
        return labels


def _bins(voxels: np.ndarray) -> np.ndarray:
    clipped = np.clip(voxels, _LOWEST_HU, _HIGHEST_HU - 1).astype(np.int32)
    found: np.ndarray = (clipped - _LOWEST_HU) // _BIN_HU
    return found


def mean_dice(model: Model, engine: Engine, phantoms: Iterable[Phantom]) -> dict[str, float]:
    """Return the mean Dice by organ over `phantoms`."""
    means = _Means()
    for phantom in phantoms:
        means.add(_score(segment_volume(phantom.volume, model, engine), phantom))
    return means.result()


def evaluate(
    model: Model, engine: Engine, learn_from: Iterable[Phantom], phantoms: Iterable[Phantom]
) -> Scores:
    """Score the network, the HU classifier, and the network on mirrored phantoms.

    The HU classifier is given, organ by organ, whichever of its two priors does better.
    """
    known = list(learn_from)
    rivals = [HuClassifier(known, equal_priors=equal) for equal in (False, True)]
    network, mirrored = _Means(), _Means()
    by_rival = [_Means() for _ in rivals]
    count = 0
    for phantom in phantoms:
        count += 1
        network.add(_score(segment_volume(phantom.volume, model, engine), phantom))
        for rival, means in zip(rivals, by_rival, strict=True):
            means.add(_score(rival.segment(phantom.volume), phantom))
        swapped = mirror(phantom)
        mirrored.add(_score(segment_volume(swapped.volume, model, engine), swapped))
    first, second = (means.result() for means in by_rival)
    return Scores(
        network=network.result(),
        hu_classifier={name: max(first[name], second[name]) for name in first},
        mirrored=mirrored.result(),
        phantoms=count,
    )


def _score(found: np.ndarray, phantom: Phantom) -> dict[str, float]:
    return dice_by_organ(found, phantom.labels, phantom.volume.geometry.voxel_ml)


class _Means:
    def __init__(self) -> None:
        self._values: dict[str, list[float]] = {}

    def add(self, dice: dict[str, float]) -> None:
        for name, value in dice.items():
            self._values.setdefault(name, []).append(value)

    def result(self) -> dict[str, float]:
        return {name: float(np.mean(values)) for name, values in self._values.items()}
