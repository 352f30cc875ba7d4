"""Single values of a data set, read without pydicom's conversions.

pydicom converts lazily, warns with the value in the text, and forgives much. Here a value is
what its bytes say, or a named error that shows the keyword and never the value.
"""

import codecs
import struct
from dataclasses import dataclass
from functools import lru_cache

from pydicom.charset import python_encoding
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset

from viscera.errors import DatasetMismatch, InvalidUID
from viscera.files.part10 import is_uid

_DECIMAL = frozenset("0123456789+-.eE \\\0")
_TEXT_LIMIT = 256
_PADDING = b" \0"
_BINARY = frozenset(("FD", "FL", "SL", "SS", "SV", "UL", "US", "UV"))


@lru_cache(maxsize=256)
def tag_of(keyword: str) -> int:
    """Return the tag of a DICOM keyword."""
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    return int(tag)


@lru_cache(maxsize=256)
def _vr_of(keyword: str) -> str:
    return dictionary_VR(tag_of(keyword))


@dataclass(frozen=True, slots=True)
class Elements:
    """A data set, or an item of a sequence, with the name that its errors carry."""

    ds: Dataset
    who: str
    """For error texts: ``instance UID``."""

    def raw(self, keyword: str) -> bytes:
        """Return the bytes, of texts without padding; empty where the element is absent or empty.

        Numbers in binary keep their zeros: stripped, the directions (1, 0, 0) and (0, 0, 1) would
        be one.
        """
        value = self._value(keyword)
        return value if _vr_of(keyword) in _BINARY else value.strip(_PADDING)

    def text(self, keyword: str) -> str:
        """Return a text in the data set's character set; what cannot be decoded is replaced."""
        codec = self._codec()
        return self.raw(keyword)[:_TEXT_LIMIT].decode(codec, errors="replace").strip()

    def words(self, keyword: str) -> tuple[str, ...]:
        """Return the values of a code string (CS), upper case, without padding."""
        text = self.raw(keyword).decode("latin-1").upper()
        return tuple(word.strip(" \0") for word in text.split("\\")) if text else ()

    def floats(self, keyword: str) -> tuple[float, ...] | None:
        """Return the numbers of a decimal string (DS); None where they are no numbers.

        NaN and infinity, which Python would take, are no decimal strings.
        """
        text = self.raw(keyword).decode("latin-1")
        if not text:
            return ()
        if not _DECIMAL.issuperset(text):
            return None
        try:
            return tuple(float(part.strip(" \0")) for part in text.split("\\"))
        except ValueError:
            return None

    def whole(self, keyword: str) -> int | None:
        """Return an integer (IS or US); None where it is absent or none."""
        if _vr_of(keyword) == "US":
            return self._short(keyword)
        text = self.raw(keyword).decode("latin-1")
        try:
            return int(text) if _DECIMAL.issuperset(text) else None
        except ValueError:
            return None

    def uid(self, keyword: str) -> str:
        """Return a valid UID.

        Raises
        ------
        InvalidUID
            If it is absent or breaks PS3.5 section 9.
        """
        uid = self.raw(keyword).decode("latin-1")
        if not is_uid(uid):
            seen = "an invalid" if uid else "no"
            raise InvalidUID(
                f"{self.who} has {seen} {keyword}; expected digits and points (PS3.5 section 9): "
                f"send it again with proper UIDs"
            )
        return uid

    def items(self, keyword: str) -> "tuple[Elements, ...]":
        """Return the items of a sequence; empty where it is absent."""
        if tag_of(keyword) not in self.ds:
            return ()
        try:
            element = self.ds[tag_of(keyword)]
        # Sequences are parsed only now, and damaged ones make pydicom raise anything.
        except Exception as error:
            raise DatasetMismatch(
                f"{self.who}: {keyword} cannot be parsed ({type(error).__name__}): send it again"
            ) from error
        if element.VR != "SQ":
            raise self._wrong_vr(keyword, element.VR)
        return tuple(Elements(item, self.who) for item in element.value)

    def _value(self, keyword: str) -> bytes:
        element = self.ds.get_item(tag_of(keyword), keep_deferred=True)
        if element is None:
            return b""
        if not isinstance(element, RawDataElement):
            raise self._wrong_vr(keyword, str(element.VR))
        if element.VR not in (None, "UN", _vr_of(keyword)):
            raise self._wrong_vr(keyword, element.VR)
        return element.value or b""

    def _short(self, keyword: str) -> int | None:
        value = self._value(keyword)
        if len(value) != 2:
            return None
        element = self.ds.get_item(tag_of(keyword))
        little = isinstance(element, RawDataElement) and element.is_little_endian
        return int(struct.unpack("<H" if little else ">H", value)[0])

    def _codec(self) -> str:
        """With code extensions the last term is the one that is not plain ASCII.

        This element alone pydicom converts while it reads.
        """
        terms = self.ds.get("SpecificCharacterSet") or ""
        last = terms if isinstance(terms, str) else terms[-1]
        codec = python_encoding.get(last.strip(), "latin_1")
        try:
            codecs.lookup(codec)
        except LookupError:
            return "latin_1"
        return codec

    def _wrong_vr(self, keyword: str, vr: str) -> DatasetMismatch:
        return DatasetMismatch(
            f"{self.who}: {keyword} has value representation {vr!r}, expected "
            f"{_vr_of(keyword)}: the file is damaged or was written wrongly"
        )
