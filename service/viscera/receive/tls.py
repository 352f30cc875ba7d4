"""DICOM TLS as BCP 195 has it (PS3.15 B.12, RFC 9325): TLS 1.2 and 1.3, forward secrecy, AEAD.

The files may be replaced while the listener runs: the next connection takes the new ones.
"""

import hashlib
import ipaddress
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

from viscera.config import DicomSettings
from viscera.files.pem import server_context
from viscera.files.reloaded import Reloaded

_TLS12_SUITES = ":".join(
    f"ECDHE-{key}-{cipher}"
    for cipher in ("AES256-GCM-SHA384", "AES128-GCM-SHA256")
    for key in ("ECDSA", "RSA")
)
"""RFC 9325 section 4.2; those of TLS 1.3 are all fit."""
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
        self._pair = (settings.tls_certificate, settings.tls_key)
        self._client_ca = settings.tls_client_ca
        paths = [path for path in (*self._pair, self._client_ca) if path is not None]
        self._files = Reloaded(paths, self._load, "dicom.tls")

    def wrap(self, connection: socket.socket) -> ssl.SSLSocket:
        """Return `connection` as TLS; the handshake is the caller's to do."""
        return self._files.current()[0].wrap_socket(
            connection, server_side=True, do_handshake_on_connect=False
        )

    def expiries(self) -> dict[str, float]:
        """Return when the files in force end, in seconds since 1970, by their setting's name."""
        return self._files.current()[1]

    def _load(self) -> tuple[ssl.SSLContext, dict[str, float]]:
        context, ends = server_context("dicom", *self._pair, self._client_ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(_TLS12_SUITES)
        # Without resumption each association shows its certificate to the CA in force.
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET
        context.num_tickets = 0
        return context, ends


def _normal(name: str) -> str:
    """Write a name in one way: case folded, addresses in their shortest form."""
    with suppress(ValueError):
        return str(ipaddress.ip_address(name))
    return name.casefold()
