"""Phantoms on disk, drawn by processes, and patches out of them. No mirroring: sides matter."""

import multiprocessing
from functools import partial
from pathlib import Path

import numpy as np

from viscera.phantom import Scan, make_distractor, make_phantom
from viscera.training.recipe import HELD_OUT_SEED, NORMALISATION, Recipe


def random_scan(rng: np.random.Generator, spacing_mm: float) -> Scan:
    """Draw a field of view, coverage and sharpness on the network's grid."""
    side = int(rng.choice((88, 100, 112)))
    return Scan(
        spacing_mm=(spacing_mm,) * 3,
        matrix=(side, side),
        coverage=None if rng.random() < 0.7 else (-235.0, 265.0),
        edge_mm=float(rng.uniform(1.2, 4.5)),
    )


def draw_into(folder: Path, recipe: Recipe, number: int) -> None:
    """Draw phantom `number` of the pool unless it is there."""
    path = folder / f"{number:05d}.npz"
    if path.exists():
        return
    seed = recipe.seed * 10_000 + number
    if seed >= HELD_OUT_SEED:
        raise ValueError(f"seed {seed} is held out for evaluation; use a smaller --seed")
    rng = np.random.default_rng((seed, 1))
    make = make_distractor if rng.random() < recipe.distractors else make_phantom
    phantom = make(seed, random_scan(rng, recipe.spacing_mm))
    part = path.with_suffix(".part.npz")
    np.savez(part, hu=phantom.volume.voxels, labels=phantom.labels)
    part.rename(path)


def fill_pool(folder: Path, recipe: Recipe, processes: int) -> None:
    """Draw what the pool lacks, in `processes` processes."""
    folder.mkdir(parents=True, exist_ok=True)
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        pool.map(partial(draw_into, folder, recipe), range(recipe.pool), chunksize=4)


def normalise(hu: np.ndarray) -> np.ndarray:
    """Clip and scale HU as the manifest will say."""
    n = NORMALISATION
    scaled: np.ndarray = (np.clip(hu, n.lower, n.upper).astype(np.float32) - n.mean) / n.sd
    return scaled


class Patches:
    """An endless supply of random patches from the pool, which is held in memory."""

    def __init__(self, folder: Path, recipe: Recipe) -> None:
        self._patch = np.array(recipe.patch_size)
        self._volumes = []
        for number in range(recipe.pool):
            with np.load(folder / f"{number:05d}.npz") as file:
                self._volumes.append((file["hu"], file["labels"]))

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return (z, y, x) float32 input and uint8 labels of one patch."""
        hu, labels = self._volumes[rng.integers(len(self._volumes))]
        start = self._start(rng, labels)
        at = tuple(
            slice(max(s, 0), s + p) for s, p in zip(start.tolist(), self._patch, strict=True)
        )
        image = normalise(_vary(hu[at].astype(np.float32), rng))
        return self._pad(image, start), self._pad(labels[at], start)

    def _start(self, rng: np.random.Generator, labels: np.ndarray) -> np.ndarray:
        """Return the patch's corner: around some organ's voxel half of the time."""
        room = np.array(labels.shape) - self._patch
        if rng.random() < 0.5:
            wanted = rng.permutation(np.flatnonzero(np.bincount(labels.ravel(), minlength=16)[1:]))
            if len(wanted):
                voxels = np.flatnonzero(labels == wanted[0] + 1)
                middle = np.array(np.unravel_index(rng.choice(voxels), labels.shape))
                start = middle - self._patch // 2 + rng.integers(-12, 13, 3)
                return _fit(np.clip(start, 0, np.maximum(room, 0)), room)
        return _fit(rng.integers(0, np.maximum(room, 0) + 1), room)

    def _pad(self, part: np.ndarray, start: np.ndarray) -> np.ndarray:
        """Centre a part that is smaller than the patch, with zeros around, as the service does."""
        before = np.maximum(-start, 0)
        after = self._patch - before - part.shape
        return np.pad(part, list(zip(before, after, strict=True)))


def _fit(start: np.ndarray, room: np.ndarray) -> np.ndarray:
    """Return `start`, but centred, hence negative, where the volume is smaller than the patch."""
    corner: np.ndarray = np.where(room > 0, start, room // 2)
    return corner


def _vary(hu: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Other scanners: gain, offset, more noise, a softer kernel."""
    hu = hu * rng.uniform(0.92, 1.08) + rng.normal(0, 6)
    if rng.random() < 0.3:
        hu[1:-1] = 0.5 * hu[1:-1] + 0.25 * (hu[:-2] + hu[2:])
    if rng.random() < 0.3:
        hu[:, 1:-1] = 0.5 * hu[:, 1:-1] + 0.25 * (hu[:, :-2] + hu[:, 2:])
        hu[:, :, 1:-1] = 0.5 * hu[:, :, 1:-1] + 0.25 * (hu[:, :, :-2] + hu[:, :, 2:])
    if rng.random() < 0.5:
        hu += rng.standard_normal(hu.shape, dtype=np.float32) * np.float32(rng.uniform(0, 20))
    return hu.astype(np.float32)
