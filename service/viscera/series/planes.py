"""Where a slice lies: DICOM's plane attributes, checked one by one (PS3.3 C.7.6.2)."""

import math

from viscera.errors import GeometryMismatch
from viscera.series.elements import Elements

_FARTHEST_MM = 1e5
_SPACINGS_MM = (1e-3, 1e3)
_ORTHONORMAL = 1e-2
"""Peers round direction cosines, some to two decimals; the grid built from them is affine
anyway, so this only has to refuse nonsense."""


def matrix_of(elements: Elements) -> tuple[int, int]:
    """Return (rows, columns); `GeometryMismatch` where there are none."""
    rows, columns = elements.whole("Rows"), elements.whole("Columns")
    if not rows or not columns:
        raise GeometryMismatch(f"{elements.who} has no Rows and Columns: send it again")
    return rows, columns


def position_of(elements: Elements | None, who: str) -> tuple[float, float, float]:
    """Return ImagePositionPatient in LPS mm; `GeometryMismatch` where it is no position."""
    keyword = "ImagePositionPatient"
    match _numbers(elements, keyword):
        case (x, y, z) if max(abs(x), abs(y), abs(z)) <= _FARTHEST_MM:
            return (x, y, z)
    raise _bad(who, keyword, "three finite numbers in mm")


def orientation_of(
    elements: Elements | None, who: str
) -> tuple[float, float, float, float, float, float]:
    """Return ImageOrientationPatient; `GeometryMismatch` unless two orthogonal unit vectors."""
    keyword = "ImageOrientationPatient"
    match _numbers(elements, keyword):
        case (a, b, c, d, e, f) if _is_orthonormal((a, b, c), (d, e, f)):
            return (a, b, c, d, e, f)
    raise _bad(who, keyword, "two orthogonal unit vectors")


def spacing_of(elements: Elements | None, who: str) -> tuple[float, float]:
    """Return PixelSpacing in mm, (between rows, between columns); `GeometryMismatch` if none."""
    keyword = "PixelSpacing"
    match _numbers(elements, keyword):
        case (rows, columns) if all(
            _SPACINGS_MM[0] <= spacing <= _SPACINGS_MM[1] for spacing in (rows, columns)
        ):
            return (rows, columns)
    raise _bad(who, keyword, "two numbers in mm above zero")


def _numbers(elements: Elements | None, keyword: str) -> tuple[float, ...]:
    numbers = elements.floats(keyword) if elements else ()
    return numbers if numbers and all(map(math.isfinite, numbers)) else ()


def _is_orthonormal(row: tuple[float, ...], column: tuple[float, ...]) -> bool:
    lengths = math.hypot(*row), math.hypot(*column)
    cosine = sum(x * y for x, y in zip(row, column, strict=True))
    return max(abs(lengths[0] - 1), abs(lengths[1] - 1), abs(cosine)) <= _ORTHONORMAL


def _bad(who: str, keyword: str, expected: str) -> GeometryMismatch:
    return GeometryMismatch(
        f"{who}: {keyword} is missing or no use, expected {expected}: "
        f"without it nobody knows where the slice lies"
    )
