"""All files of one result."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pydicom.dataset import Dataset

from viscera.domain.arrays import Labels
from viscera.domain.models import Model
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
from viscera.encode.files import result_file, write_file
from viscera.encode.frames import pack_frames
from viscera.encode.identity import Identity, digest_of
from viscera.encode.qc import write_qc
from viscera.encode.roundtrip import check_seg
from viscera.encode.seg import encode_seg
from viscera.encode.segments import resolve, segments_of
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
        SEG and SR (where there is a source and no withholding), QC picture, volumes.json. None
        counts before `prove_results` has read the SEG back.

    Raises
    ------
    DatasetMismatch
        If the source's first file cannot be read again.
    UnusableSeries
        If one SEG cannot hold so many frames.
    """
    folder.mkdir(parents=True, exist_ok=True)
    root = folder.parent.parent if root is None else root
    sex = stack.facts.patient_sex if stack else ""
    organs = resolve(measurements, sex)
    files: list[ResultFile] = []
    with ThreadPoolExecutor(1) as beside:
        # Drawing and compressing let go of Python's lock, which the SR keeps busy.
        picture = beside.submit(
            write_qc, folder / "qc.png", labels, volume, organs, verdict, context
        )
        if stack is not None and verdict.decision is not Decision.WITHHOLD:
            sources = read_sources(stack)
            seg, identity, row = write_seg(labels, organs, sources, context, folder, root)
            report = encode_sr(seg, organs, verdict, sources, context, identity)
            files += [row, _write_report(report, folder / "report.dcm", root)]
        picture.result()
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
    folder: Path,
    root: Path,
) -> tuple[Dataset, Identity, ResultFile]:
    """Write the SEG; return its header, the result's UIDs and the file's row.

    `organs` carry labels resolved by sex. Digests are made beside packing and syncing: hashing
    lets go of Python's lock.
    """
    segments = segments_of(organs, context.model, sources.stack.facts.patient_sex)
    with ThreadPoolExecutor(1) as beside:
        digest = beside.submit(digest_of, labels)
        frames = pack_frames(labels, segments, sources.stack.geometry)
        identity = Identity(job_key=context.job_key, labels_sha256=digest.result())
    seg = encode_seg(frames, segments, sources, context, identity)
    row = write_file(
        ResultKind.SEG,
        folder / "segmentation.dcm",
        root,
        seg.part10(),
        sop_class_uid=str(seg.header.SOPClassUID),
        sop_uid=identity.seg_uid,
    )
    return seg.header, identity, row


def prove_results(
    files: Sequence[ResultFile],
    folder: Path,
    *,
    labels: Labels,
    measurements: Sequence[OrganMeasurement],
    stack: Stack | None,
    model: Model,
) -> None:
    """Read the SEG among `files` back from the disk and compare it with the label map.

    Parameters
    ----------
    files, folder
        What `write_results` returned, and where it wrote.
    labels, measurements, stack
        As they were handed to it.
    model
        The context's.

    Raises
    ------
    RoundTripMismatch
        If the SEG does not decode to `labels`; it stays for whoever looks into it.
    """
    for one in files:
        if one.kind is ResultKind.SEG and stack is not None:
            organs = resolve(measurements, stack.facts.patient_sex)
            segments = segments_of(organs, model, stack.facts.patient_sex)
            check_seg(folder / one.path.name, labels, segments, stack.geometry)


def _write_report(report: Dataset, path: Path, root: Path) -> ResultFile:
    report.save_as(path, enforce_file_format=True)
    return result_file(
        ResultKind.SR,
        path,
        root,
        sop_class_uid=str(report.SOPClassUID),
        sop_uid=str(report.SOPInstanceUID),
    )
