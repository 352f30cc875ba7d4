"""What the values of one file are called: as it says, as the user says, or as AMOS has it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from viscera.domain.organs import AMOS, PROSTATE, UTERUS
from viscera.errors import InvalidRequest, UndecodablePixels
from viscera.evaluate.names import AMOS_NAMES

_VOLUMES = "volumes.json"
_NOT_SEGMENTED = "not_segmented"
_LABELS = (*AMOS, PROSTATE, UTERUS)
_BY_CODE = {
    (label.type.value, label.laterality.value if label.laterality else ""): label.name
    for label in _LABELS
}
_BY_TITLE = {word.casefold(): one.name for one in _LABELS for word in (one.name, one.title)}


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnNames:
    """The names of one file."""

    values: Mapping[int, str]
    """Of a DICOM-SEG: by segment number."""
    known: frozenset[str]
    """Those that it would have used too, had it found the organ: missing ones score nought."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """One organ of a volumes.json."""

    value: int
    name: str
    title: str


def own_names(path: Path, given: Mapping[int, str] | None) -> OwnNames:
    """Return what the values of a label map are called.

    Parameters
    ----------
    path
        The label map. A DICOM-SEG names its segments itself; of `labels.*` and `segmentation.dcm`
        as `viscera segment` writes them, the volumes.json beside them has the names.
    given
        What the user says, which goes before volumes.json; None: nothing.

    Raises
    ------
    UndecodablePixels
        If a DICOM-SEG cannot be read.
    InvalidRequest
        If volumes.json is none of ours.
    """
    if path.suffix.lower() == ".dcm":
        return _of_seg(path, given)
    rows = _rows_beside(path) if given is None and path.name.startswith("labels.") else None
    if rows is not None:
        given = {row.value: row.name for row in rows}
    values = AMOS_NAMES if given is None else given
    return OwnNames(values=values, known=frozenset(values.values()))


def _of_seg(path: Path, given: Mapping[int, str] | None) -> OwnNames:
    import pydicom

    rows = _rows_beside(path) if path.name == "segmentation.dcm" else None
    titles = {row.title: row.name for row in rows or ()}
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SegmentSequence"])
        values = {int(one.SegmentNumber): _name_of(one, titles) for one in header.SegmentSequence}
    except Exception as error:  # pydicom raises whatever the bytes lead it to
        raise UndecodablePixels(f"{path} cannot be read as a DICOM-SEG: {error}") from error
    others = AMOS_NAMES if rows is None else titles
    known = others.values() if given is None else given.values()
    return OwnNames(values=values, known=frozenset((*values.values(), *known)))


def _name_of(segment: Any, titles: Mapping[str, str]) -> str:
    """Return AMOS's name of a segment by its codes, else the one that its label is the title of."""
    code = segment.SegmentedPropertyTypeCodeSequence[0]
    sides = code.get("SegmentedPropertyTypeModifierCodeSequence") or [None]
    side = sides[0].CodeValue if sides[0] is not None else ""
    label = str(segment.SegmentLabel)
    if name := _BY_CODE.get((code.CodeValue, side)) or titles.get(label):
        return name
    return _BY_TITLE.get(label.casefold(), label)


def _rows_beside(path: Path) -> tuple[_Row, ...] | None:
    """Return the organs that the model of a result knows, by its volumes.json; None: it has none.

    What the model lacks stands there with AMOS's value, which may be another organ's here.
    """
    volumes = path.parent / _VOLUMES
    if not volumes.exists():
        return None
    try:
        organs = json.loads(volumes.read_text(encoding="utf-8"))["organs"]
        return tuple(
            _Row(value=int(one["label"]), name=str(one["name"]), title=str(one["title"]))
            for one in organs
            if one["presence"] != _NOT_SEGMENTED
        )
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InvalidRequest(
            f"{volumes} does not say what the values of {path.name} are; remove it, or give a map:"
            " --labels"
        ) from error
