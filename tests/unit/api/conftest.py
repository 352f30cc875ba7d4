from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from api_fakes import MemoryStore
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from viscera.jobs.spool import Spool

MakeInstance = Callable[..., bytes]


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool", reserve_bytes=0, clock=lambda: datetime.now(UTC))


@pytest.fixture
def make_instance(tmp_path: Path) -> MakeInstance:
    """Writes a CT slice with pydicom and returns the file's bytes."""

    def make(number: int, series_uid: str = "1.2.3", text: str = "") -> bytes:
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = f"1.2.3.4.{number}"
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        path = tmp_path / f"{number}.dcm"
        ds = FileDataset(path, {}, file_meta=meta, preamble=b"\0" * 128)
        ds.SOPClassUID = CTImageStorage
        ds.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
        ds.Modality = "CT"
        ds.StudyInstanceUID = "1.2"
        ds.SeriesInstanceUID = series_uid
        ds.SeriesDescription = text
        ds.ImagePositionPatient = [0, 0, number]
        ds.Rows = ds.Columns = 16
        ds.BitsAllocated = ds.BitsStored = 16
        ds.HighBit, ds.PixelRepresentation, ds.SamplesPerPixel = 15, 1, 1
        ds.PhotometricInterpretation = "MONOCHROME2"
        ds.PixelData = bytes(512)
        ds.save_as(path, enforce_file_format=True)
        return path.read_bytes()

    return make
