"""What must be known of one file before its pixels are decoded. Runs in a decoding child."""

import os
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.filereader import read_file_meta_info
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from viscera.errors import DatasetMismatch, UndecodablePixels
from viscera.files.part10 import is_uid
from viscera.volume.rescale import Rescale
from viscera.volume.work import FrameWork

_MAX_RESCALE = 1e9
"""Far beyond any scanner's, and float32 holds every product with a 16-bit value."""

_HU = ("", "HU", "US", "UNSPECIFIED", "HOUNSFIELD", "HOUNSFIELD UNITS")
"""Rescale types of CT that mean HU: the standard's, none at all, and "unspecified" as old scanners
write it. PS3.3 C.11.1.1.2 only suggests the others (dual-energy and perfusion maps), so a list of
what is refused would never end."""

_TAGS = [
    "SOPInstanceUID",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "RescaleIntercept",
    "RescaleSlope",
    "RescaleType",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PixelHeader:
    """One file's image pixel module, checked against what the stack expects of it."""

    ds: Dataset
    transfer_syntax_uid: str
    frames: int
    signed: bool
    bits_allocated: int
    bits_stored: int
    file_bytes: int

    @property
    def native(self) -> bool:
        """Whether stored values lie in the file as they are. 8-bit big endian is swapped in OW."""
        syntax = UID(self.transfer_syntax_uid)
        return not syntax.is_encapsulated and (syntax.is_little_endian or self.bits_allocated > 8)

    def pixels(self, stored: np.ndarray) -> np.ndarray:
        """Return `stored` with the bits above BitsStored made copies of the sign, or 0.

        What lies there is no part of the pixel (PS3.5 8.1.1): overlays of old scanners, or
        nothing, where a codec knows no sign.
        """
        unused = 8 * stored.dtype.itemsize - self.bits_stored
        if unused <= 0:
            return stored
        kind = "i" if self.signed else "u"
        words = stored.astype(f"{kind}{stored.dtype.itemsize}")
        words <<= unused
        words >>= unused
        return words

    def rescale(self, work: FrameWork, frame: int) -> Rescale:
        """Return how stored values of `frame` (from 1) become intensities.

        Raises
        ------
        UndecodablePixels
            If a CT has no rescale, or one to other numbers than HU: a guess would shift every
            organ by 1024 unseen. MR without one is as stored (PS3.3 C.8.3.1 does not ask for it).
        """
        source = _pixel_value_transformation(self.ds, frame)
        unit = str(source.get("RescaleType") or "").strip().upper()
        if work.modality == "CT" and unit not in _HU:
            raise UndecodablePixels(
                f"instance {work.sop_uid}: its RescaleType says that its numbers are not HU; send"
                " the ordinary reconstruction"
            )
        slope, intercept = source.get("RescaleSlope"), source.get("RescaleIntercept")
        if slope is None or intercept is None:
            if work.modality == "CT":
                raise UndecodablePixels(
                    f"instance {work.sop_uid}: a CT without RescaleSlope and RescaleIntercept "
                    "has no HU; send the original reconstruction"
                )
            slope, intercept = 1.0, 0.0
        if not (0.0 < abs(slope) < _MAX_RESCALE and abs(intercept) < _MAX_RESCALE):
            raise UndecodablePixels(
                f"instance {work.sop_uid}: RescaleSlope must be finite and not 0, "
                "RescaleIntercept finite"
            )
        return Rescale(
            slope=float(slope),
            intercept=float(intercept),
            padding=self._padding(),
            fill=-1024 if work.modality == "CT" else 0,
        )

    def _padding(self) -> tuple[int, int] | None:
        """Return the stored values between which nothing was measured (PS3.3 C.7.5.1.1.2)."""
        value = self.ds.get("PixelPaddingValue")
        if value is None:
            return None
        limit = self.ds.get("PixelPaddingRangeLimit")
        first = self._as_stored(int(value))
        last = first if limit is None else self._as_stored(int(limit))
        return min(first, last), max(first, last)

    def _as_stored(self, value: int) -> int:
        """Read `value` as the pixels are read: scanners write -2000 as 63536 (US for SS)."""
        value &= (1 << self.bits_stored) - 1
        if self.signed and value >> (self.bits_stored - 1):
            value -= 1 << self.bits_stored
        return value


def read_header(file: BinaryIO, work: FrameWork) -> PixelHeader:
    """Read and check the header of `file`, up to the pixel data; nothing is allocated for them.

    Raises
    ------
    DatasetMismatch
        If it is another instance, or of another size, than the one that was stacked.
    UndecodablePixels
        If its transfer syntax or pixel description is one we cannot decode.
    """
    transfer_syntax_uid = _transfer_syntax(file, work)
    ds = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(_TAGS))
    if str(ds.get("SOPInstanceUID") or "") != work.sop_uid:
        raise DatasetMismatch(f"the file of instance {work.sop_uid} holds another SOP instance")
    rows, columns = ds.Rows, ds.Columns
    if (rows, columns) != (work.rows, work.columns):
        seen = f"{rows}x{columns}" if isinstance(rows, int) and isinstance(columns, int) else "no"
        raise DatasetMismatch(
            f"instance {work.sop_uid}: {seen} pixels, expected {work.rows}x{work.columns}"
        )
    _check_pixel_module(ds, work)
    frames = int(ds.get("NumberOfFrames") or 1)
    if max(frame for frame, _ in work.frames) > frames:
        raise DatasetMismatch(f"instance {work.sop_uid}: has {frames} frames, more are expected")
    return PixelHeader(
        ds=ds,
        transfer_syntax_uid=transfer_syntax_uid,
        frames=frames,
        signed=ds.PixelRepresentation == 1,
        bits_allocated=ds.BitsAllocated,
        bits_stored=ds.BitsStored,
        file_bytes=os.fstat(file.fileno()).st_size,
    )


def _transfer_syntax(file: BinaryIO, work: FrameWork) -> str:
    """Return the transfer syntax, read before the data set: reading a deflated one inflates it."""
    uid = str(read_file_meta_info(work.path).get("TransferSyntaxUID") or "")
    known = False
    if uid and uid != DeflatedExplicitVRLittleEndian:
        try:
            known = get_decoder(uid).is_available
        except NotImplementedError:
            known = False
    if not known:
        # A damaged length makes the "UID" run on into the patient's name.
        named = uid if is_uid(uid) else "(no UID)"
        raise UndecodablePixels(
            f"instance {work.sop_uid}: transfer syntax {named} is not supported; "
            "send it uncompressed or in a lossless JPEG family syntax"
        )
    file.seek(0)
    return uid


def _check_pixel_module(ds: Dataset, work: FrameWork) -> None:
    grey = ds.SamplesPerPixel == 1 and ds.PhotometricInterpretation in (
        "MONOCHROME1",  # how it is shown only: the stored values mean the same
        "MONOCHROME2",
    )
    bits = (
        ds.BitsAllocated in (8, 16)
        and 1 <= ds.BitsStored <= ds.BitsAllocated
        and ds.get("HighBit", ds.BitsStored - 1) == ds.BitsStored - 1
        and ds.PixelRepresentation in (0, 1)
    )
    if not grey or not bits:
        raise UndecodablePixels(
            f"instance {work.sop_uid}: expected one grey sample of 8 or 16 bits per pixel, "
            "right-aligned"
        )


def _pixel_value_transformation(ds: Dataset, frame: int) -> Dataset:
    """Return the data set that holds the rescale of `frame`: its own, the shared, the top one."""
    per_frame = ds.get("PerFrameFunctionalGroupsSequence")
    shared = ds.get("SharedFunctionalGroupsSequence")
    groups = [per_frame[frame - 1]] if per_frame else []
    groups += [shared[0]] if shared else []
    for group in groups:
        if sequence := group.get("PixelValueTransformationSequence"):
            transformation: Dataset = sequence[0]
            return transformation
    return ds
