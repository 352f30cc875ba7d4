"""How well a package does on phantoms that it has not seen, beside a classifier of HU alone."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from viscera.domain.models import Model
from viscera.domain.organs import AMOS
from viscera.domain.volumes import Volume
from viscera.phantom import Phantom, Scan, make_phantom
from viscera.segment import segment
from viscera.segment.engine import Engine
from viscera.training.recipe import HELD_OUT_SEED
from viscera.volume import prepare, to_axes

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

    @staticmethod
    def mean(dice: dict[str, float]) -> float:
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
    """Return the label map on `volume`'s grid, by the service's own way."""
    labels = np.zeros(volume.geometry.shape, np.uint8)
    out = to_axes(labels, volume.geometry.axes, model.axes)
    segment(prepare(volume, model).image, model, engine, out, lambda _: None)
    return labels


def mirror(phantom: Phantom) -> Phantom:
    """Return the phantom with left and right exchanged, the grid and the labels' names kept."""
    volume = replace(phantom.volume, voxels=phantom.volume.voxels[:, :, ::-1])
    return replace(phantom, volume=volume, labels=phantom.labels[:, :, ::-1])


def dice_by_organ(found: np.ndarray, phantom: Phantom) -> dict[str, float]:
    """Return Dice of the organs that `phantom` shows."""
    both = np.bincount(phantom.labels[found == phantom.labels], minlength=16).astype(float)
    sizes = np.bincount(found.ravel(), minlength=16) + np.bincount(
        phantom.labels.ravel(), minlength=16
    )
    return {
        label.name: 2 * both[label.value] / sizes[label.value]
        for label in AMOS
        if phantom.true_ml[label.name] >= _LEAST_ML
    }


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
        network.add(dice_by_organ(segment_volume(phantom.volume, model, engine), phantom))
        for rival, means in zip(rivals, by_rival, strict=True):
            means.add(dice_by_organ(rival.segment(phantom.volume), phantom))
        swapped = mirror(phantom)
        mirrored.add(dice_by_organ(segment_volume(swapped.volume, model, engine), swapped))
    first, second = (means.result() for means in by_rival)
    return Scores(
        network=network.result(),
        hu_classifier={name: max(first[name], second[name]) for name in first},
        mirrored=mirrored.result(),
        phantoms=count,
    )


class _Means:
    def __init__(self) -> None:
        self._values: dict[str, list[float]] = {}

    def add(self, dice: dict[str, float]) -> None:
        for name, value in dice.items():
            self._values.setdefault(name, []).append(value)

    def result(self) -> dict[str, float]:
        return {name: float(np.mean(values)) for name, values in self._values.items()}
