from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from viscera.api.auth import LOCAL, authenticator
from viscera.config import GrpcSettings
from viscera.errors import InvalidSettings, NotAuthorised

TOKEN = "correct-horse-battery-staple"


def calling(
    *metadata: tuple[str, str | bytes], common_names: tuple[bytes, ...] | None = None
) -> Any:
    auth = {} if common_names is None else {"x509_common_name": list(common_names)}
    return SimpleNamespace(invocation_metadata=lambda: metadata, auth_context=lambda: auth)


def tokens_file(
    tmp_path: Path, text: str = f'ward = "{TOKEN}"\nlab = "another-long-token-1"'
) -> Path:
    path = tmp_path / "tokens.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_everybody_on_plain_loopback_is_local(host: str) -> None:
    assert authenticator(GrpcSettings(host=host)).principal(calling()) == LOCAL


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "10.0.0.1", "127.0.0.1.example.org"])
@pytest.mark.parametrize("protection", ["nothing", "tls", "tokens", "ca"])
def test_beyond_loopback_half_a_protection_is_none(
    host: str, protection: str, tmp_path: Path
) -> None:
    tls = {"tls_certificate": tmp_path / "c.pem", "tls_key": tmp_path / "k.pem"}
    given: dict[str, Any] = {
        "nothing": {},
        "tls": tls,
        "tokens": {"tokens_file": tokens_file(tmp_path)},
        "ca": {"tls_client_ca": tmp_path / "ca.pem"},
    }[protection]
    with pytest.raises(InvalidSettings, match=r"grpc\."):
        authenticator(GrpcSettings(host=host, **given))


def test_beyond_loopback_with_tls_and_tokens_or_a_client_authority(tmp_path: Path) -> None:
    tls = {"tls_certificate": tmp_path / "c.pem", "tls_key": tmp_path / "k.pem"}
    tokens = {"tokens_file": tokens_file(tmp_path)}
    assert authenticator(GrpcSettings(host="0.0.0.0", **tls, **tokens)).tokens
    ca = GrpcSettings(host="0.0.0.0", tls_client_ca=tmp_path / "ca.pem", **tls)
    assert authenticator(ca).certificates


def test_a_key_without_its_certificate_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="both or neither"):
        authenticator(GrpcSettings(tls_key=tmp_path / "k.pem"))


def test_a_token_names_its_principal(tmp_path: Path) -> None:
    door = authenticator(GrpcSettings(tokens_file=tokens_file(tmp_path)))
    assert door.principal(calling(("authorization", f"Bearer {TOKEN}"))) == "ward"
    assert door.principal(calling(("authorization", "bearer another-long-token-1"))) == "lab"


@pytest.mark.parametrize(
    "metadata",
    [
        (),
        (("authorization", ""),),
        (("authorization", TOKEN),),
        (("authorization", f"Basic {TOKEN}"),),
        (("authorization", f"Bearer {TOKEN[:-1]}"),),
        (("authorization", "Bearer "),),
        (("authorization", b"Bearer \xff"),),
        (("authorization", f"Bearer {TOKEN}"), ("authorization", "Bearer another-long-token-1")),
        (("x-authorization", f"Bearer {TOKEN}"),),
    ],
)
def test_any_other_token_is_refused(metadata: Any, tmp_path: Path) -> None:
    door = authenticator(GrpcSettings(tokens_file=tokens_file(tmp_path)))
    with pytest.raises(NotAuthorised) as refused:
        door.principal(calling(*metadata))
    assert TOKEN[:-1] not in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not toml",
        'ward = "short"',
        "ward = 12345678901234567890",
        f'"../ward" = "{TOKEN}"',
        f'ward = "{TOKEN}"\nlab = "{TOKEN}"',
        f'[ward]\ntoken = "{TOKEN}"',
    ],
)
def test_an_unusable_tokens_file_is_refused_without_repeating_it(text: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match=r"grpc\.tokens_file") as refused:
        authenticator(GrpcSettings(tokens_file=tokens_file(tmp_path, text)))
    assert TOKEN not in str(refused.value)


def test_a_missing_tokens_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match=r"grpc\.tokens_file"):
        authenticator(GrpcSettings(tokens_file=tmp_path / "none.toml"))


@pytest.fixture
def certified(tmp_path: Path) -> Any:
    pem = tmp_path / "x.pem"
    return authenticator(GrpcSettings(tls_certificate=pem, tls_key=pem, tls_client_ca=pem))


def test_a_certificate_names_its_principal(certified: Any) -> None:
    assert certified.principal(calling(common_names=(b"ward-7.example",))) == "ward-7.example"


@pytest.mark.parametrize("names", [None, (), (b"",), (b"a", b"b"), (b"../x",), (b"\xff\xfe",)])
def test_a_certificate_without_one_plain_name_is_refused(
    names: tuple[bytes, ...] | None, certified: Any
) -> None:
    with pytest.raises(NotAuthorised):
        certified.principal(calling(common_names=names))
