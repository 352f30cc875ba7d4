"""pydicom judges what our header reader says."""

import struct

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from instances import as_file, ct_dataset, with_uid
from viscera.errors import DatasetMismatch, InvalidUID
from viscera.files.part10 import Header, read_header


def read(data: bytes) -> Header:
    return read_header(lambda size: data[:size])


def nested(depth: int) -> Dataset:
    item = Dataset()
    item.CodeValue = "x"
    for _ in range(depth):
        outer = Dataset()
        outer.ContentSequence = Sequence([item])
        outer["ContentSequence"].is_undefined_length = True
        item.is_undefined_length_sequence_item = True
        item = outer
    return item


@pytest.mark.parametrize("syntax", [None, ImplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("depth", [0, 1, 40])
def test_finds_identity_behind_sequences_in_every_encoding(syntax, depth):
    ds = ct_dataset(z_mm=-3.5)
    ds.ReferencedStudySequence = Sequence([nested(depth), Dataset()])
    ds["ReferencedStudySequence"].is_undefined_length = True
    ds.NumberOfSeriesRelatedInstances = 35
    if syntax is not None:
        ds.file_meta.TransferSyntaxUID = syntax
        if syntax == ExplicitVRBigEndian:
            ds["PixelData"].VR = "OW"
    data = as_file(ds)
    header = read(data)
    assert header.sop_uid == ds.SOPInstanceUID
    assert header.sop_class_uid == ds.SOPClassUID
    assert header.study_uid == ds.StudyInstanceUID
    assert header.series_uid == ds.SeriesInstanceUID
    assert header.position_lps == (-10.5, 20.25, -3.5)
    assert header.expected_count == 35
    assert data.startswith(
        b"\x08\x00" if syntax != ExplicitVRBigEndian else b"\x00\x08", header.data_offset
    )


def test_agrees_with_pydicom_on_real_files(shared_data):
    checked = 0
    for path in sorted(shared_data.rglob("*")):
        if not path.is_file() or path.read_bytes()[128:132] != b"DICM":
            continue
        ds = pydicom.dcmread(
            path,
            stop_before_pixels=True,
            specific_tags=[
                "SOPClassUID",
                "SOPInstanceUID",
                "StudyInstanceUID",
                "SeriesInstanceUID",
                "ImagePositionPatient",
            ],
        )
        if not ds.SOPInstanceUID or "1.2.1.99" in path.name:
            with pytest.raises((InvalidUID, DatasetMismatch)):
                read(path.read_bytes())
            continue
        header = read(path.read_bytes())
        assert header.sop_uid == ds.SOPInstanceUID
        assert header.sop_class_uid == ds.SOPClassUID
        assert header.study_uid == ds.StudyInstanceUID
        assert header.series_uid == ds.SeriesInstanceUID
        position = ds.get("ImagePositionPatient")
        assert header.position_lps == (tuple(map(float, position)) if position else None)
        checked += 1
    assert checked > 60


def test_private_element_larger_than_the_first_look():
    ds = ct_dataset()
    ds.private_block(0x0019, "VISCERA TEST", create=True).add_new(1, "OB", b"\1" * 200_000)
    assert read(as_file(ds)).sop_uid == ds.SOPInstanceUID


def test_500_nested_sequences_do_not_exhaust_the_stack():
    opening = b"\xfe\xff\x00\xe0\xff\xff\xff\xff"  # item of undefined length
    sequence = b"\x08\x00\x15\x11SQ\0\0\xff\xff\xff\xff" + opening
    closing = b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"
    data = as_file(ct_dataset())
    at = data.index(struct.pack("<HH2s", 0x0010, 0x0020, b"LO"))
    hostile = data[:at] + sequence * 5000 + closing * 5000 + data[at:]
    assert read(hostile).series_uid == read(data).series_uid


@pytest.mark.parametrize("tag", [0x00080016, 0x00080018, 0x0020000D, 0x0020000E])
@pytest.mark.parametrize(
    "value",
    [b"", b" ", b"../../etc/passwd", b"/etc", b"1.2.", b"1.02.3", b"1/2", b"9" * 66, b"1.\xff"],
)
def test_bad_uid_is_named(tag, value):
    with pytest.raises(InvalidUID):
        read(with_uid(as_file(ct_dataset()), tag, value))


@pytest.mark.parametrize(
    "make",
    [
        lambda data, offset: b"",
        lambda data, offset: data[:offset],
        lambda data, offset: data[: offset + 40],
        lambda data, offset: data[: offset + 3],
        lambda data, offset: data[132:],
        lambda data, offset: data[:offset] + b"\xff" * 5000,
        lambda data, offset: data[:offset] + bytes(range(256)) * 40,
    ],
)
def test_what_cannot_be_parsed_is_a_mismatch(make):
    data = as_file(ct_dataset())
    with pytest.raises(DatasetMismatch):
        read(make(data, read(data).data_offset))


@pytest.mark.parametrize("tag", [0x00080016, 0x00080018])
def test_announced_identity_must_be_the_data_sets(tag):
    with pytest.raises(DatasetMismatch, match=r"says 1\.2\.3"):
        read(with_uid(as_file(ct_dataset()), tag, b"1.2.3"))


def test_padding_of_uids_is_not_part_of_them():
    data = with_uid(as_file(ct_dataset()), 0x0020000E, b"1.2.3 ")
    assert read(data).series_uid == "1.2.3"


def test_deflated_is_refused_without_inflating():
    data = with_uid(as_file(ct_dataset()), 0x00020010, b"1.2.840.10008.1.2.1.99")
    with pytest.raises(DatasetMismatch, match="deflated"):
        read(data)


@pytest.mark.parametrize(
    ("told", "believed"),
    [
        ("35", 35),
        (str(2**31 - 1), 2**31 - 1),
        (str(2**31), None),
        ("99999999999999999999", None),
        ("0", None),
        ("-1", None),
        ("many", None),
    ],
)
def test_a_count_that_no_series_has_is_none(told, believed):
    ds = ct_dataset()
    ds.NumberOfSeriesRelatedInstances = 1
    data = as_file(ds)
    # By bytes: pydicom does not write such numbers.
    at = data.index(b"\x20\x00\x09\x12IS")
    value = told.encode() + b" " * (len(told) % 2)
    new = data[: at + 6] + struct.pack("<H", len(value)) + value + data[at + 10 :]
    assert read(new).expected_count == believed
