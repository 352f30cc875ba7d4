"""The gRPC door's certificates, which may be replaced while it is open."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import grpc

from viscera.config import GrpcSettings
from viscera.errors import InvalidSettings
from viscera.files.pem import read, server_context
from viscera.files.reloaded import Reloaded


@dataclass(frozen=True, slots=True)
class _Loaded:
    configuration: grpc.ServerCertificateConfiguration
    ends: Mapping[str, float]


class GrpcTls:
    """The files in force: each new connection takes those that are there.

    Parameters
    ----------
    certificate, key
        PEM files, a pair.
    client_ca
        PEM file; set: clients must show a certificate that it vouches for.

    Raises
    ------
    InvalidSettings
        If a file cannot be read or used.
    """

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None) -> None:
        self._certificate, self._key, self._client_ca = certificate, key, client_ca
        paths = [path for path in (certificate, key, client_ca) if path is not None]
        self._files = Reloaded(paths, self._load, "grpc.tls")
        self._given = self._files.current()
        self._require_that_grpc_takes_them()

    def credentials(self) -> grpc.ServerCredentials:
        """Return what a port of the server takes."""
        return grpc.dynamic_ssl_server_credentials(
            self._given.configuration,
            self._next,  # type: ignore[arg-type]  # grpc takes None: no change
            require_client_authentication=self._client_ca is not None,
        )

    def ends(self) -> Mapping[str, float]:
        """Return by setting: when the first certificate of its file ends, seconds since 1970."""
        return self._files.current().ends

    def _next(self) -> grpc.ServerCertificateConfiguration | None:
        """Return what grpc does not have yet; it asks at every connection."""
        current = self._files.current()
        if current is self._given:
            return None
        self._given = current
        return current.configuration

    def _require_that_grpc_takes_them(self) -> None:
        """Tell a kind of key that OpenSSL knows and grpc does not from a port that is taken."""
        proof = grpc.server(ThreadPoolExecutor(1))
        try:
            proof.add_secure_port("127.0.0.1:0", self.credentials())
        except RuntimeError as error:
            raise InvalidSettings(
                f"grpc.tls_certificate {self._certificate}: gRPC does not take this certificate or "
                "its kind of key; RSA and the curves P-256 and P-384 serve every client"
            ) from error
        finally:
            proof.stop(None)

    def _load(self) -> _Loaded:
        # grpc says neither which file is amiss nor, on a connection, that one is.
        _, ends = server_context("grpc", self._certificate, self._key, self._client_ca)
        pair = (read("grpc.tls_key", self._key), read("grpc.tls_certificate", self._certificate))
        authority = None if self._client_ca is None else read("grpc.tls_client_ca", self._client_ca)
        return _Loaded(grpc.ssl_server_certificate_configuration([pair], authority), ends)


def server_tls(settings: GrpcSettings) -> GrpcTls | None:
    """Return the door's TLS; None where the settings ask for none.

    Raises
    ------
    InvalidSettings
        If a file cannot be read or used.
    """
    if settings.tls_certificate is None or settings.tls_key is None:
        return None
    return GrpcTls(settings.tls_certificate, settings.tls_key, settings.tls_client_ca)
