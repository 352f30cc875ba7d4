"""Stored values to intensities, one slice at a time."""

from dataclasses import dataclass

import numpy as np

_WHOLE = np.iinfo(np.int16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescale:
    """The modality transformation of one frame.

    Parameters
    ----------
    slope, intercept
        intensity = stored * slope + intercept.
    padding
        First and last stored value of pixels that were never measured; None: all were.
    fill
        Intensity that such pixels get instead. Rescaled, GE's -2000 would become -3024.
    """

    slope: float
    intercept: float
    padding: tuple[int, int] | None
    fill: int

    def apply(self, stored: np.ndarray, missing: int = 0) -> tuple[np.ndarray, np.ndarray | None]:
        """Return one slice's intensities and its padding.

        Parameters
        ----------
        stored
            (row, column), an integer type of at most 16 bits.
        missing
            How many pixels at its end are not in the file; they count as padding.

        Returns
        -------
        tuple
            int16 where every intensity is a whole number that fits, else float32; and the
            boolean mask of padding, None where there is none.
        """
        padded = self._padded(stored, missing)
        if self._stays_whole(stored, padded):
            # Modulo 2^16 in int16, which is exact because every result fits.
            slope, intercept = (
                np.int64(number).astype(np.int16) for number in (self.slope, self.intercept)
            )
            values: np.ndarray = stored.astype(np.int16)
            values *= slope
            values += intercept
        else:
            values = stored.astype(np.float64) * self.slope + self.intercept
        if padded is not None:
            values[padded] = self.fill
        return as_intensities(values), padded

    def _stays_whole(self, stored: np.ndarray, padded: np.ndarray | None) -> bool:
        """Whether whole numbers stay whole and fit int16, padding apart."""
        if not (self.slope.is_integer() and self.intercept.is_integer()):
            return False
        if self._fits(stored):
            return True
        return padded is not None and self._fits(stored[~padded])

    def _fits(self, stored: np.ndarray) -> bool:
        if stored.size == 0:
            return True
        ends = (int(end) * self.slope + self.intercept for end in (stored.min(), stored.max()))
        return all(_WHOLE.min <= end <= _WHOLE.max for end in ends)

    def _padded(self, stored: np.ndarray, missing: int) -> np.ndarray | None:
        if self.padding is None and not missing:
            return None
        mask = np.zeros(stored.shape, dtype=bool)
        if self.padding is not None:
            mask = (stored >= self.padding[0]) & (stored <= self.padding[1])
        mask.flat[stored.size - missing :] = True
        return mask if mask.any() else None


def as_intensities(values: np.ndarray) -> np.ndarray:
    """Return `values` as int16 if each is a whole number that fits, else as float32."""
    if values.dtype == np.int16:
        return values
    fits = values.min() >= _WHOLE.min and values.max() <= _WHOLE.max
    if fits and (values.dtype.kind in "iu" or np.array_equal(values, np.rint(values))):
        return values.astype(np.int16)
    return values.astype(np.float32)
