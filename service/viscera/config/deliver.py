"""Where results go."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from viscera.config.section import AETitle, Port, Section, Slug


class Destination(Section):
    """Where results go."""

    name: Slug = Field(description="Our name for it.")
    kind: Literal["dicom", "folder"] = Field(description="C-STORE, or a folder.")
    host: str = Field("", description="dicom: its address.")
    port: Port = Field(104, description="dicom: its port.")
    ae_title: AETitle = Field("ANY-SCP", description="dicom: its AE title.")
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
        30.0,
        gt=0,
        description="dicom: for connection, association, each write and answers; an answer may "
        "take 1 s more for each 100 kB of the object.",
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


class DeliverSettings(Section):
    """Sending results."""

    destinations: tuple[Destination, ...] = Field((), description="Where results go.")
    ae_title: AETitle = Field("VISCERA", description="Our calling AE title.")
    backoff_s: float = Field(
        5.0, gt=0, description="First pause after a failed attempt; doubles, with jitter."
    )
    backoff_max_s: float = Field(
        3600.0, gt=0, description="Longest pause; a transient fault is never given up."
    )

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [one.name for one in self.destinations]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two destinations are called {', '.join(twice)}")
        return self
