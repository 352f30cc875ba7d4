"""Transfer syntaxes: series of the slices that also prove our decoders; no encoder is needed."""

from functools import partial

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

import synthetic
from oddities.case import UIDS, Case, Files, datasets, plain, scanned
from viscera.volume.proof import FOLDER, SAMPLES, Sample

GROUP = "Transfer syntaxes"
_COUNT = 8
_PIXELS = (
    *("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    *("PhotometricInterpretation", "PixelData", "RescaleSlope", "RescaleIntercept"),
)


def _series(sample: Sample) -> Files:
    """Return eight slices with the sample's pixels: one codestream at eight places."""
    encoded = dcmread(FOLDER / sample.file)
    stored = np.stack([sample.stored()] * _COUNT)
    s = synthetic.Slices(stored=stored, intercepts=[0.0] * _COUNT, **UIDS)
    made = [_with_pixels(ds, encoded) for ds in datasets(s)]
    return Files(
        datasets=made, scanned=(scanned(s, stored.astype(int), tolerance=sample.tolerance),)
    )


def _with_pixels(ds: Dataset, encoded: Dataset) -> Dataset:
    for keyword in _PIXELS:
        ds[keyword] = encoded[keyword]
    ds.file_meta.TransferSyntaxUID = encoded.file_meta.TransferSyntaxUID
    return ds


def _deflated() -> Files:
    files = plain()
    for ds in files.datasets:
        ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    return files


def _cases() -> tuple[Case, ...]:
    return tuple(
        Case(
            group=GROUP,
            name=f"{UID(sample.transfer_syntax_uid).name}, {sample.kind}",
            make=partial(_series, sample),
            usable=True,
        )
        for sample in SAMPLES
    )


CASES = (
    *_cases(),
    Case(
        group=GROUP,
        name="Deflated Explicit VR Little Endian",
        make=_deflated,
        usable=False,
        names=("UndecodablePixels", "deflated"),
    ),
)
