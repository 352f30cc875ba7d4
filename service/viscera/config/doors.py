"""gRPC, HTTP and the log."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from viscera.config.section import Port, Section


class GrpcSettings(Section):
    """The gRPC door."""

    host: str = Field(
        "127.0.0.1", description="Beyond loopback only with TLS and tokens or client certificates."
    )
    port: Port = Field(50051, description="TCP port; 0 takes a free one.")
    tls_certificate: Path | None = Field(
        None, description="PEM file, with intermediate ones; read again when it changes."
    )
    tls_key: Path | None = Field(None, description="PEM file, without a passphrase.")
    tls_client_ca: Path | None = Field(
        None, description="PEM file; set: clients must show a certificate."
    )
    tokens_file: Path | None = Field(
        None, description='TOML file: principal = "token"; read again when it changes.'
    )
    max_message_mb: int = Field(16, ge=1, le=512, description="Largest chunk of an upload.")
    max_streams: int = Field(32, ge=1, le=1024, description="Streaming calls at once.")
    max_streams_per_principal: int = Field(
        0,
        ge=0,
        le=1024,
        description="Of these, from one principal; 0: half of them. `local` may have all.",
    )
    idle_timeout_s: float = Field(
        120.0,
        gt=0,
        description="Longest time that the next message of an upload may take, or its client to "
        "take one of ours.",
    )
    max_instance_mb: int = Field(
        512, ge=1, le=2047, description="Largest instance of an upload; held in memory."
    )
    max_upload_mb: int = Field(4096, ge=1, description="Largest upload of one SegmentSeries.")


class HttpSettings(Section):
    """The page of metrics and health."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: Port = Field(9090, description="TCP port; 0 takes a free one.")


class LogSettings(Section):
    """Logs."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severity written."
    )
    format: Literal["json", "text"] = Field(
        "json", description="json for machines, text for people."
    )
