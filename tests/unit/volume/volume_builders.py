"""Files and stacks for the volume room, written by pydicom and placed by hand."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian

from viscera.domain.geometry import Geometry
from viscera.domain.sources import Frame, SeriesFacts, SourceFrame, Stack


def image(stored: np.ndarray, sop_uid: str = "1.2.3.1", **attributes: object) -> Dataset:
    """Return a data set of `stored` (row, column) or (frame, row, column); None drops one."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = CTImageStorage if stored.ndim == 2 else EnhancedCTImageStorage
    ds.SOPInstanceUID = sop_uid
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = sop_uid
    ds.PatientName = "Secret^Patient"
    ds.Rows, ds.Columns = stored.shape[-2:]
    if stored.ndim == 3:
        ds.NumberOfFrames = len(stored)
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    bits = 8 * stored.dtype.itemsize
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = bits, bits, bits - 1
    ds.PixelRepresentation = int(stored.dtype.kind == "i")
    ds.RescaleSlope, ds.RescaleIntercept = "1", "-1024"
    ds.PixelData = stored.tobytes()
    for keyword, value in attributes.items():
        if value is None:
            delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    ds["PixelData"].VR = "OW"
    return ds


def save(ds: Dataset, path: Path) -> Path:
    ds.save_as(path, enforce_file_format=True)
    return path


def rescale_item(slope: float, intercept: float) -> Dataset:
    """Return a functional group with a pixel value transformation."""
    transformation = Dataset()
    transformation.RescaleSlope, transformation.RescaleIntercept = str(slope), str(intercept)
    group = Dataset()
    group.PixelValueTransformationSequence = Items([transformation])
    return group


def stack_of(
    slices: Sequence[tuple[Path, str, int]],
    size: tuple[int, int],
    modality: str = "CT",
) -> Stack:
    """Return a stack of (path, SOP instance UID, frame number) in that order."""
    frames = tuple(
        Frame(
            source=SourceFrame(sop_uid, number),
            path=path,
            sha256="",
            rows=size[0],
            columns=size[1],
            position_lps=(0.0, 0.0, float(k)),
            orientation_lps=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
            spacing_mm=(1.0, 1.0),
        )
        for k, (path, sop_uid, number) in enumerate(slices)
    )
    facts = SeriesFacts(
        study_uid="1.2.3",
        series_uid="1.2.3.4",
        sop_class_uid=CTImageStorage,
        modality=modality,
        frame_of_reference_uid="1.2.3.5",
    )
    return Stack(facts=facts, frames=frames, geometry=axial((len(frames), *size)))


def axial(
    shape: tuple[int, int, int], spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)
) -> Geometry:
    """Return a grid with axes SPL at the origin."""
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = *spacing_mm, 1.0
    return Geometry(shape=shape, affine_lps=affine)
