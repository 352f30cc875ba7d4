"""What a submission becomes: its instances are stacked, rules choose, jobs are named by key."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from viscera import series
from viscera.channels import (
    by_channel,
    gather,
    require_channels,
    require_one_place,
    stacks_of,
)
from viscera.config import Settings
from viscera.domain.jobs import Choice, JobKind, Plan, PlannedJob
from viscera.domain.models import Model, Profile
from viscera.domain.sources import Stack, Submission
from viscera.errors import (
    GeometryMismatch,
    ModelNotFound,
    ModelRefused,
    NoModelForSeries,
    RejectedInstance,
    ServiceError,
    UnusableSeries,
)

RESULT_SCHEMA = 3
"""Part of every job's key: raise it when the same sources give other results."""


class Planner:
    """Plans submissions.

    Parameters
    ----------
    settings
        Rules, limits, the default model and the profile.
    load
        Gives a model by its name, fed as the profile says.
    """

    def __init__(self, settings: Settings, load: Callable[[str], Model]) -> None:
        self._settings, self._load = settings, load

    def plan(
        self,
        submission: Submission,
        beside: Callable[[str], Sequence[Submission]] = lambda _: (),
    ) -> Plan:
        """Return what `submission` becomes: jobs, and why.

        Data faults of the whole series end in `Plan.refusal`; faults of one stack are choices.

        Parameters
        ----------
        beside
            Gives the other series of a submission's study, for models of several channels.
        """
        if submission.channels:
            return self._plan_upload(submission)
        try:
            assembly = series.examine(submission.paths, self._settings.series)
        except (UnusableSeries, RejectedInstance) as error:
            return Plan(refusal=f"{error.reason}: {error}")
        default = self._settings.models.default
        chosen = series.choose(assembly, self._settings.series, default, submission.model)
        choices: list[Choice] = []
        jobs: list[PlannedJob] = []
        others: Sequence[Submission] = ()
        if any(item.rule for item in chosen):
            others = beside(submission.id)
        for item in chosen:
            choice, job = self._decide(item, others)
            choices.append(choice)
            jobs += [job] if job else []
        looked_at = tuple(other.id for other in others)
        return Plan(choices=tuple(choices), jobs=tuple(jobs), looked_at=looked_at)

    def _decide(
        self, item: series.Chosen, others: Sequence[Submission]
    ) -> tuple[Choice, PlannedJob | None]:
        """Return the job of one stack, if there is one, and the choice as it is then."""
        if item.stack is None:
            return item.choice, None
        profile = self._settings.models.profile
        try:
            model = self._load(item.choice.model)
            require_modality(model, item.stack.facts.modality)
            if item.rule is None:
                require_channels(model, 1)
                return item.choice, plan_job((item.stack,), model, profile)
            found = gather(item.stack, item.rule, model, others, self._settings.series)
        except (NoModelForSeries, GeometryMismatch, ModelNotFound, ModelRefused) as error:
            return refusal_of(item.choice, error), None
        if found.missing:
            because = f"{item.choice.because}; waits for channel {', '.join(found.missing)}"
            return replace(item.choice, what="wait", because=because), None
        job = plan_job([found.stacks[name] for name in model.channels], model, profile)
        return item.choice, replace(job, beside=found.beside)

    def plan_channels(self, channels: Sequence[Sequence[Path]], model_name: str) -> PlannedJob:
        """Return the job of several series, one for each channel of a model, in its order.

        Raises
        ------
        UnusableSeries, RejectedInstance
            If the files of a channel are not one stack, or of a modality that the model lacks.
        """
        model = self._load(model_name or self._settings.models.default)
        stacks = stacks_of(model, channels, self._settings.series)
        for stack in stacks:
            require_modality(model, stack.facts.modality)
        return plan_job(stacks, model, self._settings.models.profile)

    def _plan_upload(self, submission: Submission) -> Plan:
        """Return the one job of an upload whose client said which series is which channel."""
        try:
            model = self._load(submission.model)
            channels = by_channel(model, submission.channels, submission.paths)
            stacks = stacks_of(model, channels, self._settings.series)
            for stack in stacks:
                require_modality(model, stack.facts.modality)
            require_one_place(dict(zip(model.channels, stacks, strict=True)))
        except (UnusableSeries, RejectedInstance, ModelNotFound, ModelRefused) as error:
            return Plan(refusal=f"{error.reason}: {error}")
        choice = Choice(
            what="segment",
            because=f"the client named a series for each channel: {', '.join(model.channels)}",
            frames=len(stacks[0].frames),
            model=submission.model,
        )
        job = plan_job(stacks, model, self._settings.models.profile)
        return Plan(choices=(choice,), jobs=(job,))


def plan_job(stacks: Sequence[Stack], model: Model, profile: Profile = Profile.EXACT) -> PlannedJob:
    """Return the job that segments `stacks`, a channel each; the same input has the same key."""
    sources = [
        [(f.source.sop_uid, f.source.frame, f.sha256) for f in stack.frames] for stack in stacks
    ]
    identity: list[object] = [RESULT_SCHEMA, model.full_name, model.digest, sources]
    if profile is not Profile.EXACT:
        identity.append(profile)
    return PlannedJob(
        key=hashlib.sha256(json.dumps(identity).encode()).hexdigest(),
        kind=JobKind.SEGMENT,
        stacks=tuple(tuple(frame.source for frame in stack.frames) for stack in stacks),
        model=model.full_name,
    )


def require_modality(model: Model, modality: str) -> None:
    """Refuse a series of a modality that `model` was not trained on."""
    if modality not in model.modalities:
        raise NoModelForSeries(
            f"model {model.full_name} is for {' and '.join(model.modalities)}, the series is "
            f"{modality}; name another model (series.rules; for `viscera segment`, --model)"
        )


def refusal_of(choice: Choice, error: ServiceError) -> Choice:
    """Turn a choice to segment into a refusal."""
    return Choice(
        what="refuse",
        because=str(error),
        frames=choice.frames,
        model=choice.model,
        reason=error.reason,
    )
