"""When a certificate ends (RFC 5280 4.1).

The standard library tells it of a peer's certificate, but not of our own.
"""

from datetime import UTC, datetime

_SEQUENCE, _INTEGER, _VERSION = 0x30, 0x02, 0xA0
_UTC_TIME, _GENERALIZED_TIME = 0x17, 0x18


def not_after(der: bytes) -> datetime:
    """Return the end of a certificate's validity, aware UTC.

    Raises
    ------
    ValueError
        If `der` is no X.509 certificate.
    """
    try:
        return _not_after(der)
    except (IndexError, ValueError) as error:
        raise ValueError("not an X.509 certificate") from error


def _not_after(der: bytes) -> datetime:
    at, _ = _enter(der, 0, _SEQUENCE)  # Certificate
    at, _ = _enter(der, at, _SEQUENCE)  # tbsCertificate
    if der[at] == _VERSION:
        at = _enter(der, at, _VERSION)[1]
    at = _enter(der, at, _INTEGER)[1]  # serial number
    at = _enter(der, at, _SEQUENCE)[1]  # signature algorithm
    at = _enter(der, at, _SEQUENCE)[1]  # issuer
    at, _ = _enter(der, at, _SEQUENCE)  # validity
    at = _enter(der, at, der[at])[1]  # not before
    kind = der[at]
    start, end = _enter(der, at, kind)
    text = der[start:end].decode("ascii")
    if kind == _UTC_TIME:
        # RFC 5280 4.1.2.5.1: two digits are 1950 to 2049.
        text = ("19" if text[:2] >= "50" else "20") + text
    elif kind != _GENERALIZED_TIME:
        raise ValueError("its validity is no time")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


def _enter(der: bytes, at: int, tag: int) -> tuple[int, int]:
    """Return where the value of the element at `at` begins and ends."""
    if der[at] != tag:
        raise ValueError("an unexpected element")
    size, at = der[at + 1], at + 2
    if size & 0x80:  # long form: that many bytes of length follow
        count = size & 0x7F
        size, at = int.from_bytes(der[at : at + count], "big"), at + count
    return at, at + size
