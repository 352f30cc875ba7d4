"""Which prediction belongs to which reference: by the name of the case."""

from dataclasses import dataclass
from pathlib import Path

from viscera.errors import InvalidRequest

SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".dcm")
_RESULT_NAMES = {"labels", "segmentation"}
"""Files that `viscera segment` writes into a folder of each case: the folder is the name."""
_NO_LABEL_MAPS = {"report.dcm"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Two files of one case."""

    name: str
    prediction: Path
    reference: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Matching:
    """What was found in two folders."""

    cases: tuple[Case, ...]
    not_predicted: tuple[str, ...]
    """References without a prediction: a mean that leaves them out says too much."""
    without_reference: tuple[str, ...]


def find_cases(predictions: Path, reference: Path) -> Matching:
    """Match files by name.

    Parameters
    ----------
    predictions, reference
        Two files, which are one case whatever their names, or two folders. In a folder the case's
        name is the file's without its ending, so ``a.nii.gz`` belongs to ``a.mha``; of
        ``a/labels.nii.gz`` and ``a/segmentation.dcm``, as `viscera segment` writes them, it is the
        folder's.

    Raises
    ------
    InvalidRequest
        If one is a file and the other a folder, if two files have one name, or if no name occurs
        on both sides.
    """
    for path in (predictions, reference):
        if not path.exists():
            raise InvalidRequest(f"{path} does not exist")
    if predictions.is_file() and reference.is_file():
        case = Case(name=_name(reference), prediction=predictions, reference=reference)
        return Matching(cases=(case,), not_predicted=(), without_reference=())
    if predictions.is_file() or reference.is_file():
        raise InvalidRequest("give two files or two folders, not one of each")
    ours, theirs = _by_name(predictions), _by_name(reference)
    names = sorted(ours.keys() & theirs.keys())
    if not names:
        raise InvalidRequest(
            f"no label map in {predictions} has the name of one in {reference}; "
            f"{len(ours)} and {len(theirs)} were found with the endings {', '.join(SUFFIXES)}"
        )
    return Matching(
        cases=tuple(
            Case(name=name, prediction=ours[name], reference=theirs[name]) for name in names
        ),
        not_predicted=tuple(sorted(theirs.keys() - ours.keys())),
        without_reference=tuple(sorted(ours.keys() - theirs.keys())),
    )


def _by_name(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        if not path.name.lower().endswith(SUFFIXES) or path.name in _NO_LABEL_MAPS:
            continue
        name = _name(path, folder)
        if name in found:
            raise InvalidRequest(f"{found[name]} and {path} are both of case {name}; keep one")
        found[name] = path
    return found


def _name(path: Path, root: Path | None = None) -> str:
    stem = path.name
    for suffix in SUFFIXES:
        if stem.lower().endswith(suffix):
            stem = stem[: -len(suffix)]
            break
    inside = path.relative_to(root).parent if root else Path()
    if stem in _RESULT_NAMES and inside.parts:
        return inside.as_posix()
    return (inside / stem).as_posix()
