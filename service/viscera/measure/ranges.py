"""The organs' usual and possible volumes, as `organ_volumes.toml` has them with their sources."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

TABLE = "organ_volumes.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeRange:
    """How large one organ of an adult is, in mL; see the table for what the words mean."""

    usual_ml: tuple[float, float]
    possible_ml: tuple[float, float]


@cache
def volume_ranges() -> Mapping[str, VolumeRange]:
    """Return the ranges by AMOS's names."""
    return {
        name: VolumeRange(usual_ml=tuple(row["usual"]), possible_ml=tuple(row["possible"]))
        for name, row in volume_table()["organs"].items()
    }


@cache
def volume_table() -> dict[str, Any]:
    """Return the whole table, with sources. Read once: it is a part of the program."""
    text = files(__package__).joinpath(TABLE).read_text(encoding="utf-8")
    return tomllib.loads(text)
