"""Elements and items of an encoded sequence, found by walking over them.

For the proof of what was written, so it shares nothing with `explicit`. pydicom would make six
datasets of each frame's item, of which a handful of bytes is wanted.

References
----------
DICOM PS3.5 7.1.2, 7.5: Explicit VR Little Endian. Undefined lengths are refused.
"""

from collections.abc import Iterator
from struct import Struct

_ELEMENT = Struct("<HH2sH")
_ITEM = Struct("<HHI")
_LENGTH = Struct("<I")
_LENGTH_OF_FOUR = frozenset(
    (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
)


def items(value: bytes) -> Iterator[bytes]:
    """Yield the content of each item in the value of a sequence.

    Raises
    ------
    ValueError
        If something else than items of a stated length fills it.
    """
    at = 0
    while at < len(value):
        group, element, size = _ITEM.unpack_from(value, at)
        at += _ITEM.size
        if (group, element) != (0xFFFE, 0xE000) or at + size > len(value):
            raise ValueError(f"no whole item at byte {at}")
        yield value[at : at + size]
        at += size


def elements(content: bytes) -> dict[int, bytes]:
    """Return the values of an item's elements by tag; nested sequences are left as they are.

    Raises
    ------
    ValueError
        If an element runs over the item's end, or stands behind one of a higher tag.
    """
    found: dict[int, bytes] = {}
    at, before = 0, -1
    while at < len(content):
        group, element, vr, size = _ELEMENT.unpack_from(content, at)
        at += _ELEMENT.size
        if vr in _LENGTH_OF_FOUR:
            (size,) = _LENGTH.unpack_from(content, at)
            at += _LENGTH.size
        tag = group << 16 | element
        if tag <= before or at + size > len(content):
            raise ValueError(f"element {tag:08x} is out of order or ends beyond its item")
        found[tag] = content[at : at + size]
        at, before = at + size, tag
    return found
