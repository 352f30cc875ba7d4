"""The operator's rules: which stacks are segmented, by which model, and why."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from viscera.config import ChannelRule, SeriesRule, SeriesSettings
from viscera.domain.jobs import Choice
from viscera.domain.sources import Stack
from viscera.errors import NoModelForSeries
from viscera.series.assembly import Assembly


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chosen:
    """A line of `viscera why`, and its stack where that is to be segmented."""

    choice: Choice
    stack: Stack | None = None
    rule: SeriesRule | None = None
    """Where `stack` is one channel of several: the rule that says so."""


def choose(
    assembly: Assembly, settings: SeriesSettings, default_model: str, asked_model: str = ""
) -> tuple[Chosen, ...]:
    """Decide about everything that a series holds.

    Parameters
    ----------
    assembly
        Of one submission.
    settings
        `rules`: the first that matches a stack decides. Without rules every stack is segmented.
    default_model
        ``name`` or ``name/version`` for stacks whose rule names none.
    asked_model
        What a client asked for; then no rule is asked. Empty: the rules choose.

    Returns
    -------
    tuple
        Stacks first, then what was refused, then what was left out. A stack that no rule
        matches is refused as `NoModelForSeries`.
    """
    stacks = [
        _as_asked(stack, asked_model)
        if asked_model
        else _decide(stack, settings.rules, default_model)
        for stack in assembly.stacks
    ]
    refused = [
        Choice(
            what="refuse",
            because=str(each.error),
            frames=each.frames,
            reason=each.error.reason,
        )
        for each in assembly.refused
    ]
    ignored = [
        Choice(what="ignore", because=each.because, frames=each.frames) for each in assembly.ignored
    ]
    return (*stacks, *(Chosen(choice=choice) for choice in (*refused, *ignored)))


def _decide(stack: Stack, rules: Sequence[SeriesRule], default_model: str) -> Chosen:
    rule = next((rule for rule in rules if _matches(rule, stack)), None)
    frames = len(stack.frames)
    if rule is None and rules:
        error = NoModelForSeries(
            f"none of the {len(rules)} rules matches this stack ({_described(stack)}): "
            f"add one under series.rules if it is to be segmented"
        )
        return Chosen(
            choice=Choice(what="refuse", because=str(error), frames=frames, reason=error.reason)
        )
    because = f"rule {rule.name} matches" if rule else "no rules are set: every stack"
    because = f"{because} ({_described(stack)})"
    if rule is not None and rule.then == "ignore":
        return Chosen(choice=Choice(what="ignore", because=because, frames=frames))
    chosen = _segment(stack, because, (rule.model if rule else "") or default_model)
    return replace(chosen, rule=rule) if rule and rule.channels else chosen


def channel_of(rule: SeriesRule, stack: Stack) -> str | None:
    """Return which of the rule's channels `stack` is; None where the rule does not match it."""
    if not _matches(rule, stack):
        return None
    return next((one.channel for one in rule.channels if _recognises(one, stack)), None)


def _as_asked(stack: Stack, model: str) -> Chosen:
    return _segment(stack, f"the client asked for this model ({_described(stack)})", model)


def _segment(stack: Stack, because: str, model: str) -> Chosen:
    choice = Choice(what="segment", because=because, frames=len(stack.frames), model=model)
    return Chosen(choice=choice, stack=stack)


def _matches(rule: SeriesRule, stack: Stack) -> bool:
    return (
        _recognises(rule, stack)
        and (not rule.channels or any(_recognises(one, stack) for one in rule.channels))
        and len(stack.frames) >= rule.min_slices
        and stack.geometry.spacing_mm[0] <= rule.max_slice_spacing_mm
    )


def _recognises(rule: SeriesRule | ChannelRule, stack: Stack) -> bool:
    """Texts are matched anywhere and in either case: sites write ABDOMEN and Abdomen."""
    return (
        (not rule.modality or stack.facts.modality in rule.modality)
        and re.search(rule.description, stack.facts.description, re.IGNORECASE) is not None
        and re.search(rule.body_part, stack.facts.body_part, re.IGNORECASE) is not None
    )


def _described(stack: Stack) -> str:
    """Nothing here that a peer wrote as text: a description may hold a name."""
    slices, rows, columns = stack.geometry.shape
    return (
        f"{stack.facts.modality}, {slices} slices of {rows} x {columns}, "
        f"{stack.geometry.spacing_mm[0]:.3f} mm apart"
    )
