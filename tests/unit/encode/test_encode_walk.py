"""Encoded sequences: what one module joins, pydicom reads, and the other module walks over."""

import struct
from io import BytesIO

import pydicom
import pytest
from pydicom.filereader import read_dataset

from viscera.encode import explicit, walk


def joined() -> bytes:
    inner = explicit.item(explicit.text(0x00080100, "SH", "abc"))
    return explicit.item(
        explicit.shorts(0x00280010, 512),
        explicit.sequence(0x0040A170, inner, explicit.item()),
        explicit.longs(0x00209157, 3, 70_000),
    )


def test_pydicom_reads_what_was_joined():
    content = explicit.sequence(0x00082112, joined())
    (item,) = read_dataset(BytesIO(content), False, True).SourceImageSequence
    assert (item.Rows, list(item.DimensionIndexValues)) == (512, [3, 70_000])
    first, second = item.PurposeOfReferenceCodeSequence
    assert first.CodeValue == "abc"
    assert len(second) == 0


def test_walking_finds_values_by_tag():
    content = explicit.item(
        explicit.text(0x00080100, "SH", "abc"), explicit.sequence(0x0040A170, joined())
    )
    (item,) = walk.items(content)
    found = walk.elements(item)
    assert found == {0x00080100: b"abc ", 0x0040A170: joined()}


def test_walking_finds_what_pydicom_wrote():
    ds = pydicom.Dataset()
    ds.CodeMeaning, ds.PixelData, ds.Rows = "long", bytes(70_000), 3
    ds["PixelData"].VR = "OB"
    file = BytesIO()
    pydicom.dcmwrite(file, ds, implicit_vr=False, little_endian=True)
    assert walk.elements(file.getvalue()) == {
        0x00080104: b"long", 0x00280010: b"\3\0", 0x7FE00010: bytes(70_000),
    }  # fmt: skip


@pytest.mark.parametrize("cut", [1, 3, 7])
def test_items_that_end_early_are_refused(cut):
    with pytest.raises((ValueError, struct.error)):
        list(walk.items(explicit.item(explicit.shorts(0x00280010, 1))[:-cut]))


def test_undefined_lengths_are_refused():
    with pytest.raises(ValueError, match="no whole item"):
        list(walk.items(b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + bytes(8)))


def test_tags_out_of_order_are_refused():
    content = explicit.shorts(0x00280011, 1) + explicit.shorts(0x00280010, 1)
    with pytest.raises(ValueError, match="00280010 is out of order"):
        walk.elements(content)


def test_an_element_that_overruns_its_item_is_refused():
    with pytest.raises(ValueError, match="ends beyond"):
        walk.elements(explicit.head(0x00280010, "US", 4) + b"\0\0")
