"""Whether headers belong to one series: nobody's slices are mixed with another's."""

from collections.abc import Callable, Sequence

from viscera.domain.sources import MODALITIES, SINGLE_FRAME
from viscera.errors import ConflictingInstance, MixedSeries
from viscera.series.headers import Header


def without_repeats(headers: Sequence[Header]) -> tuple[Header, ...]:
    """Return each SOP instance once.

    Raises
    ------
    ConflictingInstance
        If one SOP Instance UID stands on two files whose data sets differ.
    """
    known: dict[str, Header] = {}
    for header in headers:
        first = known.setdefault(header.sop_uid, header)
        if first.sha256 != header.sha256:
            raise ConflictingInstance(
                f"instance {header.sop_uid} came twice with different bytes, expected one: "
                f"send each instance under a UID of its own"
            )
    return tuple(known.values())


def refuse_mixed(headers: Sequence[Header]) -> None:
    """Refuse images of two patients, studies, series, modalities or frames of reference.

    Parameters
    ----------
    headers
        Of the images alone; localisers among them may have their own frame of reference.

    Raises
    ------
    MixedSeries
        With one instance of each side; patients are compared by digest and never shown.
    """
    stackable = [header for header in headers if header.slices]
    _refuse_two(headers, "patients", lambda header: header.patient)
    _refuse_two(headers, "studies", lambda header: header.study_uid)
    _refuse_two(headers, "series", lambda header: header.series_uid)
    _refuse_two(stackable, "SOP classes", lambda header: header.sop_class_uid)
    _refuse_two(headers, "modalities", lambda header: MODALITIES[header.sop_class_uid])
    if not _have_one_frame_of_reference_each(stackable):
        _refuse_two(stackable, "frames of reference", lambda header: header.frame_of_reference_uid)


def _have_one_frame_of_reference_each(stackable: Sequence[Header]) -> bool:
    """Whether every slice names a frame of reference of its own.

    Some anonymisers replace UIDs instance by instance (LIDC-IDRI at TCIA is such data). Then
    the UID says nothing, and the positions alone decide whether the slices form a grid.
    """
    single = all(header.sop_class_uid in SINGLE_FRAME for header in stackable)
    uids = {header.frame_of_reference_uid for header in stackable}
    return single and len(uids) == len(stackable) > 2


def _refuse_two(headers: Sequence[Header], what: str, value: Callable[[Header], object]) -> None:
    first: dict[object, str] = {}
    for header in headers:
        first.setdefault(value(header), header.sop_uid)
    if len(first) > 1:
        one, other = list(first.values())[:2]
        raise MixedSeries(
            f"{len(first)} {what} in one series, expected one: instances {one} and {other} "
            f"disagree; send them as series of their own"
        )
