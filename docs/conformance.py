"""Writes conformance.md, the DICOM Conformance Statement (PS3.2), from the code: ``make docs``.

Nothing is listed twice: SOP classes, transfer syntaxes, statuses and limits are the code's own
tables, and the attributes of results are those of a result that is written here from a phantom.
A test compares the committed page with what this gives.
"""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from pydicom import dcmread
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import UID
from pynetdicom import AE

from viscera import __version__, encode, errors, measure, models, phantom, series
from viscera.config import DicomSettings, SeriesSettings, Settings
from viscera.deliver import answers, event_report
from viscera.deliver import dicom as deliver_dicom
from viscera.deliver.commitment import _REQUEST
from viscera.domain.organs import AMOS
from viscera.domain.results import Decision, Verdict
from viscera.domain.sources import MODALITIES
from viscera.encode.inherited import PATIENT, STUDY
from viscera.encode.sources import CHARACTER_SET
from viscera.files.part10 import DEFLATED
from viscera.receive.classes import (
    COMMITMENT,
    COMMITMENT_TRANSFER_SYNTAXES,
    KINDS,
    TRANSFER_SYNTAXES,
)
from viscera.receive.pull import FIND, MOVE
from viscera.receive.tls import _TLS12_SUITES
from viscera.statuses import outward

ROOT = Path(__file__).parents[1]
VERIFICATION = UID("1.2.840.10008.1.1")
_NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)

_TAKEN = (
    errors.RejectedInstance,
    errors.UnsupportedSOPClass,
    errors.DatasetMismatch,
    errors.InvalidUID,
    errors.ConflictingInstance,
    errors.SpoolFull,
)
"""What a C-STORE may be answered with besides success."""

_REPORTED = {
    event_report.TAKEN: "The report is durable; a repeated one too.",
    event_report.NO_SUCH_EVENT: "Another event type than 1 or 2.",
    event_report.INVALID_ARGUMENT: "A transaction that was not asked for, or no report at all.",
    event_report.NO_SUCH_CLASS: "It came in a presentation context of another SOP class.",
    event_report.NO_ROOM: "The disk is full; report again.",
    event_report.FAILED: "Viscera's own fault, or a data set that cannot be read.",
}
"""What an N-EVENT-REPORT may be answered with."""

_SHARED = {"FrameOfReferenceUID", "Rows", "Columns"}
"""Where results lie on their source: said of the source only if the value is its own."""

_LIMITS = (
    *("processes", "max_associations", "max_associations_per_peer", "max_per_address"),
    *("idle_timeout_s", "pdu_timeout_s", "max_pdu_bytes", "max_instance_bytes"),
)


def pages() -> dict[str, str]:
    """Return the generated page by its file's name."""
    entities = (_storage_scp, _storage_scu, _query_scu)
    parts = (_overview, _networking, *entities, _communication, _contents)
    return {"conformance.md": "\n".join(line for part in parts for line in part()).rstrip() + "\n"}


def _overview() -> Iterator[str]:
    yield f"""# DICOM Conformance Statement

For the PACS administrator who connects Viscera, in the layout of PS3.2.

Written by `make docs` from the code's own tables; do not edit.

## 1 Overview

Viscera {__version__} receives CT and MR series by DICOM, segments abdominal organs, and stores a
Segmentation and a measurement report back. It prints nothing and keeps no archive: a received
instance is a working copy that goes when `[spool]` and `[jobs]` say so. An operator may have a PACS
send a study (`viscera pull`), and so may a gRPC client that a peer's `grpc_principals` names
(`SegmentByUid`).
"""
    yield from _table("SOP class", "user (SCU)", "provider (SCP)")
    yield _row(VERIFICATION.name, "no", "yes")
    for uid in MODALITIES:
        yield _row(UID(uid).name, "no", "yes")
    for uid in _sent():
        yield _row(UID(uid).name, "yes", "no")
    yield _row("what is accepted and dropped: see 4.2.1.3", "no", "yes, nothing is kept")
    for uid in (COMMITMENT, FIND, MOVE):
        yield _row(UID(uid).name, "yes", "no")
    yield """
Media interchange and print are not supported. No private SOP class, transfer syntax or
attribute is used or created.

## 2 Contents

1 Overview, 2 Contents, 3 Introduction, 4 Networking (4.1 implementation model, 4.2 application
entities, 4.3 interfaces, 4.4 configuration), 5 Media interchange, 6 Character sets, 7 Security,
8 Annexes (8.1 created objects, 8.2 attributes that are copied, 8.3 codes).

## 3 Introduction

For those who plan and run the network between Viscera and a PACS and know DICOM. A conformance
statement shows what two systems may exchange; it does not replace a test between them. Terms and
abbreviations are those of PS3.2 and PS3.4. Settings stand in [settings.md](settings.md), errors
in [errors.md](errors.md), odd series in [oddities.md](oddities.md).
"""


def _networking() -> Iterator[str]:
    dicom = DicomSettings()
    entity = AE()
    yield f"""## 4 Networking

### 4.1 Implementation model

STORAGE-SCP takes instances from the peers in the settings; each is on disk, synced, before it is
answered. When a series is complete its volumes are segmented, and STORAGE-SCU sends the results to
the destinations in the settings. Each of the two has an AE title, by default `{dicom.ae_title}`
for both. They need not run at the same time, and neither waits for the other. Where a destination
is asked for storage commitment, its reports come to STORAGE-SCP or to STORAGE-SCU.

### 4.2 AE specifications

Both entities: application context 1.2.840.10008.3.1.1.1; no asynchronous operations window; no
extended negotiation but role selection for storage commitment; implementation class UID
{entity.implementation_class_uid}, implementation version name {entity.implementation_version_name};
files that Viscera writes name an implementation class UID of Viscera's own.
"""


def _storage_scp() -> Iterator[str]:
    yield """#### 4.2.1 STORAGE-SCP

##### 4.2.1.1 Associations

It initiates none. It accepts one where the called AE title is its own and the calling AE title,
the source network and, where asked for, the TLS certificate are those of one peer in the settings;
an empty list admits nobody.
"""
    yield from _table("rejected", "result", "source", "reason")
    yield _row("called AE title not recognised", "1 permanent", "1 user", "7")
    yield _row("calling AE title, network or certificate not known", "1 permanent", "1 user", "3")
    yield _row("limit of associations reached", "2 transient", "3 presentation", "2")
    yield ""
    yield from _table("limit", "default", "meaning")
    for name in _LIMITS:
        field = DicomSettings.model_fields[name]
        yield _row(f"`dicom.{name}`", f"`{field.default}`", str(field.description))
    yield """
##### 4.2.1.2 Presentation contexts: what is kept

Any of the transfer syntaxes for each of the SOP classes. At start each decoder is tried on known
pixels, and a syntax whose decoder fails is not offered; where a peer proposes several in one
context, the first of this list is taken.
"""
    yield from _table("SOP class", "UID")
    for uid in (*MODALITIES, VERIFICATION):
        yield _row(UID(uid).name, str(uid))
    yield ""
    yield from _table("transfer syntax", "UID")
    for uid in TRANSFER_SYNTAXES:
        yield _row(UID(uid).name, uid)
    yield f"""
Never accepted, because they inflate without bound: {_names(sorted(DEFLATED))}.

##### 4.2.1.3 Presentation contexts: what is accepted and dropped

What a PACS sends along with a study is, for each peer by `accept_and_drop`, answered with success,
counted, and not kept, in any transfer syntax that is not deflated.
"""
    yield from _table("kind", "SOP classes")
    for kind, uids in KINDS.items():
        yield _row(f"`{kind}`", _names(sorted(uids)))
    yield """
##### 4.2.1.4 Conformance of the Storage service

Level 2 (full): every attribute of an accepted instance is kept as it came, byte by byte, while the
instance is kept. Digital signatures are not looked at. A repeated instance with the same bytes is a
success. C-ECHO is answered with success.
"""
    yield from _table("status", "error comment", "meaning")
    yield _row("`0x0000`", "", "The instance is durable, or was dropped as 4.2.1.3 says.")
    for error in _TAKEN:
        meaning = str(error.__doc__).splitlines()[0]
        yield _row(f"`0x{outward(error()).dimse:04X}`", f"`{error.__name__}`", meaning)
    other = outward(errors.ServiceError()).dimse
    yield _row(f"`0x{other:04X}`", "any other", "Viscera's own fault; its log says more.")
    yield f"""
##### 4.2.1.5 Reports on storage commitment

Any peer in the settings may propose
{UID(COMMITMENT).name} ({COMMITMENT}) with
{" or ".join(UID(uid).name for uid in COMMITMENT_TRANSFER_SYNTAXES)}, and the role of provider for
itself; a peer that proposes no role is taken for the provider too. N-EVENT-REPORT is answered as
below. N-ACTION is not supported, and answered with `0x0110`.
"""
    yield from _table("status", "meaning")
    for status, text in _REPORTED.items():
        yield _row(f"`0x{status:04X}`", text)
    yield ""


def _storage_scu() -> Iterator[str]:
    yield """#### 4.2.2 STORAGE-SCU

##### 4.2.2.1 Associations

It accepts none. It opens one association with a destination when results for it are due, sends
what is due there, and releases it. After a failure that may pass it tries again, with pauses that
double from `deliver.backoff_s` to `deliver.backoff_max_s`, without end.

##### 4.2.2.2 Presentation contexts

Each context proposes one transfer syntax: that of the file.
"""
    yield from _table("SOP class", "UID", "transfer syntax")
    for uid, syntax in deliver_dicom._COMPANIONS:
        yield _row(UID(uid).name, uid, UID(syntax).name)
    yield """
Results are Segmentation and SR objects; the other SR classes are proposed so that one association
serves reports of older and later versions.

##### 4.2.2.3 Conformance of the Storage service
"""
    yield from _table("status of the answer", "behaviour")
    taken = ["0x0000", f"0x{answers._DUPLICATE:04X}", *_codes(answers._WARNINGS), "0xBxxx"]
    yield _row(", ".join(taken), "delivered")
    yield _row(
        ", ".join([*_codes(answers._FINAL), "0xA9xx", "0xCxxx"]),
        "failed: the same object would be refused again; an operator may try again",
    )
    yield _row("any other, or none", "tried again")
    yield f"""
##### 4.2.2.4 Conformance of the Storage Commitment service

For a destination whose `commitment` is `offered` or `required`, it opens an association of its own
after each stored object, proposes
{UID(COMMITMENT).name} ({COMMITMENT}) with
{" or ".join(UID(uid).name for uid in COMMITMENT_TRANSFER_SYNTAXES)}, and sends N-ACTION
(type {_REQUEST}) with a new Transaction UID and one item of Referenced SOP Sequence. Any status but
`0x0000` is tried again. It waits a moment for N-EVENT-REPORT on that association, half a
minute at most, and releases it; later reports are taken by STORAGE-SCP (4.2.1.5).
"""
    yield from _table("report", "behaviour")
    yield _row("the object in Referenced SOP Sequence", "delivered, whichever request it answers")
    yield _row(
        "the object in Failed SOP Sequence, or in none",
        "stored and asked for again, whatever the reason, unless a later request is open",
    )
    yield _row(
        "none for `commitment_timeout_s`",
        "asked for again with a new Transaction UID; the pauses double up to a day",
    )
    yield ""


def _query_scu() -> Iterator[str]:
    yield """#### 4.2.3 QUERY-SCU

##### 4.2.3.1 Associations

It accepts none. `viscera pull STUDY_UID --from PEER`, and each gRPC call `SegmentByUid` for a
series that is not here yet, opens one association with a peer that has a `host` in the settings,
with the AE title of STORAGE-SCP, and releases it at its end.

##### 4.2.3.2 Presentation contexts

Each with Explicit VR Little Endian and Implicit VR Little Endian.
"""
    yield from _table("SOP class", "UID")
    for uid in (FIND, MOVE):
        yield _row(UID(uid).name, uid)
    yield """
##### 4.2.3.3 Conformance of the Query/Retrieve service

Study root, level SERIES. C-FIND matches Study Instance UID and, for `SegmentByUid`, Series
Instance UID; it asks for Series Instance UID, Modality and Number of Series Related Instances.
C-MOVE names one series at a time, of modality CT or MR, and STORAGE-SCP as the destination. No
relational queries, no C-CANCEL. A status other than success or pending ends the command with an
error; `0xA801` is told as an unknown destination.
"""


def _communication() -> Iterator[str]:
    suites = _TLS12_SUITES.split(":")
    yield f"""### 4.3 Network interfaces

TCP/IP, IPv4 and IPv6 as the host has them.

### 4.4 Configuration

AE titles, addresses, ports, peers, destinations and all limits are settings of `[dicom]` and
`[deliver]` ([settings.md](settings.md)). Defaults: listening port {DicomSettings().port}, called AE
title `{DicomSettings().ae_title}`.

## 5 Media interchange

Not supported. `viscera segment` reads PS3.10 files, also those that a DICOMDIR lies beside.

## 6 Character sets

Received data sets may use any; what is copied into results is decoded and written again in
{CHARACTER_SET} (UTF-8).

## 7 Security

DICOM TLS beside or instead of the plain port (`dicom.tls_port`, `dicom.plain`), as the BCP 195
profiles of PS3.15 have it: TLS 1.3, and TLS 1.2 with
{", ".join(suites[:2])},
{", ".join(suites[2:])}.
Client certificates are asked for where `dicom.tls_client_ca` is set, and may be bound to a peer's
AE title (`dicom.peers.certificates`). STORAGE-SCU does not use TLS. Without TLS a peer is known by
its AE title and network alone.
"""


def _contents() -> Iterator[str]:
    yield """## 8 Annexes

### 8.1 Created SOP instances

Attributes of results that were written for a phantom while this page was made; `>` stands before
those of a sequence's items, as far as any item has them. *Source* means copied from the first
instance of the segmented series, as far as it has the attribute; 8.2 names all that are copied.
Frames of a segment are written only where the segment has voxels; each refers to the source frame
that it lies on. The report's content items have a table of their own.
"""
    with tempfile.TemporaryDirectory() as place:
        source, results = _written(Path(place))
    for ds in results:
        yield f"#### {UID(ds.SOPClassUID).name}\n"
        yield from _table("attribute", "tag", "VR", "value")
        for depth, element in _nested(ds):
            name = f"{'> ' * depth}{element.name}"
            value = "" if depth else _origin(element, source)
            yield _row(name, str(element.tag), element.VR, value)
        yield ""
        if "ContentSequence" in ds:
            yield f"Content of {UID(ds.SOPClassUID).name}, under {_concept(ds)}:\n"
            yield from _table("content item", "concept", "relationship", "value type")
            for depth, item in _content(ds):
                name, code = _concept(item).rsplit(" (", 1)
                relationship = str(item.RelationshipType)
                yield _row(f"{'> ' * depth}{name}", f"({code}", relationship, str(item.ValueType))
            yield ""
    yield "### 8.2 Attributes that are copied\n"
    yield from _table("module", "attributes")
    yield _row("Patient, Clinical Trial Subject", _listed(PATIENT))
    yield _row("General Study, Patient Study, Clinical Trial Study", _listed(STUDY))
    yield """
### 8.3 Codes of segments

The organs of AMOS; a model may know fewer, or bring others in its manifest.
"""
    yield from _table("segment", "code", "meaning", "laterality")
    for label in AMOS:
        side = label.laterality.meaning if label.laterality else ""
        code = f"({label.type.value}, {label.type.scheme})"
        yield _row(label.title, code, label.type.meaning, side)


def _written(folder: Path) -> tuple[Dataset, Sequence[Dataset]]:
    """Return a source instance and the SEG and SR of its series."""
    scan = phantom.Scan(spacing_mm=(20.0, 12.0, 12.0), matrix=(32, 32), centred=True, plain=True)
    body = phantom.make_phantom(1, scan)
    paths = phantom.write_series(body, folder / "in")
    (stack,) = series.assemble(paths, SeriesSettings()).stacks
    model = models.load_model(ROOT / "model_repo", Settings().models.default)
    encode.write_results(
        labels=body.labels,
        volume=body.volume,
        stack=stack,
        measurements=measure.measure(body.labels, body.volume, model),
        verdict=Verdict(decision=Decision.DELIVER),
        context=encode.ResultContext(
            job_id="1", job_key="1", created_at=_NOON, model=model, engine="engine"
        ),
        folder=folder / "out",
    )
    results = sorted((folder / "out").glob("*.dcm"), reverse=True)
    return dcmread(paths[0]), [dcmread(path, stop_before_pixels=True) for path in results]


def _origin(element: DataElement, source: Dataset) -> str:
    keyword = element.keyword
    copied = keyword in {*PATIENT, *STUDY}
    shared = keyword in _SHARED and element.value == source[keyword].value
    return "source" if copied or shared else "Viscera"


def _nested(ds: Dataset, depth: int = 0) -> Iterator[tuple[int, DataElement]]:
    """Yield elements with their depth; of a sequence, what any of its items has."""
    for element in ds:
        yield depth, element
        if element.VR == "SQ" and element.keyword != "ContentSequence":
            together = Dataset()
            for item in element.value:
                together.update(item)
            yield from _nested(together, depth + 1)


def _content(ds: Dataset, depth: int = 1) -> Iterator[tuple[int, Dataset]]:
    """Yield the content items below `ds`, one of each kind: organs are alike."""
    kinds: dict[tuple[str, ...], list[Dataset]] = {}
    for item in ds.get("ContentSequence", ()):
        kind = (_concept(item), str(item.ValueType), str(item.RelationshipType))
        kinds.setdefault(kind, []).append(item)
    for alike in kinds.values():
        yield depth, alike[0]
        below = Dataset()
        below.ContentSequence = [part for item in alike for part in item.get("ContentSequence", ())]
        yield from _content(below, depth + 1)


def _concept(item: Dataset) -> str:
    """Return what a content item is called: meaning and code."""
    if "ConceptNameCodeSequence" not in item:
        return "(none) ()"
    (code,) = item.ConceptNameCodeSequence
    return f"{code.CodeMeaning} ({code.CodeValue}, {code.CodingSchemeDesignator})"


def _sent() -> Iterable[str]:
    return [uid for uid, _ in deliver_dicom._COMPANIONS]


def _codes(statuses: Iterable[int]) -> list[str]:
    return [f"0x{status:04X}" for status in sorted(statuses)]


def _names(uids: Iterable[str]) -> str:
    return ", ".join(UID(uid).name for uid in uids)


def _listed(keywords: Iterable[str]) -> str:
    return ", ".join(f"{keyword} {_tag(keyword)}" for keyword in keywords)


def _tag(keyword: str) -> str:
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    return str(Tag(tag))


def _table(*columns: str) -> tuple[str, str]:
    return _row(*columns), "|" + "---|" * len(columns)


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def main() -> None:
    """Write the page beside this script."""
    for name, text in pages().items():
        (Path(__file__).parent / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
