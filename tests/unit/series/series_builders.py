"""Part 10 files written byte by byte, so that they can be as wrong as a test wants, and slices."""

import struct
from pathlib import Path

import numpy as np
from pydicom.datadict import dictionary_VR, tag_for_keyword

from viscera.config import SeriesSettings
from viscera.domain.sources import Frame, SeriesFacts, SourceFrame
from viscera.series.headers import Slice
from viscera.series.traits import TRAITS

CT = "1.2.840.10008.5.1.4.1.1.2"
MR = "1.2.840.10008.5.1.4.1.1.4"
ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"
LEGACY_CT = "1.2.840.10008.5.1.4.1.1.2.2"
SR = "1.2.840.10008.5.1.4.1.1.88.33"
NAME = "Doe^Jane"
SETTINGS = SeriesSettings()
FACTS = SeriesFacts(
    study_uid="1.2.1",
    series_uid="1.2.2",
    sop_class_uid=CT,
    modality="CT",
    frame_of_reference_uid="1.2.3",
)


def element(keyword, value, vr=None):
    """Explicit VR little endian. A list is a sequence of dicts of keywords."""
    tag, vr = tag_for_keyword(keyword), vr or dictionary_VR(keyword)
    if isinstance(value, list):
        items = (b"".join(element(k, v) for k, v in sorted_by_tag(item)) for item in value)
        value = b"".join(b"\xfe\xff\x00\xe0" + struct.pack("<I", len(i)) + i for i in items)
    elif isinstance(value, str):
        value = value.encode()
    elif isinstance(value, int):
        value = struct.pack("<H", value)
    value += (b"\0" if vr == "UI" else b" ") * (len(value) % 2)
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr.encode())
    long = vr in ("OB", "OW", "UN", "SQ", "UT")
    return (
        head
        + (struct.pack("<HI", 0, len(value)) if long else struct.pack("<H", len(value)))
        + value
    )


def sorted_by_tag(elements):
    return sorted(elements.items(), key=lambda item: tag_for_keyword(item[0]))


def part10(elements, wrong_vr=None, syntax="1.2.840.10008.1.2.1"):
    meta = element("TransferSyntaxUID", syntax)
    body = b"".join(
        element(k, v, (wrong_vr or {}).get(k)) for k, v in sorted_by_tag(elements) if v is not None
    )
    length = struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(meta))
    return bytes(128) + b"DICM" + length + meta + body


def ct_elements(number=1, *, uid=None, z=None, **changes):
    """What a proper CT slice says; a change to None leaves the element out."""
    position = f"-100.0\\-120.5\\{number * 2.5 if z is None else z}"
    return {
        "SOPClassUID": CT,
        "SOPInstanceUID": uid or f"1.2.3.{number}",
        "StudyInstanceUID": "1.2.1",
        "SeriesInstanceUID": "1.2.2",
        "FrameOfReferenceUID": "1.2.3",
        "Modality": "CT",
        "ImageType": "ORIGINAL\\PRIMARY\\AXIAL",
        "PatientName": NAME,
        "PatientID": "PID-4711",
        "PatientSex": "F",
        "SeriesDescription": "Abdomen venous",
        "InstanceNumber": str(number),
        "Rows": 4,
        "Columns": 6,
        "SamplesPerPixel": 1,
        "PixelSpacing": "0.8\\0.7",
        "ImagePositionPatient": position,
        "ImageOrientationPatient": "1\\0\\0\\0\\1\\0",
        "PixelData": bytes(48),
    } | changes


def write(folder: Path, name, elements, **how) -> Path:
    path = folder / f"{name}.dcm"
    path.write_bytes(part10(elements, **how))
    return path


def write_series(folder: Path, count=10, **changes):
    return [write(folder, n, ct_elements(n, **changes)) for n in range(1, count + 1)]


def enhanced_elements(positions, sop_class=ENHANCED_MR, uid="1.2.3.500", own=None, **changes):
    """A multi-frame object; `own` gives each frame further macros."""
    frames = [
        {
            "PlanePositionSequence": [
                {"ImagePositionPatient": "\\".join(f"{c:.4f}" for c in position)}
            ],
            **(own[k] if own else {}),
        }
        for k, position in enumerate(positions)
    ]
    shared = {
        "PixelMeasuresSequence": [{"PixelSpacing": "0.8\\0.7"}],
        "PlaneOrientationSequence": [{"ImageOrientationPatient": "1\\0\\0\\0\\1\\0"}],
    }
    plain = ct_elements(uid=uid, SOPClassUID=sop_class)
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        del plain[keyword]
    return (
        plain
        | {
            "NumberOfFrames": str(len(positions)),
            "SharedFunctionalGroupsSequence": [shared],
            "PerFrameFunctionalGroupsSequence": frames,
        }
        | changes
    )


def make_slices(positions, orientation=(1, 0, 0, 0, 1, 0), traits=None, first_uid=1, **frame):
    """Slices without files; `traits` is a dict of trait name -> value, for all or by slice."""
    fields = {"rows": 4, "columns": 6, "spacing_mm": (0.8, 0.7), **frame}
    slices = []
    for k, position in enumerate(positions):
        given = traits[k] if isinstance(traits, list) else traits or {}
        slices.append(
            Slice(
                frame=Frame(
                    source=SourceFrame(f"1.2.3.{first_uid + k}", 1),
                    path=Path(f"{first_uid + k}.dcm"),
                    sha256=f"{first_uid + k:064x}",
                    position_lps=tuple(float(c) for c in position),
                    orientation_lps=tuple(float(c) for c in orientation),
                    **fields,
                ),
                traits=tuple(str(given.get(trait.name, "")) for trait in TRAITS),
            )
        )
    return slices


def line(count, step=(0.0, 0.0, 2.5), start=(-100.0, -120.5, 7.0)):
    """Positions along a straight line."""
    return np.array(start) + np.arange(count)[:, None] * np.array(step)
