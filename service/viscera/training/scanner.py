"""What scanners do to bodies: tables, arms, short fields of view, slices, kernels, noise."""

import numpy as np

from viscera.training.noise import blur, smooth_noise

_AIR_HU = -1000
_SCAN_MM, _SLAB_MM = (60.0, 320.0), (20.0, 70.0)
"""How high shortened scans are; a slab is far lower than a patch, the rest of which is padding."""
_SLABS = 0.3


def surround(hu: np.ndarray, structures: np.ndarray, rng: np.random.Generator) -> None:
    """Draw a table under the body and, at times, arms beside it, into `hu` in place."""
    grid = np.indices(hu.shape[1:])
    rows, columns = grid[0], grid[1]
    body = (structures > 0).any(0)
    if not body.any():
        return
    free = structures == 0
    y, x = np.nonzero(body)
    if rng.random() < 0.75:
        _table(hu, free, rows, columns, float(y.max()), rng)
    if rng.random() < 0.25:
        middle = y.min() + rng.uniform(0.35, 0.75) * np.ptp(y)
        for side in (x.min() - rng.uniform(6, 14), x.max() + rng.uniform(6, 14)):
            _arm(hu, free, rows, columns, (middle, side), rng)


def _table(
    hu: np.ndarray,
    free: np.ndarray,
    rows: np.ndarray,
    columns: np.ndarray,
    under: float,
    rng: np.random.Generator,
) -> None:
    middle, width = hu.shape[2] / 2, rng.uniform(60, 85)
    top = under + rng.uniform(1, 8) - rng.uniform(0, 0.004) * (columns - middle) ** 2
    thick = rng.uniform(3, 8)
    within = (rows > top) & (rows < top + thick) & (np.abs(columns - middle) < width)
    shell = within & ((rows < top + 1.2) | (rows > top + thick - 1.2))
    for area, value in ((within, rng.uniform(-990, -850)), (shell, rng.uniform(-700, 50))):
        hu[free & area] = value


def _arm(
    hu: np.ndarray,
    free: np.ndarray,
    rows: np.ndarray,
    columns: np.ndarray,
    centre: tuple[float, float],
    rng: np.random.Generator,
) -> None:
    radius = rng.uniform(10, 16)
    drift = rng.normal(0, 0.15, 2)
    for z in range(hu.shape[0]):
        away = np.hypot(rows - centre[0] - drift[0] * z, columns - centre[1] - drift[1] * z)
        for reach, value in ((1.0, -100), (0.75, 55), (0.28, 700), (0.15, 80)):
            hu[z][free[z] & (away < reach * radius)] = value


def view(
    hu: np.ndarray, structures: np.ndarray, rng: np.random.Generator, spacing_mm: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return what a scan shows of the body: often not its ends, at times not its sides."""
    slices, rows, columns = hu.shape
    if rng.random() < 0.5:
        shortest, longest = _SLAB_MM if rng.random() < _SLABS else _SCAN_MM
        length = min(round(rng.uniform(shortest, longest) / spacing_mm), slices)
        start = rng.integers(0, slices - length + 1)
        hu, structures = hu[start : start + length], structures[start : start + length]
    if rng.random() < 0.25:
        y, x = np.indices((rows, columns))
        centre = (rows / 2 + rng.normal(0, 5), columns / 2 + rng.normal(0, 5))
        radius = rng.uniform(0.34, 0.5) * columns
        outside = np.hypot(y - centre[0], x - centre[1]) > radius
        hu, structures = hu.copy(), structures.copy()
        hu[:, outside] = rng.choice((-1024, -1000))
        structures[:, outside] = 0
        kept = ~outside
        at = (_extent(kept.any(1)), _extent(kept.any(0)))
        hu, structures = hu[:, at[0], at[1]], structures[:, at[0], at[1]]
    return np.ascontiguousarray(hu), np.ascontiguousarray(structures)


def _extent(present: np.ndarray) -> slice:
    found = np.flatnonzero(present)
    return slice(int(found[0]), int(found[-1]) + 1)


def acquire(hu: np.ndarray, rng: np.random.Generator, spacing_mm: float) -> np.ndarray:
    """Return `hu` as some scanner gives it: slice thickness, kernel, shading, noise."""
    hu = _thicken(hu, rng, spacing_mm)
    kernel = rng.uniform(0, 0.9)
    hu = blur(hu, (0.0, kernel, kernel))
    if rng.random() < 0.25:
        hu = hu + np.float32(rng.uniform(0.3, 1.2)) * (hu - blur(hu, (0.0, 1.0, 1.0)))
    hu = hu + np.float32(rng.uniform(0, 8)) * smooth_noise(rng, hu.shape, 45.0)
    noise = rng.standard_normal(hu.shape, dtype=np.float32)
    grain = rng.uniform(0, 0.8)
    noise = blur(noise, (0.0, grain, grain))
    wanted = np.exp(rng.uniform(np.log(3), np.log(38)))
    noisy: np.ndarray = hu + noise * np.float32(wanted / max(float(noise.std()), 1e-6))
    return noisy


def _thicken(hu: np.ndarray, rng: np.random.Generator, spacing_mm: float) -> np.ndarray:
    """Average over thick slices and interpolate between them, as resampling will."""
    thick = rng.uniform(1, 8) / spacing_mm
    if thick <= 1.2 or len(hu) < 4 * thick:
        return hu
    hu = blur(hu, (thick / 3.5, 0.0, 0.0))
    at = np.arange(len(hu)) / thick
    low = np.floor(at)
    last = len(hu) - 1
    below = np.minimum(np.round(low * thick), last).astype(int)
    above = np.minimum(np.round((low + 1) * thick), last).astype(int)
    part = (at - low).astype(np.float32)[:, None, None]
    result: np.ndarray = hu[below] * (1 - part) + hu[above] * part
    return result
