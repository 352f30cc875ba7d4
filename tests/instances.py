"""Small CT instances with chosen UIDs, as bytes of DICOM's file format."""

import struct
from io import BytesIO

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

STUDY_UID = "1.2.826.0.1.3680043.8.498.1"
SERIES_UID = "1.2.826.0.1.3680043.8.498.2"


def ct_dataset(
    *, sop_uid: str | None = None, series_uid: str = SERIES_UID, z_mm: float = 0.0, size: int = 16
) -> Dataset:
    """Return a CT slice of `size` x `size`; noise from a seed, so that equal calls are equal."""
    ds = Dataset()
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = generate_uid() if sop_uid is None else sop_uid
    ds.StudyInstanceUID = STUDY_UID
    ds.SeriesInstanceUID = series_uid
    ds.PatientID = "P1"
    ds.Modality = "CT"
    ds.ImagePositionPatient = [-10.5, 20.25, z_mm]
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing = [0.75, 0.75]
    ds.Rows = ds.Columns = size
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit = 15
    ds.PixelRepresentation = 1
    noise = np.random.default_rng(abs(round(z_mm * 100))).integers(-1000, 1000, (size, size))
    ds.PixelData = noise.astype("<i2").tobytes()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    return ds


def as_file(ds: Dataset) -> bytes:
    """Return `ds` as pydicom writes it."""
    buffer = BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def with_uid(data: bytes, tag: int, value: bytes) -> bytes:
    """Return explicit VR little endian `data` with the last UI element `tag` changed to `value`.

    By bytes, because libraries do not write what is to be tested.
    """
    value += b"\0" * (len(value) % 2)
    at = data.rindex(struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, b"UI")) + 6
    (length,) = struct.unpack_from("<H", data, at)
    return data[:at] + struct.pack("<H", len(value)) + value + data[at + 2 + length :]
