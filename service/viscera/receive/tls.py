"""DICOM TLS as BCP 195 has it (PS3.15 B.12, RFC 9325): TLS 1.2 and 1.3, forward secrecy, AEAD.

The files may be replaced while the listener runs: the next connection takes the new ones.
"""

import hashlib
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from viscera import log
from viscera.config import DicomSettings
from viscera.errors import InvalidSettings
from viscera.receive.x509 import not_after

_log = log.get(__name__)

_TLS12_SUITES = ":".join(
    f"ECDHE-{key}-{cipher}"
    for cipher in ("AES256-GCM-SHA384", "AES128-GCM-SHA256")
    for key in ("ECDSA", "RSA")
)
"""RFC 9325 section 4.2; those of TLS 1.3 are all fit."""
_LOOK_EVERY_S = 1.0
_FINGERPRINT = "sha256:"


@dataclass(frozen=True, slots=True)
class PeerCertificate:
    """What a client certificate says that its CA has vouched for."""

    names: frozenset[str]
    """DNS names, addresses and URIs of the subject alternative name, and the common name."""
    sha256: str

    @classmethod
    def of(cls, connection: ssl.SSLSocket) -> Self | None:
        """Return the certificate that the client has shown; None where it showed none."""
        der, told = connection.getpeercert(binary_form=True), connection.getpeercert()
        if der is None or not told:
            return None
        fields: dict[str, Any] = told
        subject = (pair for part in fields.get("subject", ()) for pair in part)
        names = {value for key, value in subject if key == "commonName"}
        names |= {value for _, value in fields.get("subjectAltName", ()) if isinstance(value, str)}
        return cls(frozenset(map(_normal, names)), hashlib.sha256(der).hexdigest())

    def is_one_of(self, wanted: tuple[str, ...]) -> bool:
        """Whether `wanted`, as `dicom.peers.certificates` has it, names this one."""
        return any(
            entry.removeprefix(_FINGERPRINT).replace(":", "").lower() == self.sha256
            if entry.startswith(_FINGERPRINT)
            else _normal(entry) in self.names
            for entry in wanted
        )


class ServerTls:
    """The TLS context in force.

    Parameters
    ----------
    settings
        With `tls_certificate` and `tls_key`; where `tls_client_ca` is set, clients must show a
        certificate that it vouches for.

    Raises
    ------
    InvalidSettings
        If a file cannot be read or used.
    """

    def __init__(self, settings: DicomSettings) -> None:
        assert settings.tls_certificate is not None
        assert settings.tls_key is not None
        self._certificate, self._key = settings.tls_certificate, settings.tls_key
        self._client_ca = settings.tls_client_ca
        self._lock = threading.Lock()
        self._looked_at = time.monotonic()
        self._seen = self._signature()
        self._loaded = self._load()

    def wrap(self, connection: socket.socket) -> ssl.SSLSocket:
        """Return `connection` as TLS; the handshake is the caller's to do."""
        return self._current()[0].wrap_socket(
            connection, server_side=True, do_handshake_on_connect=False
        )

    def expiries(self) -> dict[str, float]:
        """Return when the files in force end, in seconds since 1970, by their setting's name."""
        return self._current()[1]

    def _current(self) -> tuple[ssl.SSLContext, dict[str, float]]:
        with self._lock:
            if time.monotonic() - self._looked_at >= _LOOK_EVERY_S:
                self._looked_at = time.monotonic()
                self._reload_if_changed()
            return self._loaded

    def _reload_if_changed(self) -> None:
        signature = self._signature()
        if signature == self._seen:
            return
        try:
            self._loaded = self._load()
        except InvalidSettings as error:
            # The old ones go on; key and certificate may be halfway through being replaced.
            _log.error("tls_reload_failed", error=str(error))
            return
        self._seen = signature
        _log.info("tls_reloaded")

    def _load(self) -> tuple[ssl.SSLContext, dict[str, float]]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(_TLS12_SUITES)
        # Without resumption each association shows its certificate to the CA in force.
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET
        context.num_tickets = 0
        try:
            context.load_cert_chain(self._certificate, self._key)
            expiries = {"tls_certificate": _earliest_end(self._certificate)}
            if self._client_ca is not None:
                context.verify_mode = ssl.CERT_REQUIRED
                context.load_verify_locations(self._client_ca)
                expiries["tls_client_ca"] = _earliest_end(self._client_ca)
        except (OSError, ValueError) as error:
            text = error.strerror if isinstance(error, OSError) else str(error)
            raise InvalidSettings(
                f"dicom.tls_certificate, tls_key, tls_client_ca: cannot be used: {text}; give PEM "
                "files, the key without a passphrase and belonging to the certificate"
            ) from error
        return context, expiries

    def _signature(self) -> tuple[tuple[int, int, int], ...]:
        return tuple(_identity(path) for path in self._paths())

    def _paths(self) -> Iterator[Path]:
        yield from (self._certificate, self._key)
        if self._client_ca is not None:
            yield self._client_ca


def _identity(path: Path) -> tuple[int, int, int]:
    with suppress(OSError):
        status = path.stat()
        return status.st_ino, status.st_mtime_ns, status.st_size
    return 0, 0, 0


def _earliest_end(path: Path) -> float:
    """Return when the first certificate of a PEM file ends."""
    text = path.read_text(encoding="ascii", errors="replace")
    start, end = ssl.PEM_HEADER, ssl.PEM_FOOTER
    blocks = [start + rest.split(end)[0] + end for rest in text.split(start)[1:]]
    return min(not_after(ssl.PEM_cert_to_DER_cert(block)).timestamp() for block in blocks)


def _normal(name: str) -> str:
    """Write a name in one way: case folded, addresses in their shortest form."""
    with suppress(ValueError):
        return str(ipaddress.ip_address(name))
    return name.casefold()
