"""Commands that need no service: `segment`, `model check`, `config check`."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tqdm import tqdm

from viscera import encode, models, segment, series, volume
from viscera.api.auth import authenticator
from viscera.api.tls import server_tls
from viscera.config import Settings
from viscera.domain.jobs import Outcome, Plan
from viscera.domain.models import Grade
from viscera.domain.sources import Origin, Submission, SubmissionState
from viscera.encode import ResultContext
from viscera.errors import (
    InvalidRequest,
    InvalidSettings,
    RejectedInstance,
    ServiceError,
    UnusableSeries,
)
from viscera.jobs.database import Database
from viscera.labelling import Report
from viscera.metrics import Metrics
from viscera.pipeline import Pipeline, engine_names, job_without_store
from viscera.receive.policy import Admissions
from viscera.receive.tls import ServerTls

VOLUME_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")

_DISK_INDEX = "DICOMDIR"  # its file ID is fixed by PS3.10 section 8.6

# How much of the bar each stage takes; measured on two cores with the shipped model.
_SHARES = {"decode": 10, "prepare": 5, "segment": 70, "measure": 5, "encode": 10}


def segment_input(
    sources: Sequence[Path], out: Path, settings: Settings, *, model: str = "", modality: str = ""
) -> int:
    """Segment what `sources` hold into `out`; return the exit status.

    Parameters
    ----------
    sources
        A folder with one or more DICOM series, one DICOM file, or a NIfTI, NRRD or MHA volume.
        For a model of several channels: one series or volume for each, in the model's order.
    out
        Folder of results; one series gives files there, several give a folder each.
    settings
        All of them.
    model
        ``name`` or ``name/version``; empty: rules or default.
    modality
        Of a volume that is not DICOM; empty: CT, and the user is told.

    Returns
    -------
    int
        0 if something was segmented, 1 if everything was refused.
    """
    if missing := [str(source) for source in sources if not source.exists()]:
        raise InvalidRequest(f"{', '.join(missing)} does not exist")
    volumes = [s for s in sources if s.is_file() and s.name.lower().endswith(VOLUME_SUFFIXES)]
    if 0 < len(volumes) < len(sources):
        raise InvalidRequest("the channels are DICOM and other volumes; give one kind")
    if volumes:
        if not modality:
            tqdm.write("taken as CT, for the file does not say; --modality MR if it is MR")
        with closing(_pipeline(settings)) as pipeline:
            return _segment_volume(pipeline, volumes, out, settings, model, modality or "CT")
    groups = [_by_series(source) for source in sources]
    with closing(_pipeline(settings)) as pipeline:
        if len(groups) > 1:
            return _segment_channels(pipeline, sources, groups, out, model)
        return _segment_dicom(pipeline, groups[0], out, model)


@dataclass(frozen=True, slots=True)
class ModelCheck:
    """What checking one package gave."""

    name: str
    good: bool
    text: str


def check_models(settings: Settings, names: Sequence[str]) -> Iterator[ModelCheck]:
    """Load each model and compare its golden tile on this machine; one that fails stops none."""
    with closing(_pipeline(settings)) as pipeline:
        for name in names:
            try:
                model, engines = pipeline.serve(name)
            except ServiceError as error:
                text = "; ".join(str(error).splitlines())
                yield ModelCheck(name, False, f"{error.reason}: {text}")
            else:
                tiles = f"golden tiles of {len(engines)} parts" if model.parts else "golden tile"
                text = f"digests and {tiles} agree on {engine_names(engines)}"
                yield ModelCheck(model.full_name, True, text)


def check_settings(settings: Settings) -> Iterator[str]:
    """Yield what was found usable, and what an operator should know.

    Raises
    ------
    InvalidSettings
        What a role would refuse to start with, or what can never come true, such as a rule's
        model that is not there.
    """
    Admissions(settings.dicom)
    if settings.dicom.tls_port is not None:
        ServerTls(settings.dicom)
    authenticator(settings.grpc)
    server_tls(settings.grpc)
    Database(settings.jobs.url.get_secret_value()).close()
    yield "settings: every key is known"
    yield from _tell_peers(settings)
    grade = _grade_of_default(settings)
    yield from _tell_destinations(settings, grade)
    for where, name in _models_named(settings):
        try:
            model = models.load_model(settings.models.repo, name)
        except ServiceError as error:
            raise InvalidSettings(f"{where}: {error}") from error
        yield f"model: {model.full_name}, grade {model.grade}"


def _tell_peers(settings: Settings) -> Iterator[str]:
    if not settings.dicom.peers:
        yield "peers: none, so nobody may send; name your PACS under [[dicom.peers]]"
    for peer in settings.dicom.peers:
        networks = ", ".join(peer.networks) or "nowhere: set networks, or it is not admitted"
        yield f"peer: {peer.name}, from {networks}"


def _tell_destinations(settings: Settings, grade: Grade | None) -> Iterator[str]:
    if not settings.deliver.destinations:
        yield "destinations: none, so results stay in jobs.results"
    for one in settings.deliver.destinations:
        trusted = grade in (None, Grade.VALIDATED) or one.allow_unvalidated
        barred = one.kind == "dicom" and not trusted
        note = (
            f", but nothing of a {grade} model: set allow_unvalidated to try it" if barred else ""
        )
        yield f"destination: {one.name}{note}"


def _models_named(settings: Settings) -> Iterator[tuple[str, str]]:
    yield "models.default", settings.models.default
    for rule in settings.series.rules:
        if rule.model:
            yield f"series.rules: {rule.name}", rule.model


def _grade_of_default(settings: Settings) -> Grade | None:
    """Return None for a model that cannot be loaded; that is told elsewhere."""
    try:
        return models.load_model(settings.models.repo, settings.models.default).grade
    except ServiceError:
        return None


def _pipeline(settings: Settings) -> Pipeline:
    engine = settings.engine
    segment.configure_numba(engine.numba_cache, engine.numba_threading_layer, engine.threads)
    return Pipeline(settings, Metrics())


def _segment_dicom(
    pipeline: Pipeline, groups: Mapping[str, Sequence[Path]], out: Path, model: str
) -> int:
    planned = [
        (uid, paths, pipeline.plan(_submission(uid, paths, model)))
        for uid, paths in sorted(groups.items())
    ]
    for uid, _, plan in planned:
        _tell(uid, plan)
    total = sum(len(plan.jobs) for _, _, plan in planned)
    refused = 0
    for uid, paths, plan in planned:
        for number, job in enumerate(plan.jobs):
            folder = out if total == 1 else out / (f"{uid}-{number}" if number else uid)
            folder.mkdir(parents=True, exist_ok=True)
            try:
                with progress_bar(uid) as report:
                    row = job_without_store(job, uid, datetime.now(UTC))
                    outcome = pipeline.run(row, paths, folder, report)
            except (UnusableSeries, RejectedInstance) as error:
                if total == 1:
                    raise
                refused += 1  # the next series may be in order
                tqdm.write(f"{uid}: {error.reason}: {error}")
                continue
            _tell_outcome(outcome, folder)
    return 0 if total and not refused else 1


def _segment_channels(
    pipeline: Pipeline,
    sources: Sequence[Path],
    groups: Sequence[Mapping[str, Sequence[Path]]],
    out: Path,
    model: str,
) -> int:
    """Segment several series together, one for each channel of the model."""
    for source, group in zip(sources, groups, strict=True):
        if len(group) != 1:
            raise InvalidRequest(f"{source}: {len(group)} series, one channel is one series")
    channels = [(uid, paths) for group in groups for uid, paths in group.items()]
    job = pipeline.plan_channels([paths for _, paths in channels], model)
    first = channels[0][0]
    out.mkdir(parents=True, exist_ok=True)
    with progress_bar(first) as report:
        row = job_without_store(job, first, datetime.now(UTC))
        outcome = pipeline.run(row, [path for _, paths in channels for path in paths], out, report)
    _tell_outcome(outcome, out)
    return 0


def _by_series(source: Path) -> dict[str, list[Path]]:
    """Return the DICOM files under `source` by SeriesInstanceUID.

    Other files are passed over, and so is the index of a disk. A broken instance is not: the
    volume may lack a slice at its end without anyone seeing it.
    """
    files = [source] if source.is_file() else sorted(p for p in source.rglob("*") if p.is_file())
    groups: defaultdict[str, list[Path]] = defaultdict(list)
    for path in files:
        if series.is_part10(path) and path.name.upper() != _DISK_INDEX:
            try:
                groups[series.read_header(path).series_uid].append(path)
            except ServiceError as error:
                raise type(error)(f"{path}: {error}") from error
    if not groups:
        raise InvalidRequest(
            f"{source}: no DICOM file here; of other volumes ({', '.join(VOLUME_SUFFIXES)}) "
            "name one file"
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
    pipeline: Pipeline,
    sources: Sequence[Path],
    out: Path,
    settings: Settings,
    model: str,
    modality: str,
) -> int:
    channels = [volume.read_volume(source, modality) for source in sources]
    loaded = channels[0]
    with progress_bar(sources[0].name) as report:
        used, segmented = pipeline.segment(channels, model or settings.models.default, report)
        report("encode", 0.0, segmented.engine)
        out.mkdir(parents=True, exist_ok=True)
        content = b"".join(source.read_bytes() for source in sources)
        key = hashlib.sha256(content + used.digest.encode()).hexdigest()
        context = ResultContext(
            job_id=key[:32],
            job_key=key,
            created_at=datetime.now(UTC),
            model=used,
            engine=segmented.engine,
            predecessor=None,
            site=settings.jobs.zone,
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
def progress_line(title: str) -> Iterator[Callable[[float, str], None]]:
    """Yield a report (0..1, what is at hand) that moves a bar on stderr."""
    with tqdm(total=100, desc=title, bar_format="{desc} {bar} {percentage:3.0f}% {postfix}") as bar:

        def report(done: float, what: str) -> None:
            bar.set_postfix_str(what, refresh=False)
            bar.update(100 * done - bar.n)

        yield report


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
    for organ in json.loads((folder / "volumes.json").read_text())["organs"]:
        tqdm.write(f"{organ['title']:<22}{organ['volume_ml'] or 0:>9.1f} mL  {organ['presence']}")
    tqdm.write(f"verdict: {outcome.verdict.decision}")
    for reason in outcome.verdict.reasons:
        tqdm.write(f"  {reason}")
    tqdm.write(f"results in {folder}/")
