"""Training volumes on disk, drawn by processes, and patches out of them.

No mirroring: sides matter.
"""

import multiprocessing
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from viscera.errors import InvalidRequest
from viscera.training.draw import Sources
from viscera.training.folder import open_folder
from viscera.training.labelled import read_labelled
from viscera.training.recipe import NORMALISATION, VALIDATION_FROM, Recipe


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """One patch: (z, y, x) float32 input, uint8 labels, and what `UNSURE` may be in it."""

    image: np.ndarray
    labels: np.ndarray
    unlabelled: tuple[int, ...]


def fill_pool(folder: Path, recipe: Recipe, data: Path | None, processes: int) -> None:
    """Draw what the pool lacks, for training and for validation, in `processes` processes.

    Raises
    ------
    InvalidRequest
        If the recipe wants more than phantoms and `data` is None or holds no labelled volume.
    """
    if recipe.phantoms < 1 and data is None:
        raise InvalidRequest(f"the recipe of {recipe.name} needs --data, a folder of labelled CT")
    if recipe.pool > VALIDATION_FROM:
        raise InvalidRequest(f"a pool holds at most {VALIDATION_FROM} volumes")
    folder.mkdir(parents=True, exist_ok=True)
    missing = [n for n in (*training(recipe), *validation(recipe)) if not _path(folder, n).exists()]
    if not missing:
        return
    context = multiprocessing.get_context("spawn")
    with context.Pool(processes, initializer=_prepare, initargs=(recipe, data)) as pool:
        for _ in pool.imap_unordered(partial(_draw_into, folder), missing, chunksize=4):
            pass  # a failure in a child is raised here


def training(recipe: Recipe) -> range:
    """Return the pool's numbers for training."""
    return range(recipe.pool)


def validation(recipe: Recipe) -> range:
    """Return the pool's numbers for the curves."""
    return range(VALIDATION_FROM, VALIDATION_FROM + recipe.validation)


_sources: Sources  # of a drawing process


def _prepare(recipe: Recipe, data: Path | None) -> None:
    global _sources
    volumes = []
    if data and recipe.phantoms < 1:
        volumes = read_labelled(open_folder(data), recipe.spacing_mm)
    _sources = Sources.prepare(recipe, volumes)


def _draw_into(folder: Path, number: int) -> None:
    drawn = _sources.draw(_sources.recipe.seed * 10_000 + number)
    path = _path(folder, number)
    part = path.with_suffix(".part.npz")
    unlabelled = np.array(drawn.unlabelled, np.uint8)
    np.savez(part, hu=drawn.hu, labels=drawn.labels, unlabelled=unlabelled, kind=str(drawn.kind))
    part.rename(path)


def _path(folder: Path, number: int) -> Path:
    return folder / f"{number:05d}.npz"


def kinds(folder: Path, numbers: range) -> str:
    """Return how many volumes of each kind there are, for people."""
    found: Counter[str] = Counter()
    for number in numbers:
        with np.load(_path(folder, number)) as file:
            found[str(file["kind"])] += 1
    return ", ".join(f"{count} {kind}" for kind, count in found.most_common())


def normalise(hu: np.ndarray) -> np.ndarray:
    """Clip and scale HU as the manifest will say."""
    n = NORMALISATION
    scaled: np.ndarray = (np.clip(hu, n.lower, n.upper).astype(np.float32) - n.mean) / n.sd
    return scaled


class Patches:
    """An endless supply of random patches from the pool, which is held in memory."""

    def __init__(self, folder: Path, recipe: Recipe, numbers: range) -> None:
        self._patch, self._seldom = np.array(recipe.patch_size), recipe.seldom
        self._volumes = []
        shown = np.zeros((len(numbers), 16), bool)
        for row, number in enumerate(numbers):
            with np.load(_path(folder, number)) as file:
                unlabelled = tuple(file["unlabelled"].tolist())
                self._volumes.append((file["hu"], file["labels"], unlabelled))
            shown[row] = np.bincount(self._volumes[-1][1].ravel(), minlength=17)[:16] > 0
        shown[:, 0] = False
        self._showing = {value: np.flatnonzero(shown[:, value]) for value in range(1, 16)}

    def draw(self, rng: np.random.Generator) -> Patch:
        """Return a random patch, its intensities varied."""
        if rng.random() < self._seldom:
            number, organ = self._draw_seldom(rng)
            return self._cut(number, rng, vary=True, organ=organ)
        return self._cut(int(rng.integers(len(self._volumes))), rng, vary=True)

    def _draw_seldom(self, rng: np.random.Generator) -> tuple[int, int]:
        """Draw an organ, the likelier the fewer volumes show it, and one of these volumes."""
        organs = [value for value, rows in self._showing.items() if len(rows)]
        rarity = np.array([1 / len(self._showing[value]) for value in organs])
        organ = int(rng.choice(organs, p=rarity / rarity.sum()))
        return int(rng.choice(self._showing[organ])), organ

    def fixed(self, seed: int) -> list[Patch]:
        """Return one patch of every volume, the same for the same seed."""
        rng = np.random.default_rng(seed)
        return [self._cut(number, rng, vary=False) for number in range(len(self._volumes))]

    def _cut(
        self, number: int, rng: np.random.Generator, *, vary: bool, organ: int | None = None
    ) -> Patch:
        hu, labels, unlabelled = self._volumes[number]
        start = self._start(rng, labels, organ)
        at = tuple(
            slice(max(s, 0), s + p) for s, p in zip(start.tolist(), self._patch, strict=True)
        )
        part = hu[at].astype(np.float32)
        image = normalise(_vary(part, rng) if vary else part)
        return Patch(self._pad(image, start), self._pad(labels[at], start), unlabelled)

    def _start(self, rng: np.random.Generator, labels: np.ndarray, organ: int | None) -> np.ndarray:
        """Return the corner: around `organ`; if None, around some organ half of the time."""
        room = np.array(labels.shape) - self._patch
        if organ is None and rng.random() < 0.5:
            shown = np.flatnonzero(np.bincount(labels.ravel(), minlength=16)[1:16])
            organ = int(rng.permutation(shown)[0]) + 1 if len(shown) else None
        if organ is None:
            return _fit(rng.integers(0, np.maximum(room, 0) + 1), room)
        voxels = np.flatnonzero(labels == organ)
        middle = np.array(np.unravel_index(rng.choice(voxels), labels.shape))
        start = middle - self._patch // 2 + rng.integers(-12, 13, 3)
        return _fit(np.clip(start, 0, np.maximum(room, 0)), room)

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
