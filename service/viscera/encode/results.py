"""All files of one result."""

from collections.abc import Sequence
from pathlib import Path

from pydicom.dataset import Dataset

from viscera.domain.arrays import Labels
from viscera.domain.results import (
    Decision,
    OrganMeasurement,
    ResultFile,
    ResultKind,
    Verdict,
)
from viscera.domain.sources import Stack
from viscera.domain.volumes import Volume
from viscera.encode.context import ResultContext
from viscera.encode.files import result_file
from viscera.encode.identity import Identity, digest_of
from viscera.encode.qc import write_qc
from viscera.encode.roundtrip import check_seg
from viscera.encode.seg import encode_seg
from viscera.encode.segments import empty_segments, found_segments, resolve
from viscera.encode.sources import Sources, read_sources
from viscera.encode.sr import encode_sr
from viscera.encode.volumes import write_volumes_json
from viscera.files.durable import sync_folder


def write_results(
    *,
    labels: Labels,
    volume: Volume,
    stack: Stack | None,
    measurements: Sequence[OrganMeasurement],
    verdict: Verdict,
    context: ResultContext,
    folder: Path,
    root: Path | None = None,
) -> tuple[ResultFile, ...]:
    """Write everything that a result is into `folder`, synced to disk.

    Parameters
    ----------
    labels
        (slice, row, column) on the volume's grid.
    volume
        What was segmented.
    stack
        Its DICOM source; None writes no DICOM objects (`viscera segment scan.nii.gz`).
    measurements, verdict
        From ``measure``. A withheld result is told in volumes.json and shown in the picture, but
        no SEG or SR of it is made, so no door can let one out.
    context
        The job's row.
    folder
        Made if it does not exist; usually ``results/JOB/FENCE``.
    root
        What paths are relative to; by default two folders up.

    Returns
    -------
    tuple
        SEG and SR (where there is a source and no withholding), QC picture, volumes.json.

    Raises
    ------
    RoundTripMismatch
        If the SEG as written does not decode to `labels`.
    DatasetMismatch
        If the source's first file cannot be read again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    root = folder.parent.parent if root is None else root
    sex = stack.facts.patient_sex if stack else ""
    organs = resolve(measurements, sex)
    files: list[ResultFile] = []
    if stack is not None and verdict.decision is not Decision.WITHHOLD:
        sources = read_sources(stack)
        identity = Identity(job_key=context.job_key, labels_sha256=digest_of(labels))
        seg, row = write_seg(labels, organs, sources, context, identity, folder, root)
        report = encode_sr(seg, organs, verdict, sources, context, identity)
        files += [row, _write_object(ResultKind.SR, report, folder / "report.dcm", root)]
    write_qc(folder / "qc.png", labels, volume, organs, verdict, context)
    files.append(result_file(ResultKind.QC, folder / "qc.png", root))
    volumes = folder / "volumes.json"
    write_volumes_json(volumes, organs, verdict, volume.geometry, volume.modality, context, stack)
    files.append(result_file(ResultKind.VOLUMES, volumes, root))
    sync_folder(folder)
    return tuple(files)


def write_seg(
    labels: Labels,
    organs: Sequence[OrganMeasurement],
    sources: Sources,
    context: ResultContext,
    identity: Identity,
    folder: Path,
    root: Path,
) -> tuple[Dataset, ResultFile]:
    """Write the SEG, read it back and compare; `organs` carry labels resolved by sex.

    Raises
    ------
    RoundTripMismatch
        If it does not decode to `labels`; the file stays for whoever looks into it.
    """
    segments = found_segments(organs) or empty_segments(
        context.model, sources.stack.facts.patient_sex
    )
    seg = encode_seg(labels, segments, sources, context, identity)
    path = folder / "segmentation.dcm"
    row = _write_object(ResultKind.SEG, seg, path, root)
    check_seg(path.read_bytes(), labels, segments, sources.stack.geometry)
    return seg, row


def _write_object(kind: ResultKind, ds: Dataset, path: Path, root: Path) -> ResultFile:
    ds.save_as(path, enforce_file_format=True)
    return result_file(
        kind, path, root, sop_class_uid=str(ds.SOPClassUID), sop_uid=str(ds.SOPInstanceUID)
    )
