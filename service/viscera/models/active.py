"""Which version of a family is served under its bare name, and which was before.

``<repo>/<name>/active`` holds one version a line, the last one in force. Without the file the
newest version serves, as in a repository that nobody has activated anything in.
"""

import os
from pathlib import Path

from viscera.errors import InvalidRequest
from viscera.files.durable import sync_file, sync_folder

ACTIVE = "active"


def active_version(family: Path) -> str | None:
    """Return the version in force, None where none was activated."""
    history = _history(family)
    return history[-1] if history else None


def activate(family: Path, version: str) -> None:
    """Put `version` in force; the one before can be rolled back to."""
    if active_version(family) != version:
        _write(family, [*_history(family), version])


def previous_version(family: Path) -> str:
    """Return the version that was in force before the one that is.

    Raises
    ------
    InvalidRequest
        If there was none before.
    """
    history = _history(family)
    if len(history) < 2:
        raise InvalidRequest(
            f"no version of {family.name} was active before; name one: viscera model activate"
        )
    return history[-2]


def rollback(family: Path) -> None:
    """Put :func:`previous_version` in force again."""
    previous_version(family)
    _write(family, _history(family)[:-1])


def _history(family: Path) -> list[str]:
    try:
        return (family / ACTIVE).read_text(encoding="utf-8").split()
    except FileNotFoundError:
        return []


def _write(family: Path, history: list[str]) -> None:
    part = family / f".{ACTIVE}.{os.getpid()}"
    part.write_text("".join(f"{version}\n" for version in history), encoding="utf-8")
    sync_file(part)
    part.replace(family / ACTIVE)
    sync_folder(family)
