"""The listener and the DICOM nodes that it knows."""

import ipaddress
import re
from pathlib import Path
from typing import Self

from pydantic import Field, field_validator, model_validator

from viscera.config.section import AETitle, Port, Section, Slug


class Peer(Section):
    """One DICOM node that may send to us."""

    name: Slug = Field(description="Our name for it; the only one that logs and rows show.")
    ae_title: AETitle = Field(description="Its calling AE title.")
    networks: tuple[str, ...] = Field(
        (), description="Source networks in CIDR; empty admits nobody."
    )
    host: str = Field(
        "",
        description="Where it answers C-FIND and C-MOVE, for `viscera pull` and gRPC's "
        "SegmentByUid; empty: nowhere.",
    )
    port: Port = Field(104, description="Its port there.")
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


class DicomSettings(Section):
    """The DICOM listener."""

    host: str = Field("0.0.0.0", description="Address to listen on.")  # noqa: S104 - a PACS is elsewhere
    port: Port = Field(11112, description="TCP port; 0 takes a free one.")
    plain: bool = Field(True, description="Whether to listen on `port`, which is without TLS.")
    tls_port: Port | None = Field(
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
    ae_title: AETitle = Field(
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
