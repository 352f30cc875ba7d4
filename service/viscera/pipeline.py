"""One job, straight through. Read this first.

A submission is planned (`plan`): its instances are stacked, rules choose, and each chosen stack
becomes a `PlannedJob`. A job is run (`run`): stack, volume, network, label map, measurements,
verdict, files. Rooms meet here alone and hand each other `domain/` values.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from viscera import encode, measure, models, postprocess, segment, series, volume
from viscera.config import Settings
from viscera.domain.jobs import Choice, Job, JobKind, JobState, Outcome, Plan, PlannedJob
from viscera.domain.models import Model
from viscera.domain.results import OrganMeasurement, Presence, ResultFile, Verdict
from viscera.domain.sources import Origin, Stack, Submission
from viscera.domain.volumes import Volume
from viscera.encode import Predecessor, ResultContext
from viscera.errors import (
    ModelNotFound,
    ModelRefused,
    NoModelForSeries,
    RejectedInstance,
    ServiceError,
    UnusableSeries,
)
from viscera.metrics import Metrics
from viscera.segment.engine import Engine

RESULT_SCHEMA = 2
"""Part of every job's key: raise it when the same sources give other results."""

Report = Callable[[str, float, str], None]
"""(stage, 0..1 of it, engine): where the job is."""


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
        self._served: dict[str, tuple[Model, Engine]] = {}

    def close(self) -> None:
        """End the decode pool and the engines."""
        self._resources.close()

    def plan(self, submission: Submission) -> Plan:
        """Return what `submission` becomes: jobs, and why.

        Data faults of the whole series end in `Plan.refusal`; faults of one stack are choices.
        """
        with self._metrics.stage("stack"):
            try:
                assembly = series.examine(submission.paths, self._settings.series)
            except (UnusableSeries, RejectedInstance) as error:
                return Plan(refusal=f"{error.reason}: {error}")
            default = self._settings.models.default
            chosen = series.choose(assembly, self._settings.series, default, submission.model)
        choices, jobs = [], []
        for item in chosen:
            if item.stack is None:
                choices.append(item.choice)
                continue
            try:
                model = models.load_model(self._settings.models.repo, item.choice.model)
                require_modality(model, item.stack.facts.modality)
            except (NoModelForSeries, ModelNotFound, ModelRefused) as error:
                choices.append(refusal_of(item.choice, error))
                continue
            choices.append(item.choice)
            jobs.append(plan_job(item.stack, model))
        return Plan(choices=tuple(choices), jobs=tuple(jobs))

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
            stack = series.restack(paths, job.stacks[0], self._settings.series)
            loaded = volume.load_volume(stack, self._pool)
        model, segmented = self.segment(loaded, job.model, report)
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

    def segment(self, loaded: Volume, model_name: str, report: Report) -> tuple[Model, Segmented]:
        """Return the label map of `loaded` on its own grid, its measurements and the verdict."""
        model, engine = self.serve(model_name)
        require_modality(model, loaded.modality)
        report("prepare", 0.0, engine.name)
        with self._metrics.stage("prepare"):
            fed = volume.prepare(loaded, model)
        labels = np.zeros(loaded.geometry.shape, dtype=np.uint8)
        with self._metrics.stage("segment", engine.name):
            segment.segment(
                fed.image,
                model,
                engine,
                volume.to_axes(labels, loaded.geometry.axes, model.axes)[fed.box],
                lambda done: report("segment", done, engine.name),
                fed.restore_orders,
            )
        with self._metrics.stage("postprocess"):
            removals = postprocess.postprocess(labels, loaded, model)
        report("measure", 0.0, engine.name)
        with self._metrics.stage("measure"):
            measurements = measure.measure(labels, loaded, model, removals)
            verdict = measure.judge(measurements, loaded, model)
        self._observe(measurements)
        return model, Segmented(
            labels=labels, measurements=measurements, verdict=verdict, engine=engine.name
        )

    def serve(self, model_name: str) -> tuple[Model, Engine]:
        """Return the model and its engine, loaded, golden-checked and warm."""
        model = models.load_model(self._settings.models.repo, model_name)
        if model.digest not in self._served:
            segment.warm_up()
            volume.warm_up()
            if model.postprocess:
                postprocess.warm_up()
            engine = segment.start_engine(
                model, models.read_golden(model), self._settings.engine, self._metrics
            )
            self._resources.callback(engine.close)
            self._served[model.digest] = (model, engine)
        return self._served[model.digest]

    def _encode(
        self,
        segmented: Segmented,
        loaded: Volume,
        stack: Stack | None,
        context: ResultContext,
        folder: Path,
    ) -> tuple[ResultFile, ...]:
        with self._metrics.stage("encode"):
            return encode.write_results(
                labels=segmented.labels,
                volume=loaded,
                stack=stack,
                measurements=segmented.measurements,
                verdict=segmented.verdict,
                context=context,
                folder=folder,
            )

    def _observe(self, measurements: Sequence[OrganMeasurement]) -> None:
        for one in measurements:
            for flag in one.flags:
                self._metrics.organ_flags.labels(flag.kind).inc()
            if one.presence is Presence.FOUND:
                self._metrics.organ_volume.labels(one.label.name).observe(one.volume_ml)


def plan_job(stack: Stack, model: Model) -> PlannedJob:
    """Return the job that segments `stack` with `model`; the same pair has the same key."""
    sources = [(f.source.sop_uid, f.source.frame, f.sha256) for f in stack.frames]
    identity = json.dumps([RESULT_SCHEMA, model.full_name, model.digest, [sources]])
    return PlannedJob(
        key=hashlib.sha256(identity.encode()).hexdigest(),
        kind=JobKind.SEGMENT,
        stacks=(tuple(frame.source for frame in stack.frames),),
        model=model.full_name,
    )


def require_modality(model: Model, modality: str) -> None:
    """Refuse a series of a modality that `model` was not trained on."""
    if modality not in model.modalities:
        raise NoModelForSeries(
            f"model {model.full_name} is for {' and '.join(model.modalities)}, the series is "
            f"{modality}; name another model in series.rules"
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
