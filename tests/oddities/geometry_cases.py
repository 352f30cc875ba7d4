"""Where slices lie: gaps, collisions, tilt, orientation, order."""

from collections.abc import Callable, Sequence

import numpy as np

from oddities.case import Case, Files, change, datasets, moved, plain, scanned, slices, values

GROUP = "Geometry"
X, Y, Z = np.eye(3)


def _without(*gone: int) -> Files:
    hu = values()
    s = slices(hu)
    keep = [k for k in range(len(hu)) if k not in gone]
    made = datasets(s)
    return Files(datasets=[made[k] for k in keep], scanned=(scanned(s, hu, keep=keep),))


def _doubled() -> Files:
    """One slice twice, under two UIDs, with other pixels: nobody can say which is meant."""
    hu, other = values(), values(seed=8)
    s = slices(hu)
    again = datasets(slices(other), first_number=101)[4]
    return Files(
        datasets=[*datasets(s), again],
        scanned=(scanned(s, hu),),
        never="two slices at one place",
    )


def _at(positions: np.ndarray) -> Files:
    hu = values()
    s = slices(hu)
    made = [moved(ds, p) for ds, p in zip(datasets(s), positions, strict=True)]
    return Files(datasets=made, scanned=(scanned(s, hu, positions=positions),))


def _heights(gaps_mm: Sequence[float]) -> np.ndarray:
    heights = 10.0 + np.concatenate([[0], np.cumsum(gaps_mm)])
    return np.column_stack([np.full(len(heights), -50.0), np.full(len(heights), -40.0), heights])


def _jitter() -> Files:
    """Half a percent of the spacing either way, which is how rounded positions look."""
    wobble = np.array([0, 1, -1, 1, 0, -1, 1, 0, -1, 0]) * 0.0125
    positions = _heights([2.5] * 9)
    positions[:, 2] += wobble
    return _at(positions)


def _beside() -> Files:
    positions = _heights([2.5] * 9)
    positions[6, 0] += 3.0
    return _at(positions)


def _tilted(degrees: float) -> Files:
    return plain(step=tuple(2.5 * (Z + np.tan(np.radians(degrees)) * Y)))


def _oblique() -> Files:
    a, b = np.radians([20, 35])
    row = np.array([np.cos(a), np.sin(a), 0])
    column = np.array([-np.sin(a) * np.cos(b), np.cos(a) * np.cos(b), np.sin(b)])
    return plain(orientation=(*row, *column), step=tuple(2.5 * np.cross(row, column)))


def _shuffled() -> Files:
    """File names and InstanceNumber follow another order than the positions."""
    files = plain()
    order = np.random.default_rng(3).permutation(len(files.datasets))
    made = [
        change(files.datasets[k], InstanceNumber=number)
        for number, k in enumerate(order.tolist(), start=1)
    ]
    return Files(datasets=made, scanned=files.scanned)


def _short(count: int) -> Files:
    hu = values()[:count]
    return plain(hu)


def _no_position() -> Files:
    files = plain()
    change(files.datasets[3], ImagePositionPatient=None)
    return files


def _case(
    name: str, make: Callable[[], Files], *, usable: bool, names: tuple[str, ...] = ()
) -> Case:
    return Case(group=GROUP, name=name, make=make, usable=usable, names=names)


CASES = (
    _case("nothing odd: an axial series", plain, usable=True),
    _case(
        "one slice missing",
        lambda: _without(4),
        usable=False,
        names=("IncompleteSeries", "(-50.00, -40.00, 20.00)"),
    ),
    _case(
        "two neighbouring slices missing",
        lambda: _without(3, 4),
        usable=False,
        names=("2 slices", "(-50.00, -40.00, 17.50)", "20.00)"),
    ),
    _case(
        "two slices at one place",
        _doubled,
        usable=False,
        names=("CollidingSlices", "(-50.00, -40.00, 20.00)"),
    ),
    _case(
        "one gap half as wide again",
        lambda: _at(_heights([2.5] * 4 + [3.75] + [2.5] * 4)),
        usable=False,
        names=("UnevenSpacing", "(-50.00, -40.00, 20.00)"),
    ),
    _case(
        "2.5 mm gaps, then 4 mm",
        lambda: _at(_heights([2.5] * 5 + [4.0] * 4)),
        usable=False,
        names=("UnevenSpacing",),
    ),
    _case("positions that jitter by 0.5 %", _jitter, usable=True),
    _case(
        "one slice 3 mm beside the others",
        _beside,
        usable=False,
        names=("GeometryMismatch", "(-47.00, -40.00, 25.00)"),
    ),
    _case("files and InstanceNumber in random order", _shuffled, usable=True),
    _case(
        "from the head down",
        lambda: plain(first_position=(-50, -40, 60), step=(0, 0, -2.5)),
        usable=True,
    ),
    _case(
        "flipped in plane: (-1,0,0,0,-1,0)",
        lambda: plain(orientation=(-1, 0, 0, 0, -1, 0), first_position=(50, 40, 10)),
        usable=True,
    ),
    _case(
        "rows mirrored: (-1,0,0,0,1,0)",
        lambda: plain(orientation=(-1, 0, 0, 0, 1, 0), first_position=(50, -40, 10)),
        usable=True,
    ),
    _case(
        "sagittal",
        lambda: plain(orientation=(*Y, *-Z), step=tuple(2.5 * X)),
        usable=True,
    ),
    _case(
        "coronal",
        lambda: plain(orientation=(*X, *-Z), step=tuple(2.5 * Y)),
        usable=True,
    ),
    _case("oblique by 20 and 35 degrees", _oblique, usable=True),
    _case("gantry tilt of 4 degrees", lambda: _tilted(4), usable=True),
    _case(
        "gantry tilt of 18 degrees",
        lambda: _tilted(18),
        usable=False,
        names=("GeometryMismatch", "18.0 degrees"),
    ),
    _case("pixels of 0.5 x 1.5 mm", lambda: plain(spacing=(0.5, 1.5)), usable=True),
    _case("a single slice", lambda: _short(1), usable=False, names=("IncompleteSeries",)),
    _case("two slices", lambda: _short(2), usable=False, names=("IncompleteSeries",)),
    _case(
        "a slice without ImagePositionPatient",
        _no_position,
        usable=False,
        names=("GeometryMismatch", "ImagePositionPatient"),
    ),
)
