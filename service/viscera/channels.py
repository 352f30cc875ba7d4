"""Several series become one job: a stack for each channel of a model, on one grid."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from viscera import series
from viscera.config import SeriesRule, SeriesSettings
from viscera.domain.models import Model
from viscera.domain.sources import Channels, Stack, Submission
from viscera.errors import GeometryMismatch, NoModelForSeries, RejectedInstance, UnusableSeries


def stacks_of(
    model: Model, channels: Sequence[Sequence[Path]], settings: SeriesSettings
) -> list[Stack]:
    """Return the one stack of each channel, in the model's order.

    Parameters
    ----------
    channels
        Files of one series for each of the model's channels.

    Raises
    ------
    NoModelForSeries
        If their number is not the model's, or one holds no stack or several.
    UnusableSeries, RejectedInstance
        As `series.examine`.
    """
    require_channels(model, len(channels))
    stacks = []
    for name, paths in zip(model.channels, channels, strict=True):
        found = series.examine(paths, settings).stacks
        if len(found) != 1:
            raise NoModelForSeries(
                f"channel {name} of {model.full_name} takes one stack, {len(found)} were found"
            )
        stacks.append(found[0])
    return stacks


def by_channel(model: Model, named: Channels, paths: Sequence[Path]) -> list[list[Path]]:
    """Return the files of each of the model's channels, in its order.

    Parameters
    ----------
    named
        Which series is which channel, as a client said.

    Raises
    ------
    NoModelForSeries
        If other channels are named than the model has.
    RejectedInstance, UnusableSeries
        If a header cannot be read.
    """
    require_names(model, [name for name, _ in named])
    files: defaultdict[str, list[Path]] = defaultdict(list)
    for path in paths:
        files[series.read_header(path).series_uid].append(path)
    series_uids = dict(named)
    return [files[series_uids[name]] for name in model.channels]


@dataclass(frozen=True, slots=True)
class Gathered:
    """What of a job's channels is there."""

    stacks: dict[str, Stack]
    """By the channel's name."""
    beside: tuple[str, ...]
    """Ids of the submissions that hold those of other series."""
    missing: tuple[str, ...]


def gather(
    stack: Stack,
    rule: SeriesRule,
    model: Model,
    others: Sequence[Submission],
    settings: SeriesSettings,
) -> Gathered:
    """Look for the other channels of a job in the series of the same study.

    Parameters
    ----------
    stack
        Of the series that has just closed; `rule` matches it.
    others
        The study's other series; what cannot be stacked there is passed over.

    Raises
    ------
    NoModelForSeries
        If the rule's channels are not the model's, or two series could be one of them.
    GeometryMismatch
        If a channel's only series lies on another grid.
    """
    require_names(model, [one.channel for one in rule.channels])
    own = series.channel_of(rule, stack)
    assert own is not None
    stacks, beside = {own: stack}, []
    matching: defaultdict[str, list[tuple[str, Stack]]] = defaultdict(list)
    for submission in others:
        for other in _usable(submission, settings):
            matching[series.channel_of(rule, other) or ""].append((submission.id, other))
    for name in model.channels:
        found = matching[name] if name != own else []
        fitting = [one for one in found if not _difference(stack, one[1])]
        if len(fitting) > 1:
            uids = ", ".join(one.facts.series_uid for _, one in fitting)
            raise NoModelForSeries(
                f"rule {rule.name}: channel {name} could be each of the series {uids}; make its"
                " description or modality tell them apart"
            )
        if found and not fitting:
            require_one_place({own: stack, name: found[0][1]})
        for submission_id, one in fitting:
            stacks[name] = one
            beside.append(submission_id)
    missing = tuple(name for name in model.channels if name not in stacks)
    return Gathered(stacks=stacks, beside=tuple(beside), missing=missing)


def _usable(submission: Submission, settings: SeriesSettings) -> tuple[Stack, ...]:
    try:
        return series.examine(submission.paths, settings).stacks
    except (UnusableSeries, RejectedInstance, OSError):
        return ()  # its own plan says why, or it has expired


def require_channels(model: Model, count: int) -> None:
    """Refuse another number of series than `model` has channels."""
    if len(model.channels) != count:
        raise NoModelForSeries(
            f"model {model.full_name} takes {len(model.channels)} series at once"
            f" ({', '.join(model.channels)}), not {count}; `viscera segment` takes several inputs,"
            " a gRPC header and series.rules name channels"
        )


def require_names(model: Model, names: Sequence[str]) -> None:
    """Refuse other names than those of the model's channels."""
    if sorted(names) != sorted(model.channels):
        raise NoModelForSeries(
            f"model {model.full_name} has the channels {', '.join(model.channels)}, not"
            f" {', '.join(names)}; name each of them once"
        )


def require_one_place(stacks: Mapping[str, Stack]) -> None:
    """Refuse stacks that do not show one place of one patient, voxel by voxel.

    Parameters
    ----------
    stacks
        By the channel's name.

    Raises
    ------
    GeometryMismatch
        With what differs.
    """
    (first, one), *others = stacks.items()
    for name, other in others:
        differ = _difference(one, other)
        if differ:
            raise GeometryMismatch(
                f"channels {first} and {name} have {differ}; a model of several channels is fed"
                " with series of one study, one frame of reference and one grid: resample one"
                " onto the other before you send them"
            )


def _difference(one: Stack, other: Stack) -> str:
    if one.facts.study_uid != other.facts.study_uid:
        return "two studies"
    if one.facts.frame_of_reference_uid != other.facts.frame_of_reference_uid:
        return "two frames of reference"
    if not one.geometry.same_grid(other.geometry):
        return f"other grids ({_described(one)}, {_described(other)})"
    return ""


def _described(stack: Stack) -> str:
    slices, rows, columns = stack.geometry.shape
    return f"{slices} slices of {rows} x {columns}"
