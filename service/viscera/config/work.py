"""Spool, decoding, models, engines and jobs."""

from datetime import UTC, tzinfo
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo

from pydantic import Field, SecretStr, field_validator

from viscera.config.section import Section
from viscera.domain.models import Profile


class SpoolSettings(Section):
    """Where received instances lie."""

    folder: Path = Field(Path("var/spool"), description="Folder of received instances; the record.")
    reserve_mb: int = Field(512, ge=0, description="Free disk below which C-STORE answers 0xA700.")
    keep_days: float = Field(
        7.0, ge=0, description="Days after its last job that a submission's instances stay."
    )


class DecodeSettings(Section):
    """The pool of decoding processes."""

    processes: int = Field(2, ge=1, le=64, description="Warm child processes.")
    memory_mb: int = Field(2048, ge=256, description="Address space of one child.")
    timeout_s: float = Field(120.0, gt=0, description="Longest time for one instance.")
    max_missing_share: float = Field(
        0.05,
        ge=0,
        lt=1,
        description="Share of a cut-off slice that may be missing; its result is flagged.",
    )


class ModelSettings(Section):
    """The model repository."""

    repo: Path = Field(Path("model_repo"), description="Folder of packages: NAME/VERSION/.")
    default: str = Field(
        "abdomen15-reference", description="Model for series whose rule names none."
    )
    profile: Profile = Field(
        Profile.EXACT,
        description="exact: input as in training, every tile; "
        "fast: linear where training used cubic, and tiles of nothing but air left out.",
    )


class EngineSettings(Section):
    """How networks run."""

    threads: int = Field(0, ge=0, description="CPU threads of network and kernels; 0: all cores.")
    tile_batch: int = Field(1, ge=1, le=64, description="Tiles per call.")
    strict: bool = Field(False, description="Whether a demotion to a slower engine is fatal.")
    plan_cache: Path = Field(
        Path("var/plans"),
        description="Folder of built TensorRT plans; only the service may write there.",
    )
    numba_cache: Path = Field(Path("var/numba"), description="Folder of compiled kernels.")
    numba_threading_layer: Literal["omp", "workqueue", "tbb"] = Field(
        "omp", description="Checked at start."
    )


class JobSettings(Section):
    """The job store and the worker."""

    url: SecretStr = Field(
        SecretStr("sqlite:///var/viscera.db"), description="SQLAlchemy URL of the job store."
    )
    lease_s: float = Field(
        30.0, gt=1, description="Silence of a worker after which its job is another's."
    )
    stall_s: float = Field(
        1800.0,
        gt=1,
        description="Time without progress after which a worker is taken to hang and is killed; "
        "its job is tried again.",
    )
    poll_s: float = Field(0.5, gt=0, description="Pause between looks for work.")
    max_attempts: int = Field(
        3, ge=1, le=20, description="Attempts after which a job is failed as poison."
    )
    max_queued: int = Field(
        10_000, ge=1, description="Queued jobs above which gRPC submissions are refused."
    )
    backoff_s: float = Field(
        5.0, gt=0, description="First pause before a job is tried again; doubles."
    )
    reserve_mb: int = Field(
        256, ge=0, description="Free disk of `results` below which no job is begun."
    )
    keep_days: float = Field(30.0, ge=0, description="Days that finished jobs and results stay.")
    results: Path = Field(Path("var/results"), description="Folder of results: JOB/FENCE/.")
    timezone: str = Field(
        "UTC",
        description="Zone of dates and times in results, e.g. `Europe/Berlin`, where the images do "
        "not say theirs (TimezoneOffsetFromUTC): the scanners' own clock.",
    )

    @field_validator("timezone")
    @classmethod
    def _is_known(cls, name: str) -> str:
        try:
            _zone(name)
        except (KeyError, OSError, ValueError) as error:
            raise ValueError(f"{name!r} is no time zone that this machine knows") from error
        return name

    @property
    def zone(self) -> tzinfo:
        """What `timezone` names."""
        return _zone(self.timezone)


def _zone(name: str) -> tzinfo:
    return UTC if name == "UTC" else ZoneInfo(name)  # lean systems have no zones at all
