"""One job, straight through. Read this first.

A submission is planned (`planning`): its instances are stacked, rules choose, and each chosen stack
becomes a `PlannedJob`. A job is run (`run`): stack, volume, network and label map (`labelling`),
measurements, verdict, files. Rooms meet in these modules alone and hand each other `domain/`
values.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np

from viscera import encode, labelling, measure, models, postprocess, segment, series, volume
from viscera.config import Settings
from viscera.domain.jobs import Job, JobState, Outcome, Plan, PlannedJob
from viscera.domain.models import Model, Profile
from viscera.domain.results import OrganMeasurement, Presence, ResultFile, Verdict
from viscera.domain.sources import Origin, Stack, Submission
from viscera.domain.volumes import Volume
from viscera.encode import Predecessor, ResultContext
from viscera.labelling import Report
from viscera.metrics import Metrics
from viscera.planning import Planner, require_modality
from viscera.segment import EngineSlot
from viscera.segment.engine import Engine


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
        self._planner = Planner(settings, self._load)
        self._served: dict[str, tuple[Model, tuple[EngineSlot, ...]]] = {}

    def close(self) -> None:
        """End the decode pool and the engines."""
        self._resources.close()

    def plan(
        self,
        submission: Submission,
        beside: Callable[[str], Sequence[Submission]] = lambda _: (),
    ) -> Plan:
        """Return what `submission` becomes: see :meth:`planning.Planner.plan`."""
        with self._metrics.stage("stack"):
            return self._planner.plan(submission, beside)

    def plan_channels(self, channels: Sequence[Sequence[Path]], model_name: str) -> PlannedJob:
        """Return the job of several series: see :meth:`planning.Planner.plan_channels`."""
        return self._planner.plan_channels(channels, model_name)

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
            site=self._settings.jobs.zone,
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
            if model.postprocess:
                postprocess.warm_up()
            encode.warm_up()
            self._served[model.digest] = (model, self._started(model))
        model, slots = self._served[model.digest]
        engines = tuple(slot.between_jobs() for slot in slots)
        for network, engine in zip(model.networks, engines, strict=True):
            with segment.faults_of(engine):  # another kind of engine since the job before?
                volume.warm_up(network, segment.stream_of(engine))
        return model, engines

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
