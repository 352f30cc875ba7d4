"""The whole tree, and how it is read: TOML, then the environment over it."""

import os
import re
import tomllib
from difflib import get_close_matches
from pathlib import Path

from pydantic import BaseModel, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from viscera.config.deliver import DeliverSettings
from viscera.config.dicom import DicomSettings
from viscera.config.doors import GrpcSettings, HttpSettings, LogSettings
from viscera.config.series import SeriesSettings
from viscera.config.work import (
    DecodeSettings,
    EngineSettings,
    JobSettings,
    ModelSettings,
    SpoolSettings,
)
from viscera.errors import InvalidSettings

_PREFIX = "VISCERA_"


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
