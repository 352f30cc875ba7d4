"""One tree of settings: a TOML file, then `VISCERA_SECTION__KEY` from the environment over it.

`cli.py` reads it once and hands each room its section; `config_text.py` prints it.
"""

import ipaddress
import os
import re
import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from viscera.domain.models import Profile
from viscera.errors import InvalidSettings

_PREFIX = "VISCERA_"
_AETitle = Annotated[str, Field(pattern=r"^[ -\[\]-~]{1,16}$")]
_Slug = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]
_Port = Annotated[int, Field(ge=0, le=65535)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Peer(_Section):
    """One DICOM node that may send to us."""

    name: _Slug = Field(description="Our name for it; the only one that logs and rows show.")
    ae_title: _AETitle = Field(description="Its calling AE title.")
    networks: tuple[str, ...] = Field(
        (), description="Source networks in CIDR; empty admits nobody."
    )
    host: str = Field(
        "",
        description="Where it answers C-FIND and C-MOVE, for `viscera pull` and gRPC's "
        "SegmentByUid; empty: nowhere.",
    )
    port: _Port = Field(104, description="Its port there.")
    grpc_principals: tuple[str, ...] = Field(
        (),
        description="gRPC clients that may have its series segmented by UID (`local` without "
        "tokens and certificates); empty: none.",
    )
    require_tls: bool = Field(False, description="Whether it is turned away on the plain port.")
    certificates: tuple[str, ...] = Field(
        (),
        description="Its client certificates, each by a name in it (DNS name, address, URI or "
        "common name) or as sha256:HEX; set: it must come by TLS and show one of them.",
    )
    accept_and_drop: tuple[str, ...] = Field(
        ("SR", "PR", "KO", "SC", "SEG", "DOSE", "OTHER"),
        description="Kinds of object that are accepted, counted and dropped.",
    )

    @field_validator("networks")
    @classmethod
    def _are_networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        for network in networks:
            ipaddress.ip_network(network)
        return networks

    @field_validator("certificates")
    @classmethod
    def _are_certificates(cls, certificates: tuple[str, ...]) -> tuple[str, ...]:
        for certificate in certificates:
            if not re.fullmatch(r"sha256:([0-9a-fA-F]{2}:?){32}|(?!sha256:).+", certificate):
                raise ValueError("a fingerprint is sha256: and 64 hexadecimal digits")
        return certificates


class DicomSettings(_Section):
    """The DICOM listener."""

    host: str = Field("0.0.0.0", description="Address to listen on.")  # noqa: S104 - a PACS is elsewhere
    port: _Port = Field(11112, description="TCP port; 0 takes a free one.")
    plain: bool = Field(True, description="Whether to listen on `port`, which is without TLS.")
    tls_port: _Port | None = Field(
        None,
        description="TCP port of DICOM TLS, 1.2 and 1.3 as BCP 195 has it; 0 takes a free one, "
        "none: no TLS.",
    )
    tls_certificate: Path | None = Field(
        None, description="PEM file, with intermediate ones; read again when it changes."
    )
    tls_key: Path | None = Field(None, description="PEM file.")
    tls_client_ca: Path | None = Field(
        None, description="PEM file; set: TLS clients must show a certificate that it vouches for."
    )
    ae_title: _AETitle = Field(
        "VISCERA", description="Our AE title; another called title is rejected."
    )
    processes: int = Field(
        0, ge=0, le=64, description="Processes that share the port; 0: one a core, at most 4."
    )
    peers: tuple[Peer, ...] = Field((), description="Who may send. Empty admits nobody.")
    max_associations: int = Field(32, ge=1, le=512, description="Open associations at once.")
    max_associations_per_peer: int = Field(16, ge=1, le=512, description="Of these, from one peer.")
    max_per_address: int = Field(
        48,
        ge=1,
        le=1024,
        description="Connections from one address to one process and port: `processes` times as "
        "many to a port that they share. What is admitted of them, the two limits above bound over "
        "all processes.",
    )
    idle_timeout_s: float = Field(
        60.0, gt=0, description="Silence after which an association is aborted."
    )
    pdu_timeout_s: float = Field(
        30.0, gt=0, description="Longest time that one PDU may take to arrive."
    )
    max_pdu_bytes: int = Field(
        131072, ge=4096, le=1 << 20, description="Largest PDU that we announce and take."
    )
    max_instance_bytes: int = Field(
        1 << 30, ge=1 << 20, description="Largest data set of one C-STORE."
    )

    @model_validator(mode="after")
    def _is_tls_complete(self) -> Self:
        if self.tls_port is None and not self.plain:
            raise ValueError("plain = false needs a tls_port")
        if self.tls_port is not None and not (self.tls_certificate and self.tls_key):
            raise ValueError("tls_port needs tls_certificate and tls_key")
        for peer in self.peers:
            if self.tls_port is None and (peer.require_tls or peer.certificates):
                raise ValueError(f"peer {peer.name} may come by TLS only, and there is no tls_port")
            if peer.certificates and self.tls_client_ca is None:
                raise ValueError(f"the certificates of peer {peer.name} need a tls_client_ca")
        return self


class SpoolSettings(_Section):
    """Where received instances lie."""

    folder: Path = Field(Path("var/spool"), description="Folder of received instances; the record.")
    reserve_mb: int = Field(512, ge=0, description="Free disk below which C-STORE answers 0xA700.")
    keep_days: float = Field(
        7.0, ge=0, description="Days after its last job that a submission's instances stay."
    )


class _Recognised(_Section):
    """How a series is recognised."""

    modality: tuple[str, ...] = Field((), description="Any of these; empty: all.")
    description: str = Field("", description="Regular expression on SeriesDescription; empty: all.")
    body_part: str = Field("", description="Regular expression on BodyPartExamined; empty: all.")

    @field_validator("description", "body_part")
    @classmethod
    def _is_pattern(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        return pattern


class ChannelRule(_Recognised):
    """How the series of one channel is recognised; the first that matches decides."""

    channel: str = Field(min_length=1, description="As the model names it.")


class SeriesRule(_Recognised):
    """One rule; the first that matches decides."""

    name: _Slug = Field(description="Shown by `viscera why`.")
    min_slices: int = Field(0, ge=0, description="Fewest slices.")
    max_slice_spacing_mm: float = Field(1e3, gt=0, description="Widest spacing between slices.")
    then: Literal["segment", "ignore"] = Field("segment", description="What to do.")
    model: str = Field("", description="`name` or `name/version`; empty: the default model.")
    channels: tuple[ChannelRule, ...] = Field(
        (),
        description="For a model of several channels: which series of one study is which. The rule "
        "then matches series that one of them matches, and its job waits for all.",
    )

    @model_validator(mode="after")
    def _names_channels_once(self) -> Self:
        names = [one.channel for one in self.channels]
        if len(set(names)) != len(names) or len(names) == 1:
            raise ValueError("channels must be at least two, and none named twice")
        if names and self.then == "ignore":
            raise ValueError("a rule that ignores has no channels")
        return self


class SeriesSettings(_Section):
    """Closing, stacking and choosing."""

    quiet_s: float = Field(
        30.0, gt=0, description="Silence of a peer after which its series closes."
    )
    quiet_released_factor: float = Field(
        0.5, gt=0, le=1, description="Times quiet_s once the peer has released all associations."
    )
    quiet_gap_free_factor: float = Field(
        0.5, gt=0, le=1, description="Times quiet_s once positions have no gap."
    )
    quiet_min_s: float = Field(
        7.5, gt=0, description="Below this no factor shortens quiet_s: peers pause for seconds."
    )
    quiet_max_s: float = Field(
        600.0, gt=0, description="Longest quiet period that slow arrival can stretch to."
    )
    min_slices: int = Field(
        8, ge=1, description="Fewer slices than this are refused as incomplete."
    )
    spacing_tolerance: float = Field(
        0.02, gt=0, lt=0.5, description="Unevenness of gaps, as share of the spacing."
    )
    max_tilt_degrees: float = Field(
        5.0, ge=0, le=45, description="Gantry tilt up to which a stack keeps its geometry."
    )
    max_voxels: int = Field(
        1 << 30, ge=1, description="Rows x columns x slices above which a series is refused."
    )
    rules: tuple[SeriesRule, ...] = Field(
        (), description="First match decides; none: every stack is segmented."
    )


class DecodeSettings(_Section):
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


class ModelSettings(_Section):
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


class EngineSettings(_Section):
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


class JobSettings(_Section):
    """The job store and the worker."""

    url: SecretStr = Field(
        SecretStr("sqlite:///var/viscera.db"), description="SQLAlchemy URL of the job store."
    )
    lease_s: float = Field(
        30.0, gt=1, description="Silence of a worker after which its job is another's."
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
    keep_days: float = Field(30.0, ge=0, description="Days that finished jobs and results stay.")
    results: Path = Field(Path("var/results"), description="Folder of results: JOB/FENCE/.")


class Destination(_Section):
    """Where results go."""

    name: _Slug = Field(description="Our name for it.")
    kind: Literal["dicom", "folder"] = Field(description="C-STORE, or a folder.")
    host: str = Field("", description="dicom: its address.")
    port: _Port = Field(104, description="dicom: its port.")
    ae_title: _AETitle = Field("ANY-SCP", description="dicom: its AE title.")
    folder: Path | None = Field(None, description="folder: where files are put.")
    from_peers: tuple[str, ...] = Field(
        (),
        description="Only results of these peers or gRPC principals; empty: of all peers, and of "
        "no gRPC client.",
    )
    allow_unvalidated: bool = Field(
        False, description="dicom: whether models below grade `validated` may send here."
    )
    timeout_s: float = Field(
        30.0, gt=0, description="dicom: for connection, association and answers."
    )
    commitment: Literal["off", "offered", "required"] = Field(
        "off",
        description="dicom: whether a result counts as delivered only once storage commitment is "
        "reported to our listener: never, where the PACS offers it, or always. The PACS must know "
        "our AE title, address and port, and be one of `dicom.peers`.",
    )
    commitment_timeout_s: float = Field(
        3600.0,
        gt=0,
        description="dicom: time without a report after which commitment is asked for again; "
        "doubles up to a day.",
    )

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if self.kind == "dicom" and not self.host:
            raise ValueError("a dicom destination needs host and port")
        if self.kind == "folder" and self.folder is None:
            raise ValueError("a folder destination needs folder")
        return self


class DeliverSettings(_Section):
    """Sending results."""

    destinations: tuple[Destination, ...] = Field((), description="Where results go.")
    ae_title: _AETitle = Field("VISCERA", description="Our calling AE title.")
    backoff_s: float = Field(
        5.0, gt=0, description="First pause after a failed attempt; doubles, with jitter."
    )
    backoff_max_s: float = Field(
        3600.0, gt=0, description="Longest pause; a transient fault is never given up."
    )


class GrpcSettings(_Section):
    """The gRPC door."""

    host: str = Field(
        "127.0.0.1", description="Beyond loopback only with TLS and tokens or client certificates."
    )
    port: _Port = Field(50051, description="TCP port; 0 takes a free one.")
    tls_certificate: Path | None = Field(None, description="PEM file.")
    tls_key: Path | None = Field(None, description="PEM file.")
    tls_client_ca: Path | None = Field(
        None, description="PEM file; set: clients must show a certificate."
    )
    tokens_file: Path | None = Field(None, description='TOML file: principal = "token".')
    max_message_mb: int = Field(16, ge=1, le=512, description="Largest message.")
    max_streams: int = Field(32, ge=1, le=1024, description="Streaming calls at once.")
    max_instance_mb: int = Field(
        512, ge=1, le=2047, description="Largest instance of an upload; held in memory."
    )
    max_upload_mb: int = Field(4096, ge=1, description="Largest upload of one SegmentSeries.")


class HttpSettings(_Section):
    """The page of metrics and health."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: _Port = Field(9090, description="TCP port; 0 takes a free one.")


class LogSettings(_Section):
    """Logs."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severity written."
    )
    format: Literal["json", "text"] = Field(
        "json", description="json for machines, text for people."
    )


class Settings(BaseSettings):
    """Everything an operator can set."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX,
        env_nested_delimiter="__",
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
    )

    dicom: DicomSettings = DicomSettings()
    spool: SpoolSettings = SpoolSettings()
    series: SeriesSettings = SeriesSettings()
    decode: DecodeSettings = DecodeSettings()
    models: ModelSettings = ModelSettings()
    engine: EngineSettings = EngineSettings()
    jobs: JobSettings = JobSettings()
    deliver: DeliverSettings = DeliverSettings()
    grpc: GrpcSettings = GrpcSettings()
    http: HttpSettings = HttpSettings()
    log: LogSettings = LogSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the environment overlay the file, which arrives as init arguments."""
        return env_settings, init_settings


def load_settings(path: Path | None) -> Settings:
    """Read the settings from `path` (TOML; None: defaults) and the environment.

    Raises
    ------
    InvalidSettings
        On one line, with every wrong key named.
    """
    tree: dict[str, object] = {}
    if path is not None:
        try:
            tree = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise InvalidSettings(f"{path}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise InvalidSettings(f"{path}: not UTF-8, as TOML is") from error
        except tomllib.TOMLDecodeError as error:
            raise InvalidSettings(f"{path}: {error}") from error
    _refuse_unknown_environment()
    try:
        return Settings(**tree)  # type: ignore[arg-type]  # pydantic checks what TOML holds
    except SettingsError as error:
        raise InvalidSettings(_not_json(str(error))) from error
    except ValidationError as error:
        faults = (_fault(e["loc"], e["type"], e["msg"], path) for e in error.errors())
        raise InvalidSettings("; ".join(faults)) from error


def _refuse_unknown_environment() -> None:
    """A misspelt top-level name would pass silently otherwise."""
    sections = {f"{_PREFIX}{name.upper()}" for name in Settings.model_fields}
    for name in os.environ:
        if name.startswith(_PREFIX) and name.split("__")[0].upper() not in sections:
            raise InvalidSettings(
                f"environment variable {name}: no such section; a name is VISCERA_SECTION__KEY "
                "with two underscores between, see `viscera config show`"
            )


def _not_json(message: str) -> str:
    """Name the variables that may be meant: pydantic-settings names only their section."""
    section = re.search(r'field "(\w+)"', message)
    start = f"{_PREFIX}{section[1] if section else ''}".upper()
    names = sorted(name for name in os.environ if name.upper().startswith(start))
    return f"environment variable {' or '.join(names)}: lists and tables are written as JSON"


def _fault(location: tuple[int | str, ...], kind: str, message: str, path: Path | None) -> str:
    """Say where a wrong value is, in a file or in the environment, and what was expected."""
    variable = "__".join([f"{_PREFIX}{location[0]}", *map(str, location[1:])]).upper()
    set_there = variable in (name.upper() for name in os.environ)
    where = f"environment variable {variable}" if set_there else f"{path or 'environment'}"
    if kind == "extra_forbidden":
        message = f"no such setting{_nearest(location)}; `viscera config show` lists all"
    return f"{where}: {'.'.join(map(str, location))}: {message}"


def _nearest(location: tuple[int | str, ...]) -> str:
    """Return the known name that a misspelt one resembles, as the end of a sentence."""
    known = dict(Settings.model_fields)
    for name in location[:-1]:
        section = known[name].annotation if name in known else None
        if not (isinstance(section, type) and issubclass(section, BaseModel)):
            return ""
        known = dict(section.model_fields)
    matches = get_close_matches(str(location[-1]), known, n=1)
    return f", did you mean {matches[0]}?" if matches else ""
