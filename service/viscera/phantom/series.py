"""A phantom as a CT series, in any orientation, order and encoding of values that tests ask for."""

import uuid
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from viscera.domain.geometry import Geometry, axes_transform, to_axes
from viscera.phantom.make import Phantom

_NAMESPACE = uuid.UUID("6c0d9b7e-1f6a-5b5e-9f0e-0b6f5f5d7a11")
_INTERCEPT = -1024
_DATE, _TIME = "20260101", "120000"


class SliceOrder(StrEnum):
    """In which order instances are numbered and named."""

    ASCENDING = "ascending"  # along the first axis
    DESCENDING = "descending"
    SHUFFLED = "shuffled"  # by the phantom's seed


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Storage:
    """How a series is written; the defaults are what most scanners do."""

    axes: str = "SPL"
    """Towards which side slices, rows and columns follow one another."""
    rotation_lps: np.ndarray | None = None
    """3x3, turns the patient about the world's origin: an oblique series."""
    order: SliceOrder = SliceOrder.ASCENDING
    patient_position: str = "HFS"
    padding_value: int | None = None
    """Stored value of what lies outside the circle (-1024 HU); None: as air, without the tag."""
    rescale_by_slice: bool = False
    """Whether the intercept differs from slice to slice, as PET-CT scanners do with the slope."""


def stored_geometry(geometry: Geometry, storage: Storage) -> Geometry:
    """Return the grid of the stored array: `geometry` permuted, flipped and turned."""
    permutation, flips = axes_transform(geometry.axes, storage.axes)
    shape = [geometry.shape[k] for k in permutation]
    affine = np.eye(4)
    affine[:3, 3] = geometry.affine_lps[:3, 3]
    for axis, (source, flip) in enumerate(zip(permutation, flips, strict=True)):
        step = geometry.affine_lps[:3, source]
        affine[:3, axis] = -step if flip else step
        affine[:3, 3] += step * (shape[axis] - 1) if flip else 0.0
    if storage.rotation_lps is not None:
        affine[:3] = storage.rotation_lps @ affine[:3]
    return Geometry(shape=(shape[0], shape[1], shape[2]), affine_lps=affine)


def stored_array(array: np.ndarray, geometry: Geometry, storage: Storage) -> np.ndarray:
    """Return `array`, voxels or labels on `geometry`, as :func:`stored_geometry` lays them."""
    return to_axes(array, geometry.axes, storage.axes)


def write_series(
    phantom: Phantom, folder: Path, storage: Storage | None = None
) -> tuple[Path, ...]:
    """Write one CT Image Storage instance a slice.

    Parameters
    ----------
    phantom
        Its seed, phase and grid decide all UIDs: writing twice gives the same bytes.
    folder
        Made if absent. Files are named by instance number.
    storage
        Orientation and encoding; None: axial, head first, ascending.

    Returns
    -------
    tuple
        The paths by instance number.

    Raises
    ------
    OSError
        If a file cannot be written.
    """
    storage = storage or Storage()
    folder.mkdir(parents=True, exist_ok=True)
    geometry = stored_geometry(phantom.volume.geometry, storage)
    voxels = stored_array(phantom.volume.voxels, phantom.volume.geometry, storage)
    series = _series_header(phantom, storage, geometry)
    paths = []
    for number, k in enumerate(_numbering(len(voxels), storage.order, phantom.seed), start=1):
        ds = _slice(series, voxels[k], geometry, k, number, storage)
        path = folder / f"CT{number:04d}.dcm"
        ds.save_as(path, enforce_file_format=True)
        paths.append(path)
    return tuple(paths)


def _uid(*parts: object) -> str:
    return f"2.25.{uuid.uuid5(_NAMESPACE, '/'.join(map(str, parts))).int}"


def _numbering(count: int, order: SliceOrder, seed: int) -> list[int]:
    match order:
        case SliceOrder.ASCENDING:
            return list(range(count))
        case SliceOrder.DESCENDING:
            return list(range(count))[::-1]
        case SliceOrder.SHUFFLED:
            return [int(k) for k in np.random.default_rng(seed).permutation(count)]


def _series_header(phantom: Phantom, storage: Storage, geometry: Geometry) -> Dataset:
    """Return what all slices share, in the order of the modules of PS3.3 A.3."""
    what = (phantom.seed, phantom.phase, geometry.affine_lps.round(4).tolist(), geometry.shape)
    ds = Dataset()
    ds.PatientName, ds.PatientID = f"Phantom^Seed{phantom.seed}", f"PHANTOM-{phantom.seed}"
    ds.PatientBirthDate, ds.PatientSex = "", phantom.sex
    ds.StudyInstanceUID, ds.StudyID = _uid("study", phantom.seed), str(phantom.seed % 10**8)
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = _DATE
    ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = _TIME
    ds.ReferringPhysicianName, ds.AccessionNumber = "", ""
    ds.StudyDescription = "Synthetic abdomen"
    ds.Modality, ds.SeriesNumber = "CT", 1
    ds.SeriesInstanceUID = _uid("series", *what, storage.order, storage.padding_value)
    ds.SeriesDescription = f"Phantom {phantom.phase} phase"
    ds.BodyPartExamined, ds.PatientPosition = "ABDOMEN", storage.patient_position
    ds.FrameOfReferenceUID = _uid("frame", *what)
    ds.PositionReferenceIndicator = ""
    ds.Manufacturer, ds.ManufacturerModelName = "Viscera", "Phantom"
    ds.SoftwareVersions = "1"
    ds.SOPClassUID = CTImageStorage
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.AcquisitionNumber, ds.KVP = 1, 120
    ds.ConvolutionKernel = "SYNTHETIC"
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    _, ds.Rows, ds.Columns = geometry.shape
    ds.RescaleSlope, ds.RescaleType = 1, "HU"
    ds.WindowCenter, ds.WindowWidth = 40, 400
    steps, spacing = geometry.affine_lps[:3, :3], geometry.spacing_mm
    ds.PixelSpacing = [_number(spacing[1]), _number(spacing[2])]
    ds.SliceThickness = _number(spacing[0])
    directions = np.concatenate([steps[:, 2] / spacing[2], steps[:, 1] / spacing[1]])
    ds.ImageOrientationPatient = [_number(value) for value in directions]
    if storage.padding_value is not None:
        ds.add_new("PixelPaddingValue", "SS", storage.padding_value)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


def _slice(
    series: Dataset, hu: np.ndarray, geometry: Geometry, k: int, number: int, storage: Storage
) -> Dataset:
    ds = Dataset(series)  # a shallow copy: only the tags below differ
    ds.file_meta = FileMetaDataset(series.file_meta)
    ds.SOPInstanceUID = _uid("instance", series.SeriesInstanceUID, k)
    ds.InstanceNumber = number
    position = geometry.to_lps(np.array([[k, 0, 0]]))[0]
    ds.ImagePositionPatient = [_number(value) for value in position]
    intercept = _INTERCEPT - (k % 7) * 3 if storage.rescale_by_slice else _INTERCEPT
    ds.RescaleIntercept = intercept
    stored = hu.astype(np.int32) - intercept
    if storage.padding_value is not None:
        stored = np.where(hu == -1024, storage.padding_value, stored)
    ds.PixelData = stored.astype("<i2").tobytes()
    return ds


def _number(value: float) -> str:
    """A decimal string of at most 16 characters (PS3.5 section 6.2)."""
    text = f"{round(float(value), 10) + 0.0:.10g}"
    return text if len(text) <= 16 else f"{float(value):.9g}"
