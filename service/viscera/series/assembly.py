"""A submission's files in, its stacks out: read, compare, leave out, build."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from viscera.config import SeriesSettings
from viscera.domain.sources import MODALITIES, SeriesFacts, SourceFrame, Stack
from viscera.errors import (
    GeometryMismatch,
    IncompleteSeries,
    NotAnImageSeries,
    RejectedInstance,
    UnusableSeries,
)
from viscera.series.grouping import group_by_plane
from viscera.series.headers import Header, Slice, read_header
from viscera.series.identity import refuse_mixed, without_repeats
from viscera.series.image_types import is_original, is_reformat
from viscera.series.ordering import identity
from viscera.series.stacks import Refused, build_stack, build_stacks


@dataclass(frozen=True, slots=True, kw_only=True)
class Ignored:
    """Frames that are not meant to be stacked."""

    frames: int
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembly:
    """What a series holds: stacks, refused groups and what was left out."""

    facts: SeriesFacts
    stacks: tuple[Stack, ...]
    refused: tuple[Refused, ...]
    ignored: tuple[Ignored, ...]


def assemble(paths: Sequence[Path], settings: SeriesSettings) -> Assembly:
    """Return what a series holds, with at least one usable stack.

    Parameters
    ----------
    paths
        Its files, in any order; the answer does not depend on it.
    settings
        Limits and tolerances.

    Raises
    ------
    UnusableSeries
        As `examine`; and where no stack is usable, why the largest is not.
    RejectedInstance
        As `examine`.
    """
    assembly = examine(paths, settings)
    if not assembly.stacks:
        raise assembly.refused[0].error
    return assembly


def examine(paths: Sequence[Path], settings: SeriesSettings) -> Assembly:
    """Return what a series holds, also where no stack is usable: for `viscera why`.

    Raises
    ------
    InvalidUID
        If a UID is missing or breaks PS3.5 section 9.
    DatasetMismatch
        If a file cannot be parsed, or an element is not of its type.
    ConflictingInstance
        If one SOP Instance UID stands on two files whose data sets differ.
    MixedSeries
        If there are two patients, studies, series or frames of reference.
    GeometryMismatch
        If a slice does not say where it lies.
    NotAnImageSeries
        If nothing is a CT or MR slice that can be stacked.
    UndecodablePixels
        If a data set is deflated.
    """
    headers = _read(paths)
    images = [header for header in headers if header.is_image]
    refuse_mixed(images)
    slices, reformats = _without_reformats(images)
    ignored = _ignored([because for header in headers for because in header.left_out], reformats)
    if not slices:
        raise _not_an_image_series(headers, ignored)
    facts = _facts(images)
    stacks, refused = build_stacks(slices, facts, settings)
    return Assembly(facts=facts, stacks=stacks, refused=refused, ignored=ignored)


def restack(
    paths: Sequence[Path], frames: tuple[SourceFrame, ...], settings: SeriesSettings
) -> Stack:
    """Build again the very stack that a job was planned with, whatever else came since.

    Parameters
    ----------
    paths
        All files of the submission; late ones are no matter.
    frames
        In slice order, as planned.
    settings
        Limits and tolerances.

    Raises
    ------
    IncompleteSeries
        If a frame is not in the files any more.
    GeometryMismatch
        If the files no longer give these frames in this order.
    UnusableSeries, RejectedInstance
        As `examine`.
    """
    wanted = {(source.sop_uid, source.frame) for source in frames}
    uids = {source.sop_uid for source in frames}
    headers = _read(paths, uids)
    refuse_mixed([header for header in headers if header.is_image])
    slices = [each for header in headers for each in header.slices if identity(each) in wanted]
    if len(slices) != len(frames):
        raise IncompleteSeries(
            f"{len(frames) - len(slices)} of {len(frames)} planned frames are not in the files "
            f"any more: send the series again"
        )
    if len(group_by_plane(slices)) != 1:
        raise GeometryMismatch("the planned frames do not lie in parallel planes any more")
    stack = build_stack(slices, _facts(headers), settings)
    if tuple(frame.source for frame in stack.frames) != frames:
        raise GeometryMismatch(
            "the files do not give the planned frames in their order any more: plan again"
        )
    return stack


def _read(paths: Sequence[Path], only: set[str] | None = None) -> tuple[Header, ...]:
    """Read all headers in an order of their own; `only` keeps these SOP instances.

    Two files under one UID say more than a third that is damaged, so they are named first.
    """
    headers: list[Header] = []
    errors: list[RejectedInstance | UnusableSeries] = []
    for path in paths:
        try:
            headers.append(read_header(path))
        except (RejectedInstance, UnusableSeries) as error:
            errors.append(error)
    if only is not None:
        headers = [header for header in headers if header.sop_uid in only]
    once = without_repeats(sorted(headers, key=lambda header: (header.sop_uid, header.sha256)))
    if errors and only is None:
        raise min(errors, key=str)
    return once


def _without_reformats(images: Sequence[Header]) -> tuple[list[Slice], int]:
    """Leave out what was computed from originals of the same series; say how many frames."""
    slices = [each for header in images for each in header.slices]
    if not any(is_original(each.frame.image_type) for each in slices):
        return slices, 0
    kept = [each for each in slices if not is_reformat(each.frame.image_type)]
    return kept, len(slices) - len(kept)


def _ignored(left_out: Sequence[str], reformats: int) -> tuple[Ignored, ...]:
    counts = Counter(left_out)
    if reformats:
        counts["reformatted from originals of the same series"] = reformats
    return tuple(Ignored(frames=counts[why], because=why) for why in sorted(counts))


def _facts(headers: Sequence[Header]) -> SeriesFacts:
    first = next(header for header in headers if header.slices)
    return SeriesFacts(
        study_uid=first.study_uid,
        series_uid=first.series_uid,
        sop_class_uid=first.sop_class_uid,
        modality=MODALITIES[first.sop_class_uid],
        frame_of_reference_uid=first.frame_of_reference_uid,
        description=first.description,
        body_part=first.body_part,
        patient_sex=first.patient_sex,
    )


def _not_an_image_series(headers: Sequence[Header], ignored: Sequence[Ignored]) -> NotAnImageSeries:
    seen = "; ".join(f"{each.frames} x {each.because}" for each in ignored) or "no files"
    series = headers[0].series_uid if headers else "without instances"
    return NotAnImageSeries(f"series {series} holds no CT or MR slice that can be stacked: {seen}")
