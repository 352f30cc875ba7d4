"""One job, straight through. Read this first.

A submission is planned (`plan`): its instances are stacked, rules choose, and each chosen stack
becomes a `PlannedJob`. A job is run (`run`): stack, volume, network, label map, measurements,
verdict, files. Rooms meet here alone and hand each other `domain/` values.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np

from viscera import encode, labelling, measure, models, postprocess, segment, series, volume
from viscera.channels import (
    by_channel,
    gather,
    require_channels,
    require_one_place,
    stacks_of,
)
from viscera.config import Settings
from viscera.domain.jobs import Choice, Job, JobKind, JobState, Outcome, Plan, PlannedJob
from viscera.domain.models import Model, Profile
from viscera.domain.results import OrganMeasurement, Presence, ResultFile, Verdict
from viscera.domain.sources import Origin, Stack, Submission
from viscera.domain.volumes import Volume
from viscera.encode import Predecessor, ResultContext
from viscera.errors import (
    GeometryMismatch,
    ModelNotFound,
    ModelRefused,
    NoModelForSeries,
    RejectedInstance,
    ServiceError,
    UnusableSeries,
)
from viscera.labelling import Report
from viscera.metrics import Metrics
from viscera.segment import EngineSlot
from viscera.segment.engine import Engine

RESULT_SCHEMA = 3
"""Part of every job's key: raise it when the same sources give other results."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segmented:
    """What the network and the measurements say of one volume."""

    labels: np.ndarray
    measurements: tuple[OrganMeasurement, ...]
    verdict: Verdict
    engine: str


class Pipeline:
    """Plans submissions and runs jobs, one at a time; owns the decode pool and the engines."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._resources = ExitStack()
        self._pool = self._resources.enter_context(volume.DecodePool(settings.decode))
        self._build_turn = segment.BuildTurn()
        self._served: dict[str, tuple[Model, tuple[EngineSlot, ...]]] = {}

    def close(self) -> None:
        """End the decode pool and the engines."""
        self._resources.close()

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
            with self._metrics.stage("stack"):
                return self._plan_upload(submission)
        with self._metrics.stage("stack"):
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

    def run(
        self,
        job: Job,
        paths: Sequence[Path],
        folder: Path,
        report: Report,
        predecessor: Predecessor | None = None,
    ) -> Outcome:
        """Segment `job`'s stack and write its files into `folder`.

        Raises
        ------
        ServiceError
            Data faults as `UnusableSeries`, transient ones with ``retry``.
        """
        report("decode", 0.0, "")
        with self._metrics.stage("decode"):
            stacks = [series.restack(paths, one, self._settings.series) for one in job.stacks]
            channels = [volume.load_volume(one, self._pool) for one in stacks]
        loaded, stack = channels[0], stacks[0]
        model, segmented = self.segment(channels, job.model, report)
        report("encode", 0.0, segmented.engine)
        context = ResultContext(
            job_id=job.id,
            job_key=job.key,
            created_at=job.created_at,
            model=model,
            engine=segmented.engine,
            predecessor=predecessor,
        )
        results = self._encode(segmented, loaded, stack, context, folder)
        return Outcome(
            results=results, verdict=segmented.verdict, modality=loaded.modality, grade=model.grade
        )

    def segment(
        self, channels: Sequence[Volume], model_name: str, report: Report
    ) -> tuple[Model, Segmented]:
        """Return the label map on the channels' own grid, its measurements and the verdict.

        Intensities are measured in the first channel.
        """
        loaded = channels[0]
        model, engines = self.serve(model_name)
        require_modality(model, loaded.modality)
        labelling.require_memory(loaded, model, engines)
        labels = labelling.label_volumes(channels, model, engines, self._metrics, report)
        engine = engine_names(engines)
        with self._metrics.stage("postprocess"):
            removals = postprocess.postprocess(labels, loaded, model)
        report("measure", 0.0, engine)
        with self._metrics.stage("measure"):
            measurements = measure.measure(labels, loaded, model, removals)
            verdict = measure.judge(measurements, loaded, model)
        self._observe(measurements)
        profile = self._settings.models.profile
        return model, Segmented(
            labels=labels,
            measurements=measurements,
            verdict=verdict,
            engine=engine if profile is Profile.EXACT else f"{engine}, {profile} input",
        )

    def serve(self, model_name: str) -> tuple[Model, tuple[Engine, ...]]:
        """Return the model and an engine for each of its networks, golden-checked and warm."""
        model = self._load(model_name)
        if model.digest not in self._served:
            segment.warm_up()
            for network in model.networks:
                volume.warm_up(network)
            if model.postprocess:
                postprocess.warm_up()
            encode.warm_up()
            self._served[model.digest] = (model, self._started(model))
        model, slots = self._served[model.digest]
        return model, tuple(slot.between_jobs() for slot in slots)

    def _started(self, model: Model) -> tuple[EngineSlot, ...]:
        """Start every network of `model`, or none."""
        slots = []
        with ExitStack() as starting:
            for network in model.networks:
                slot = segment.EngineSlot(
                    network,
                    models.read_golden(network),
                    self._settings.engine,
                    self._metrics,
                    turn=self._build_turn,
                )
                starting.callback(slot.close)
                slots.append(slot)
            self._resources.push(starting.pop_all())
        return tuple(slots)

    def _load(self, name: str) -> Model:
        """Return the model, fed as the profile says."""
        model = models.load_model(self._settings.models.repo, name)
        if self._settings.models.profile is Profile.FAST:
            return fed_fast(model)
        return model

    def _encode(
        self,
        segmented: Segmented,
        loaded: Volume,
        stack: Stack | None,
        context: ResultContext,
        folder: Path,
    ) -> tuple[ResultFile, ...]:
        with self._metrics.stage("encode"):
            files = encode.write_results(
                labels=segmented.labels,
                volume=loaded,
                stack=stack,
                measurements=segmented.measurements,
                verdict=segmented.verdict,
                context=context,
                folder=folder,
            )
        with self._metrics.stage("proof"):
            encode.prove_results(
                files,
                folder,
                labels=segmented.labels,
                measurements=segmented.measurements,
                stack=stack,
                model=context.model,
            )
        return files

    def _observe(self, measurements: Sequence[OrganMeasurement]) -> None:
        for one in measurements:
            for flag in one.flags:
                self._metrics.organ_flags.labels(flag.kind).inc()
            if one.presence is Presence.FOUND:
                self._metrics.organ_volume.labels(one.label.name).observe(one.volume_ml)


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


def fed_fast(model: Model) -> Model:
    """Return `model` with linear input where training used cubic splines, and blind to air."""
    first = model.first
    return replace(
        model,
        image_order=min(model.image_order, 1),
        skip_air=True,
        first=replace(first, order=min(first.order, 1)) if first else None,
        parts=tuple(map(fed_fast, model.parts)),
    )


def engine_names(engines: Sequence[Engine]) -> str:
    """Return what ran, each kind once."""
    return " + ".join(dict.fromkeys(engine.name for engine in engines))


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


def job_without_store(planned: PlannedJob, series_uid: str, created_at: datetime) -> Job:
    """Return a running job for `viscera segment`, which keeps no rows."""
    return Job(
        id=planned.key[:32],
        key=planned.key,
        kind=planned.kind,
        submission_id="",
        origin=Origin.FILE,
        principal="local",
        study_uid="",
        series_uid=series_uid,
        submission_version=1,
        stacks=planned.stacks,
        model=planned.model,
        state=JobState.RUNNING,
        parent_id=None,
        attempts=1,
        created_at=created_at,
    )
