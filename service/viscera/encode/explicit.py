"""Data elements as bytes, Explicit VR Little Endian, for sequences that repeat thousandfold.

pydicom spends 0.1 ms on each item of a sequence; a SEG has some ten thousand of them. Lengths are
always defined and text is ASCII, so joining bytes is all there is to it.

References
----------
DICOM PS3.5 7.1.2 (data elements), 7.5 (sequences).
"""

import struct

_ITEM = struct.pack("<HH", 0xFFFE, 0xE000)
_SHORT = struct.Struct("<HH2sH")
_LONG = struct.Struct("<HH2sHI")
_LONG_VRS = frozenset(("OB", "OW", "SQ", "UT"))
LONGEST_BYTES = 0xFFFFFFFE
"""Of one value; the length after it means "undefined"."""


def head(tag: int, vr: str, size_bytes: int) -> bytes:
    """Return what stands before a value of `size_bytes`, which is even.

    Raises
    ------
    struct.error
        If the length does not fit its field.
    """
    if vr in _LONG_VRS:
        return _LONG.pack(tag >> 16, tag & 0xFFFF, vr.encode(), 0, size_bytes)
    return _SHORT.pack(tag >> 16, tag & 0xFFFF, vr.encode(), size_bytes)


def text(tag: int, vr: str, value: str) -> bytes:
    """Return an element of ASCII text, padded as its VR asks (UI with a zero byte)."""
    encoded = value.encode("ascii")
    if len(encoded) % 2:
        encoded += b"\0" if vr == "UI" else b" "
    return head(tag, vr, len(encoded)) + encoded


def shorts(tag: int, *values: int) -> bytes:
    """Return an element of VR US."""
    return head(tag, "US", 2 * len(values)) + struct.pack(f"<{len(values)}H", *values)


def longs(tag: int, *values: int) -> bytes:
    """Return an element of VR UL."""
    return head(tag, "UL", 4 * len(values)) + struct.pack(f"<{len(values)}I", *values)


def item(*elements: bytes) -> bytes:
    """Return an item of a sequence; `elements` stand in the order of their tags."""
    content = b"".join(elements)
    return _ITEM + struct.pack("<I", len(content)) + content


def sequence(tag: int, *items: bytes) -> bytes:
    """Return an element of VR SQ."""
    content = b"".join(items)
    return head(tag, "SQ", len(content)) + content
