"""What the values of a label map mean."""

import tomllib
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from viscera.domain.organs import AMOS
from viscera.errors import InvalidRequest

AMOS_NAMES = {label.value: label.name for label in AMOS}
_SIDES = ("prediction", "reference")


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """Names by value, as the user says; None: as each file says, else AMOS's.

    Several values may have one name; a value without a name is background.
    """

    prediction: Mapping[int, str] | None = None
    reference: Mapping[int, str] | None = None


def common(prediction: AbstractSet[str], reference: AbstractSet[str]) -> tuple[str, ...]:
    """Return the names that both sides know, AMOS's first and in its order.

    Raises
    ------
    InvalidRequest
        If there is none.
    """
    names = prediction & reference
    if not names:
        raise InvalidRequest("prediction and reference have no name in common; see --labels")
    amos = [name for name in AMOS_NAMES.values() if name in names]
    return (*amos, *sorted(names - set(amos)))


def read_naming(path: Path) -> Naming:
    """Read a map of values to names (TOML).

    Parameters
    ----------
    path
        ``1 = "spleen"`` for both sides at the top, or tables ``[prediction]`` and ``[reference]``
        with such lines. A side without a table is as its files say. A DICOM-SEG names its segments
        itself.

    Raises
    ------
    InvalidRequest
        If it is no such map.
    """
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidRequest(f"{path} cannot be read as TOML: {error}") from error
    tables = {key: value for key, value in tree.items() if isinstance(value, dict)}
    if unknown := [key for key in tables if key not in _SIDES]:
        raise InvalidRequest(f"{path}: [{unknown[0]}] is neither [prediction] nor [reference]")
    flat = {key: value for key, value in tree.items() if key not in tables}
    if flat and tables:
        raise InvalidRequest(f"{path}: give one map for both sides or tables for each, not both")
    if not tree:
        raise InvalidRequest(f'{path}: no line such as 1 = "spleen" in it')
    both = _mapping(flat, path) if flat else None
    sides = {key: _mapping(table, path) for key, table in tables.items()}
    return Naming(prediction=sides.get("prediction", both), reference=sides.get("reference", both))


def _mapping(table: Mapping[str, Any], path: Path) -> dict[int, str]:
    for key, name in table.items():
        if not key.isdecimal() or not 1 <= int(key) <= 255 or not isinstance(name, str) or not name:
            raise InvalidRequest(
                f'{path}: {key} should be a value from 1 to 255, as in 1 = "spleen"'
            )
    return {int(key): name for key, name in table.items()}
