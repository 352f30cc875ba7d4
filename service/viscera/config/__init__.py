"""One tree of settings: a TOML file, then `VISCERA_SECTION__KEY` from the environment over it.

`cli.py` reads it once and hands each room its section; `config_text.py` prints it.
"""

from viscera.config.deliver import DeliverSettings, Destination
from viscera.config.dicom import DicomSettings, Peer
from viscera.config.doors import GrpcSettings, HttpSettings, LogSettings
from viscera.config.series import ChannelRule, SeriesRule, SeriesSettings
from viscera.config.settings import Settings, load_settings
from viscera.config.work import (
    DecodeSettings,
    EngineSettings,
    JobSettings,
    ModelSettings,
    SpoolSettings,
)

__all__ = [
    "ChannelRule",
    "DecodeSettings",
    "DeliverSettings",
    "Destination",
    "DicomSettings",
    "EngineSettings",
    "GrpcSettings",
    "HttpSettings",
    "JobSettings",
    "LogSettings",
    "ModelSettings",
    "Peer",
    "SeriesRule",
    "SeriesSettings",
    "Settings",
    "SpoolSettings",
    "load_settings",
]
