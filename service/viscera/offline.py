"""Commands that need no service: `segment`, `model check`, `config check`."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from tqdm import tqdm

from viscera import encode, models, segment, series, volume
from viscera.config import Settings
from viscera.domain.jobs import Outcome, Plan
from viscera.domain.sources import Origin, Submission, SubmissionState
from viscera.encode import ResultContext
from viscera.errors import InvalidRequest, InvalidSettings, ServiceError
from viscera.metrics import Metrics
from viscera.pipeline import Pipeline, Report, job_without_store

VOLUME_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")

# How much of the bar each stage takes; measured on two cores with the shipped model.
_SHARES = {"decode": 10, "prepare": 5, "segment": 70, "measure": 5, "encode": 10}


def segment_input(
    source: Path, out: Path, settings: Settings, *, model: str = "", modality: str = "CT"
) -> int:
    """Segment what `source` holds into `out`; return the exit status.

    Parameters
    ----------
    source
        A folder with one or more DICOM series, one DICOM file, or a NIfTI, NRRD or MHA volume.
    out
        Folder of results; one series gives files there, several give a folder each.
    settings
        All of them.
    model
        ``name`` or ``name/version``; empty: rules or default.
    modality
        Of a volume that is not DICOM.

    Returns
    -------
    int
        0 if something was segmented, 1 if everything was refused.
    """
    if not source.exists():
        raise InvalidRequest(f"{source} does not exist")
    out.mkdir(parents=True, exist_ok=True)
    pipeline = _pipeline(settings)
    try:
        if source.is_file() and source.name.lower().endswith(VOLUME_SUFFIXES):
            return _segment_volume(pipeline, source, out, settings, model, modality)
        return _segment_dicom(pipeline, source, out, model)
    finally:
        pipeline.close()


def check_models(settings: Settings, name: str) -> int:
    """Load the named model, or all, and compare the golden tile on this machine."""
    found = (
        [models.load_model(settings.models.repo, name)]
        if name
        else models.list_models(settings.models.repo)
    )
    pipeline = _pipeline(settings)
    try:
        for model in found:
            _, engine = pipeline.serve(model.full_name)
            tqdm.write(f"{model.full_name}: digests and golden tile agree on {engine.name}")
    finally:
        pipeline.close()
    return 0 if found else 1


def check_settings(settings: Settings) -> Iterator[str]:
    """Yield what was found usable, and what an operator should know."""
    yield "settings: every key is known"
    try:
        model = models.load_model(settings.models.repo, settings.models.default)
    except ServiceError as error:
        raise InvalidSettings(f"models.default: {error}") from error
    yield f"model: {model.full_name}, grade {model.grade}"
    yield f"peers: {', '.join(p.name for p in settings.dicom.peers) or 'none, so nobody may send'}"
    if not settings.deliver.destinations:
        yield "destinations: none, so results stay in jobs.results"
    for destination in settings.deliver.destinations:
        barred = destination.kind == "dicom" and not destination.allow_unvalidated
        note = " (takes validated models only)" if barred else ""
        yield f"destination: {destination.name}{note}"


def _pipeline(settings: Settings) -> Pipeline:
    engine = settings.engine
    segment.configure_numba(engine.numba_cache, engine.numba_threading_layer, engine.threads)
    return Pipeline(settings, Metrics())


def _segment_dicom(pipeline: Pipeline, source: Path, out: Path, model: str) -> int:
    planned = [
        (uid, paths, pipeline.plan(_submission(uid, paths, model)))
        for uid, paths in sorted(_by_series(source).items())
    ]
    for uid, _, plan in planned:
        _tell(uid, plan)
    total = sum(len(plan.jobs) for _, _, plan in planned)
    for uid, paths, plan in planned:
        for number, job in enumerate(plan.jobs):
            folder = out if total == 1 else out / (f"{uid}-{number}" if number else uid)
            folder.mkdir(parents=True, exist_ok=True)
            with progress_bar(uid) as report:
                row = job_without_store(job, uid, datetime.now(UTC))
                outcome = pipeline.run(row, paths, folder, report)
            _tell_outcome(outcome, folder)
    return 0 if total else 1


def _by_series(source: Path) -> dict[str, list[Path]]:
    """Return the DICOM files under `source` by SeriesInstanceUID; other files are passed over."""
    files = [source] if source.is_file() else sorted(p for p in source.rglob("*") if p.is_file())
    groups: defaultdict[str, list[Path]] = defaultdict(list)
    for path in files:
        if series.is_part10(path):
            groups[series.read_header(path).series_uid].append(path)
    if not groups:
        raise InvalidRequest(
            f"{source}: no DICOM file here, and not one of {', '.join(VOLUME_SUFFIXES)}"
        )
    return groups


def _submission(uid: str, paths: Sequence[Path], model: str) -> Submission:
    return Submission(
        id="local",
        origin=Origin.FILE,
        principal="local",
        series_uid=uid,
        study_uid="",
        version=1,
        state=SubmissionState.OPEN,
        model=model,
        opened_at=datetime.now(UTC),
        paths=tuple(paths),
    )


def _segment_volume(
    pipeline: Pipeline, source: Path, out: Path, settings: Settings, model: str, modality: str
) -> int:
    loaded = volume.read_volume(source, modality)
    with progress_bar(source.name) as report:
        used, segmented = pipeline.segment(loaded, model or settings.models.default, report)
        report("encode", 0.0, segmented.engine)
        key = hashlib.sha256(source.read_bytes() + used.digest.encode()).hexdigest()
        context = ResultContext(
            job_id=key[:32],
            job_key=key,
            created_at=datetime.now(UTC),
            model=used,
            engine=segmented.engine,
            predecessor=None,
        )
        results = encode.write_results(
            labels=segmented.labels,
            volume=loaded,
            stack=None,
            measurements=segmented.measurements,
            verdict=segmented.verdict,
            context=context,
            folder=out,
        )
        volume.write_labels(out / "labels.nii.gz", segmented.labels, loaded.geometry)
    _tell_outcome(
        Outcome(results=results, verdict=segmented.verdict, modality=modality, grade=used.grade),
        out,
    )
    return 0


@contextmanager
def progress_bar(title: str) -> Iterator[Report]:
    """Yield a report that moves a bar on stderr from 0 to 100 over all stages."""
    starts = {stage: sum(list(_SHARES.values())[:k]) for k, stage in enumerate(_SHARES)}
    shown = f"…{title[-20:]}" if len(title) > 21 else title
    with tqdm(total=100, desc=shown, bar_format="{desc} {bar} {percentage:3.0f}% {postfix}") as bar:

        def report(stage: str, done: float, engine: str) -> None:
            bar.set_postfix_str(f"{stage} {engine}".strip(), refresh=False)
            bar.update(starts[stage] + done * _SHARES[stage] - bar.n)

        yield report
        bar.set_postfix_str("done", refresh=False)
        bar.update(100 - bar.n)


def _tell(uid: str, plan: Plan) -> None:
    if plan.refusal:
        tqdm.write(f"{uid}: refused: {plan.refusal}")
    for choice in plan.choices:
        with_model = f" with {choice.model}" if choice.model else ""
        tqdm.write(f"{uid}: {choice.what} {choice.frames} frames{with_model}: {choice.because}")


def _tell_outcome(outcome: Outcome, folder: Path) -> None:
    tqdm.write(f"verdict: {outcome.verdict.decision}")
    for reason in outcome.verdict.reasons:
        tqdm.write(f"  {reason}")
    tqdm.write(f"results in {folder}/")
