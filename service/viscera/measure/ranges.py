"""The organs' usual and possible volumes, as `organ_volumes.toml` has them with their sources."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

TABLE = "organ_volumes.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeRange:
    """How large one organ of an adult is, in mL; see the table for what the words mean."""

    usual_ml: tuple[float, float]
    possible_ml: tuple[float, float]


@cache
def volume_ranges() -> Mapping[str, VolumeRange]:
    """Return the ranges by AMOS's names. Read once: the table is a part of the program."""
    table = tomllib.loads(files(__package__).joinpath(TABLE).read_text(encoding="utf-8"))
    return {
        name: VolumeRange(usual_ml=tuple(row["usual"]), possible_ml=tuple(row["possible"]))
        for name, row in table["organs"].items()
    }
