"""Small committed results of a real store, for the tests of delivery."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    ComprehensiveSRStorage,
    ExplicitVRLittleEndian,
    SegmentationStorage,
    generate_uid,
)

import store_rows as rows
from viscera.domain.jobs import Address, Job
from viscera.domain.results import ResultFile, ResultKind
from viscera.jobs.store import SqlJobStore

CLASSES = {ResultKind.SEG: SegmentationStorage, ResultKind.SR: ComprehensiveSRStorage}


def write_object(
    path: Path,
    kind: ResultKind,
    *,
    transfer_syntax: str = ExplicitVRLittleEndian,
    sop_class: str = "",
    series_uid: str = "",
) -> str:
    """Write a DICOM object that storage programs take; return its SOP Instance UID."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = transfer_syntax
    ds.SOPClassUID = sop_class or CLASSES[kind]
    ds.SOPInstanceUID = generate_uid()
    ds.PatientID = "phantom"
    ds.PatientName = "Phantom"
    ds.StudyInstanceUID = "1.2.840"
    ds.SeriesInstanceUID = series_uid or generate_uid()
    ds.Modality = kind.upper()
    ds.SeriesDescription = "x" * 64
    ds.save_as(path, enforce_file_format=True)
    return str(ds.SOPInstanceUID)


def result_file(root: Path, path: Path, kind: ResultKind, sop_uid: str = "") -> ResultFile:
    content = path.read_bytes()
    return ResultFile(
        kind=kind,
        path=path.relative_to(root),
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        sop_uid=sop_uid,
        sop_class_uid=str(CLASSES.get(kind, "")),
    )


def committed_job(
    store: SqlJobStore, root: Path, addresses: Sequence[Address], number: int = 0, **objects: str
) -> Job:
    """Commit one job with SEG, SR, picture and volumes; its series UID ends in `number`."""
    series = f"1.2.840.{number}"
    store.record_arrivals([rows.arrival(0, rows.now(), series=series)])
    submission = store.claim_submission("planner")
    assert submission is not None
    store.settle_submission(submission[0], (), [rows.plan(f"key {number}", series=series)])
    claimed = store.claim_job("worker")
    assert claimed is not None
    claim, job = claimed
    folder = root / job.id / str(claim.fence)
    folder.mkdir(parents=True)
    files = []
    for kind, name in ((ResultKind.SEG, "seg.dcm"), (ResultKind.SR, "report.dcm")):
        sop_uid = write_object(folder / name, kind, **objects)
        files.append(result_file(root, folder / name, kind, sop_uid))
    for kind, name in ((ResultKind.QC, "qc.png"), (ResultKind.VOLUMES, "volumes.json")):
        (folder / name).write_text(f"{name} of {number}")
        files.append(result_file(root, folder / name, kind))
    store.finish_job(claim, files, rows.DELIVER, addresses)
    return store.get_job(job.id)
