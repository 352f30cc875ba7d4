"""A body of two ellipses: a liver, a bladder, fat, skin and a bone, at 6 mm."""

import numpy as np
import pytest

from viscera.training.labelled import LabelledVolume, divide

SPACING_MM = 6.0
NAMED = {3: "Liver", 5: "urinary_bladder", 9: "hip left"}


def ball(shape: tuple[int, ...], centre: tuple[float, ...], radius: float) -> np.ndarray:
    away = sum((at - c) ** 2 for at, c in zip(np.indices(shape), centre, strict=True))
    return np.asarray(away <= radius**2)


@pytest.fixture(scope="session")
def volume() -> LabelledVolume:
    shape = (40, 60, 66)
    rows, columns = np.indices(shape[1:])
    away = np.hypot(rows - 30, columns - 33)
    hu = np.full(shape, -1000, np.int16)
    hu[:, away <= 26] = 40  # skin
    hu[:, away <= 25] = -100  # fat
    hu[:, away <= 18] = 50  # the wall and what lies inside
    found = np.zeros(shape, np.int64)
    for value, centre, radius, level in (
        (3, (28, 30, 25), 8, 60),
        (5, (8, 26, 33), 5, 5),
        (9, (10, 34, 44), 4, 400),
    ):
        inside = ball(shape, centre, radius)
        hu[inside], found[inside] = level, value
    hu[:, 58:, :] = 0  # a table
    return divide("small", hu, found, NAMED, SPACING_MM)
