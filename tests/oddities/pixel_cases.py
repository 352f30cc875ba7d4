"""What stored values mean: bits, signs, padding, rescale, and files that are cut off."""

from collections.abc import Callable

import numpy as np
from pydicom.uid import MRImageStorage

import synthetic
from oddities.case import UIDS, Case, Files, change, datasets, plain, scanned, values

GROUP = "Stored values"
PADDING = -2000


def _stored(
    stored: np.ndarray,
    meaning: np.ndarray,
    intercept: float = 0.0,
    slope: float = 1.0,
    **changes: object,
) -> Files:
    """Return a series of `stored` values that mean `meaning`."""
    count = len(stored)
    s = synthetic.Slices(
        stored=stored, slopes=[slope] * count, intercepts=[intercept] * count, **UIDS
    )
    return Files(datasets=datasets(s, **changes), scanned=(scanned(s, meaning),))


def _twelve_bits(*, signed: bool) -> Files:
    """Return 12 bits of 16; the four above them hold an overlay, as old scanners stored it."""
    hu = np.clip(values(), -1024, 1023 if signed else 3000)
    words = hu if signed else hu + 1024
    overlay = np.random.default_rng(1).integers(0, 16, hu.shape) << 12
    stored = ((words & 0xFFF) | overlay).astype(np.uint16)
    return _stored(
        stored.view(np.int16) if signed else stored,
        hu,
        intercept=0.0 if signed else -1024.0,
        BitsStored=12,
        HighBit=11,
    )


def _padded(last: int = PADDING) -> Files:
    """Return stored values without measurement outside a circle; they mean air."""
    hu = values()
    rows, columns = np.indices(hu.shape[1:])
    outside = (rows - 12) ** 2 + (columns - 10) ** 2 > 9**2
    stored = hu + 1024
    stored[:, outside] = np.where(rows[outside] % 2, PADDING, last)
    meaning = hu.copy()
    meaning[:, outside] = -1024
    files = _stored(stored, meaning, intercept=-1024.0)
    for ds in files.datasets:
        ds.add_new("PixelPaddingValue", "SS", PADDING)
        if last != PADDING:
            ds.add_new("PixelPaddingRangeLimit", "SS", last)
    return files


def _mr(*drop: str) -> Files:
    """Return an MR series without some of its rescale elements."""
    grey = values() + 1024
    changes: dict[str, object] = {"SOPClassUID": MRImageStorage, "Modality": "MR"}
    return _stored(grey.astype(np.uint16), grey, **changes, **dict.fromkeys(drop))


def _own_rescale() -> Files:
    hu = values()
    slopes = [1.0 + k % 3 for k in range(len(hu))]
    intercepts = [-1024.0 - 7 * k for k in range(len(hu))]
    shape = (-1, 1, 1)
    a, b = np.reshape(slopes, shape), np.reshape(intercepts, shape)
    stored = np.rint((hu - b) / a).astype(np.uint16)
    s = synthetic.Slices(stored=stored, slopes=slopes, intercepts=intercepts, **UIDS)
    return Files(datasets=datasets(s), scanned=(scanned(s, stored * a + b),))


def _changed(**changes: object) -> Files:
    files = plain()
    for ds in files.datasets:
        change(ds, **changes)
    return files


def _cut(pixels: int, never: str = "") -> Files:
    """Return a series one of whose files ends early; what is missing counts as air."""
    files = plain()
    (truth,) = files.scanned
    ds = files.datasets[4]
    ds.PixelData = ds.PixelData[: len(ds.PixelData) - 2 * pixels]
    hu = truth.voxels.copy()
    hu[4].flat[hu[4].size - pixels :] = -1024
    return Files(
        datasets=files.datasets,
        scanned=(scanned(synthetic.Slices(stored=hu, **UIDS), hu),),
        never=never,
    )


def _case(
    name: str, make: Callable[[], Files], *, usable: bool = True, names: tuple[str, ...] = ()
) -> Case:
    return Case(group=GROUP, name=name, make=make, usable=usable, names=names)


CASES = (
    _case("signed, 16 bits", lambda: _stored(values(), values())),
    _case("unsigned, 12 of 16 bits, an overlay above", lambda: _twelve_bits(signed=False)),
    _case("signed, 12 of 16 bits, an overlay above", lambda: _twelve_bits(signed=True)),
    _case("PixelPaddingValue -2000 around a circle", _padded),
    _case("padding from -2000 to -1990", lambda: _padded(-1990)),
    _case("MONOCHROME1", lambda: _changed(PhotometricInterpretation="MONOCHROME1")),
    _case("each slice with its own slope and intercept", _own_rescale),
    _case(
        "a slope of 0.25",
        lambda: _stored(
            ((values() + 1024) * 4).astype(np.uint16), values(), intercept=-1024.0, slope=0.25
        ),
    ),
    _case("an MR series without RescaleType", lambda: _mr("RescaleType")),
    _case(
        "an MR series without any rescale",
        lambda: _mr("RescaleSlope", "RescaleIntercept", "RescaleType"),
    ),
    _case(
        "a CT series without any rescale",
        lambda: _changed(RescaleSlope=None, RescaleIntercept=None, RescaleType=None),
        usable=False,
        names=("UndecodablePixels", "has no HU"),
    ),
    _case("a CT with RescaleType US, as old scanners write", lambda: _changed(RescaleType="US")),
    _case(
        "a CT whose numbers are electron densities (RescaleType EDW)",
        lambda: _changed(RescaleType="EDW"),
        usable=False,
        names=("UndecodablePixels", "RescaleType"),
    ),
    _case("one file cut off by 4 % of its pixels", lambda: _cut(19)),
    _case(
        "one file cut off by half",
        lambda: _cut(240, "a slice of which half is missing"),
        usable=False,
        names=("UndecodablePixels", "truncated"),
    ),
)
