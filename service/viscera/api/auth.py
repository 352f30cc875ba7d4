"""Who is calling: a token, a client certificate, or anybody on plain loopback.

Principals share one name space with the DICOM peers of the settings: a token whose principal is
a peer's name sees that peer's jobs, too.
"""

import hashlib
import hmac
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import grpc

from viscera.config import GrpcSettings
from viscera.errors import InvalidSettings, NotAuthorised
from viscera.files.reloaded import Reloaded

LOCAL = "local"
"""The principal of everybody where neither tokens nor client certificates are asked for."""

_LOOPBACK = frozenset({"127.0.0.1", "::1", "[::1]", "localhost"})
_PRINCIPAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SHORTEST_TOKEN = 16
_SCHEME = "bearer "


@dataclass(frozen=True, slots=True, kw_only=True)
class Authenticator:
    """Names the principal of a call."""

    tokens: Callable[[], Mapping[str, bytes]] | None
    """Returns by principal: SHA-256 of its token, as of now. None: tokens are not asked for."""
    certificates: bool
    """Whether TLS has checked a client certificate."""

    def principal(self, context: grpc.ServicerContext) -> str:
        """Return the caller's principal.

        Where both tokens and certificates are asked for, the token names the principal.

        Raises
        ------
        NotAuthorised
            If the token or the certificate's common name is missing or unknown.
        """
        if self.tokens is not None:
            return self._by_token(self.tokens(), context)
        if self.certificates:
            return _common_name(context)
        return LOCAL

    @staticmethod
    def _by_token(tokens: Mapping[str, bytes], context: grpc.ServicerContext) -> str:
        shown = [v for k, v in context.invocation_metadata() or () if k == "authorization"]
        text = shown[0] if len(shown) == 1 else ""
        if not isinstance(text, str) or not text.lower().startswith(_SCHEME):
            raise NotAuthorised('this service wants the metadata "authorization: Bearer TOKEN"')
        digest = _digest(text[len(_SCHEME) :].strip())
        # All are compared, so that the time tells nothing about which one was near.
        matches = [who for who, known in tokens.items() if hmac.compare_digest(known, digest)]
        if not matches:
            raise NotAuthorised("the token is not known; ask the operator for a valid one")
        return matches[0]


def authenticator(settings: GrpcSettings) -> Authenticator:
    """Return what the settings ask of callers.

    Raises
    ------
    InvalidSettings
        If the door would be open beyond loopback without TLS and tokens or client certificates,
        if certificate and key are not a pair, or if the tokens file is unusable.
    """
    tls = settings.tls_certificate is not None
    if tls != (settings.tls_key is not None):
        raise InvalidSettings("grpc.tls_certificate and grpc.tls_key: set both or neither")
    if settings.tls_client_ca is not None and not tls:
        raise InvalidSettings("grpc.tls_client_ca needs grpc.tls_certificate and grpc.tls_key")
    checked = settings.tokens_file is not None or settings.tls_client_ca is not None
    if settings.host not in _LOOPBACK and not (tls and checked):
        raise InvalidSettings(
            f"grpc.host = {settings.host}: beyond loopback set grpc.tls_certificate, grpc.tls_key "
            "and one of grpc.tokens_file and grpc.tls_client_ca"
        )
    return Authenticator(
        tokens=None if settings.tokens_file is None else _tokens_of(settings.tokens_file),
        certificates=settings.tls_client_ca is not None,
    )


def _tokens_of(path: Path) -> Callable[[], Mapping[str, bytes]]:
    """Return what gives the tokens in force: a revoked one ends within a second or two."""
    return Reloaded((path,), partial(_read_tokens, path), "grpc.tokens_file").current


def _read_tokens(path: Path) -> dict[str, bytes]:
    try:
        rows = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        # The parser's own words could repeat a token.
        raise InvalidSettings(f"grpc.tokens_file {path}: {type(error).__name__}") from None
    for principal, token in rows.items():
        if not _PRINCIPAL.fullmatch(principal):
            raise InvalidSettings(f"grpc.tokens_file {path}: a principal is not a plain word")
        if not isinstance(token, str) or len(token) < _SHORTEST_TOKEN:
            raise InvalidSettings(
                f"grpc.tokens_file {path}: the token of {principal} must be a string of at least "
                f"{_SHORTEST_TOKEN} characters"
            )
    if not rows:
        raise InvalidSettings(f'grpc.tokens_file {path}: empty; a row is principal = "token"')
    digests = {principal: _digest(token) for principal, token in rows.items()}
    if len(set(digests.values())) < len(digests):
        raise InvalidSettings(f"grpc.tokens_file {path}: two principals share a token")
    return digests


def _digest(token: str) -> bytes:
    """Return what is kept and compared: equal lengths, and no token in memory dumps."""
    return hashlib.sha256(token.encode()).digest()


def _common_name(context: grpc.ServicerContext) -> str:
    # The stubs promise bytes; grpc gives a list of them for each key.
    shown = cast("Mapping[str, Sequence[bytes]]", context.auth_context())
    names = shown.get("x509_common_name", ())
    name = names[0].decode("utf-8", "replace") if len(names) == 1 else ""
    if not _PRINCIPAL.fullmatch(name):
        raise NotAuthorised("the client certificate's common name is not a plain word")
    return name
