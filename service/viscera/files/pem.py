"""Certificates and keys of the settings, proven before a door uses them."""

import ssl
from pathlib import Path

from viscera.errors import InvalidSettings
from viscera.files.x509 import not_after


def server_context(
    section: str, certificate: Path, key: Path, client_ca: Path | None
) -> tuple[ssl.SSLContext, dict[str, float]]:
    """Return a server's TLS context, and when its files end.

    Parameters
    ----------
    section
        Of the settings, which has `tls_certificate`, `tls_key` and `tls_client_ca`.
    client_ca
        Set: clients must show a certificate that it vouches for.

    Returns
    -------
    tuple[ssl.SSLContext, dict[str, float]]
        The context with the files loaded. By setting: when the first certificate of its file ends,
        in seconds since 1970.

    Raises
    ------
    InvalidSettings
        If a file cannot be read or used; the message names its setting.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ends = {f"{section}.tls_certificate": _earliest_end(f"{section}.tls_certificate", certificate)}
    _load_key(context, f"{section}.tls_key", certificate, key)
    if client_ca is not None:
        name = f"{section}.tls_client_ca"
        ends[name] = _earliest_end(name, client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
        _load_authority(context, name, client_ca)
    return context, ends


def read(name: str, path: Path) -> bytes:
    """Return the bytes of the file of the setting `name`.

    Raises
    ------
    InvalidSettings
        If it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidSettings(f"{name} {path}: {error.strerror}") from error


def _earliest_end(name: str, path: Path) -> float:
    """Return when the first certificate of a PEM file ends."""
    text = read(name, path).decode("ascii", errors="replace")
    start, end = ssl.PEM_HEADER, ssl.PEM_FOOTER
    blocks = [start + rest.split(end)[0] + end for rest in text.split(start)[1:]]
    try:
        return min(not_after(ssl.PEM_cert_to_DER_cert(block)).timestamp() for block in blocks)
    except ValueError as error:
        raise _no_certificate(name, path) from error


def _load_key(context: ssl.SSLContext, name: str, certificate: Path, key: Path) -> None:
    read(name, key)
    try:
        # With a passphrase given, OpenSSL asks for none on the terminal.
        context.load_cert_chain(certificate, key, password="")
    except (OSError, ValueError) as error:
        raise InvalidSettings(
            f"{name} {key}: cannot be used, or does not belong to the certificate {certificate}; "
            "give the certificate's own key as a PEM file without a passphrase"
        ) from error


def _load_authority(context: ssl.SSLContext, name: str, path: Path) -> None:
    try:
        context.load_verify_locations(path)
    except (OSError, ValueError) as error:
        raise _no_certificate(name, path) from error


def _no_certificate(name: str, path: Path) -> InvalidSettings:
    return InvalidSettings(f"{name} {path}: no certificate that can be read; give a PEM file")
