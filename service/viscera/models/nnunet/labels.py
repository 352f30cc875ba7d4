"""nnU-Net's label names to the organs, or to what a mapping file says of them."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from viscera.domain.organs import AMOS, PROSTATE
from viscera.errors import ModelRefused
from viscera.models.nnunet.request import TOTALSEGMENTATOR

_AMOS = {label.name for label in AMOS}
_ALIASES = {
    "gallbladder": "gall bladder",
    "oesophagus": "esophagus",
    "arota": "aorta",  # as AMOS's own dataset.json spells it
    "inferior vena cava": "postcava",
    "ivc": "postcava",
    "urinary bladder": "bladder",
    "prostate uterus": "prostate/uterus",
    "right adrenal": "right adrenal gland",
    "left adrenal": "left adrenal gland",
}
_TOTALSEGMENTATOR: dict[str, str | dict[str, Any]] = {
    "spleen": "spleen",
    "kidney_right": "right kidney",
    "kidney_left": "left kidney",
    "gallbladder": "gall bladder",
    "esophagus": "esophagus",
    "liver": "liver",
    "stomach": "stomach",
    "aorta": "aorta",
    "inferior_vena_cava": "postcava",
    "pancreas": "pancreas",
    "adrenal_gland_right": "right adrenal gland",
    "adrenal_gland_left": "left adrenal gland",
    "duodenum": "duodenum",
    "urinary_bladder": "bladder",
    "prostate": {
        "name": PROSTATE.title.casefold(),
        "title": PROSTATE.title,
        "category": asdict(PROSTATE.category),
        "type": asdict(PROSTATE.type),
        "rgb": list(PROSTATE.rgb),
    },
}
"""Its class names, of versions 1 and 2, CT and MR. AMOS's label 15 is a uterus in women; its
prostate never is, so it keeps its own name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelTables:
    """Keys of a manifest's ``output`` table."""

    labels: list[str | dict[str, Any]]
    outputs: list[int]
    not_segmented: list[str]


def label_tables(names: Mapping[str, int], mapping: str | Path | None) -> LabelTables:
    """Return what the outputs become.

    Parameters
    ----------
    names
        Of the network's outputs, background included.
    mapping
        ``"totalsegmentator"``, a TOML file with a table ``labels``, or None: names are compared
        with AMOS's. In the file each of nnU-Net's names is given an AMOS name, a whole label
        table, or ``""`` where it is not to be reported.

    Raises
    ------
    ModelRefused
        If a name stays unknown, or two outputs become one label.
    """
    if mapping == TOTALSEGMENTATOR:
        wanted: Mapping[str, Any] = {name: _TOTALSEGMENTATOR.get(name, "") for name in names}
    elif mapping is None:
        wanted = {name: _amos_name(name) for name in names}
    else:
        wanted = _read(Path(mapping))
    foreground = sorted((n for n in names if names[n] != 0), key=names.__getitem__)
    if unknown := [name for name in foreground if wanted.get(name) is None]:
        raise ModelRefused(
            f"nobody said what the labels {', '.join(unknown)} are in DICOM's codes; give"
            " --labels FILE.toml with a table [labels] that gives each an AMOS name, a table with"
            ' title, category, type and rgb, or "" where it is not to be reported'
        )
    labels: list[str | dict[str, Any]] = []
    outputs = [0]
    for name in foreground:
        entry = wanted[name]
        outputs.append(0)
        if entry:
            labels.append({"name": name, **entry} if isinstance(entry, Mapping) else str(entry))
            outputs[-1] = len(labels)
    reported = [label for label in labels if isinstance(label, str)]
    if not labels:
        raise ModelRefused(
            "none of the network's labels would be reported; see --labels, or leave it out"
        )
    if len(set(reported)) != len(reported):
        raise ModelRefused(f"two outputs become one label: {', '.join(reported)}")
    return LabelTables(labels=labels, outputs=outputs, not_segmented=_missing(labels))


def joined(parts: Sequence[LabelTables]) -> tuple[LabelTables, list[list[int]]]:
    """Return the labels of a whole package, and for each part what its outputs become there.

    A label that two parts have is one.
    """
    labels: list[str | dict[str, Any]] = []
    outputs = []
    for part in parts:
        labels += [label for label in part.labels if label not in labels]
        own = [0, *(labels.index(label) + 1 for label in part.labels)]
        outputs.append([own[place] for place in part.outputs])
    return LabelTables(labels=labels, outputs=[], not_segmented=_missing(labels)), outputs


def _missing(labels: Sequence[str | dict[str, Any]]) -> list[str]:
    """Return AMOS's labels that are not reported; none where none is."""
    names = [label if isinstance(label, str) else label["name"] for label in labels]
    if PROSTATE.title.casefold() in names:  # what of label 15 the network can find
        names.append(PROSTATE.name)
    known = any(label.name in names for label in AMOS)
    return [label.name for label in AMOS if known and label.name not in names]


def _amos_name(name: str) -> str | None:
    plain = " ".join(name.replace("_", " ").casefold().split())
    found = _ALIASES.get(plain, plain)
    return found if found in _AMOS else None


def _read(path: Path) -> Mapping[str, Any]:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))["labels"]
    except (OSError, ValueError, KeyError) as error:
        raise ModelRefused(f"{path} is no TOML file with a table [labels]: {error}") from error
    if not isinstance(table, Mapping):
        raise ModelRefused(f"{path}: labels must be a table")
    return table
