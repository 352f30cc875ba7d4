"""Certificates, keys and tokens of the gRPC door: checked at start, taken anew when they change."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from api_harness import House, a_house, refusal_of, serving, stub
from structlog.testing import capture_logs

import certificates
import peers
from certificates import Made
from viscera import cli
from viscera.api.v1 import viscera_pb2 as pb
from viscera.api.v1.viscera_pb2_grpc import SegmentationServiceStub
from viscera.errors import InvalidSettings
from viscera.metrics import Metrics

WARD, LAB = "the-token-of-the-ward", "the-token-of-the-lab-"
EXPIRY = "viscera_certificate_expiry_timestamp_seconds"


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with a_house(tmp_path) as house:
        yield house


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Made]:
    folder = tmp_path_factory.mktemp("certificates")
    ca, other = (certificates.authority(folder, name) for name in ("ca", "other"))
    return {
        "ca": ca,
        "other": other,
        "server": certificates.signed(ca, "server", "DNS:localhost"),
        "next": certificates.signed(ca, "next", "DNS:localhost", days=20),
        "ward": certificates.signed(ca, "ward", "DNS:ward"),
        "lab": certificates.signed(other, "lab", "DNS:lab"),
    }


@pytest.fixture
def live(tmp_path: Path, made: dict[str, Made]) -> dict[str, Path]:
    """The files of the settings, which a test may replace."""
    paths = {name: tmp_path / f"live-{name}" for name in ("tls_certificate", "tls_key")}
    put(live=paths, pair=made["server"])
    paths["tls_client_ca"] = tmp_path / "live-ca"
    shutil.copy(made["ca"].certificate, paths["tls_client_ca"])
    return paths


def put(*, live: dict[str, Path], pair: Made) -> None:
    shutil.copy(pair.certificate, live["tls_certificate"])
    shutil.copy(pair.key, live["tls_key"])


FAULTS: list[tuple[str, Callable[[Path], Any], str]] = [
    ("tls_certificate", Path.unlink, "No such file"),
    ("tls_certificate", lambda path: path.write_text("junk"), "no certificate"),
    ("tls_key", Path.unlink, "No such file"),
    ("tls_key", lambda path: path.write_text("junk"), "does not belong"),
    ("tls_client_ca", Path.unlink, "No such file"),
    ("tls_client_ca", lambda path: path.write_text("junk"), "no certificate"),
]


@pytest.mark.parametrize(("key", "spoil", "told"), FAULTS)
@pytest.mark.parametrize("section", ["grpc", "dicom"])
def test_config_check_names_the_file_that_cannot_be_used(
    section: str,
    key: str,
    spoil: Callable[[Path], Any],
    told: str,
    live: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spoil(live[key])
    rows = "".join(f'{name} = "{path}"\n' for name, path in live.items())
    config = tmp_path / "c.toml"
    config.write_text(f"[{section}]\n{rows}" + ("tls_port = 0\n" if section == "dicom" else ""))
    assert cli.main(["--config", str(config), "config", "check"]) == 2
    said = capsys.readouterr().err
    assert f"InvalidSettings: {section}.{key} {live[key]}: " in said
    assert told in said


@pytest.mark.parametrize(("key", "spoil", "told"), FAULTS)
def test_the_door_does_not_open_and_names_the_file_that_cannot_be_used(
    key: str, spoil: Callable[[Path], Any], told: str, live: dict[str, Path], house: House
) -> None:
    spoil(live[key])
    with (
        pytest.raises(InvalidSettings, match=rf"grpc\.{key} .*{told}"),
        serving(house, **live),
    ):
        pass


def test_anothers_key_or_one_with_a_passphrase_is_told(
    live: dict[str, Path], made: dict[str, Made], house: House
) -> None:
    command = ["openssl", "pkey", "-aes256", "-passout", "pass:secret", "-out", live["tls_key"]]
    subprocess.run([*command, "-in", made["server"].key], check=True)
    with pytest.raises(InvalidSettings, match=r"grpc\.tls_key .*passphrase"):
        serving(house, **live).__enter__()
    shutil.copy(made["next"].key, live["tls_key"])
    with pytest.raises(InvalidSettings, match=r"grpc\.tls_key .*does not belong"):
        serving(house, **live).__enter__()


def test_a_kind_of_key_that_grpc_does_not_know_is_no_taken_port(
    live: dict[str, Path], house: House
) -> None:
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:secp256k1 -nodes -days 2"
    pair = ["-subj", "/CN=localhost", "-out", live["tls_certificate"], "-keyout", live["tls_key"]]
    subprocess.run([*command.split(), *pair], check=True, capture_output=True)
    with pytest.raises(InvalidSettings, match=r"grpc\.tls_certificate .*kind of key"):
        serving(house, **live).__enter__()


def shown(port: int) -> str:
    """Return the fingerprint of the certificate that a new connection sees, by OpenSSL."""
    told = certificates.handshake(port)
    command = ["/usr/bin/openssl", "x509", "-noout", "-fingerprint", "-sha256"]
    done = subprocess.run(command, input=told, capture_output=True, text=True, check=True)
    return done.stdout.strip().split("=")[1]


def becomes(look: Callable[[], Any], wanted: Any) -> None:
    peers.wait_for(lambda: look() == wanted, 10, f"{wanted} instead of {look()}")


def test_a_renewed_pair_is_taken_without_a_restart(
    live: dict[str, Path], made: dict[str, Made], house: House
) -> None:
    metrics = Metrics()

    def expiry(file: str) -> float | None:
        return metrics.registry.get_sample_value(EXPIRY, {"file": f"grpc.{file}"})

    pair = {name: live[name] for name in ("tls_certificate", "tls_key")}
    with serving(house, metrics=metrics, **pair) as server, capture_logs() as logs:
        assert shown(server.port) == made["server"].sha256()
        assert expiry("tls_certificate") == made["server"].ends()
        assert expiry("tls_client_ca") is None
        shutil.copy(made["next"].certificate, live["tls_certificate"])  # halfway
        peers.wait_for(lambda: shown(server.port) and logs, 10, "the look at a broken pair")
        assert shown(server.port) == made["server"].sha256()
        assert "grpc.tls_key" in next(e["error"] for e in logs if e["event"] == "reload_failed")
        put(live=live, pair=made["next"])
        becomes(lambda: shown(server.port), made["next"].sha256())
        assert expiry("tls_certificate") == made["next"].ends()


def admitted(port: int, made: dict[str, Made], name: str) -> bool:
    """Whether a new connection with that certificate gets an answer."""
    trusted, own = made["ca"].certificate.read_bytes(), made[name]
    pair = (own.key.read_bytes(), own.certificate.read_bytes())
    options = (("grpc.use_local_subchannel_pool", 1),)
    credentials = grpc.ssl_channel_credentials(trusted, *pair)
    with grpc.secure_channel(f"localhost:{port}", credentials, options) as channel:
        try:
            SegmentationServiceStub(channel).ListModels(pb.ListModelsRequest(), timeout=5)
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.UNAVAILABLE  # noqa: PT017
            return False
        return True


def test_a_renewed_client_authority_is_taken_without_a_restart(
    live: dict[str, Path], made: dict[str, Made], house: House
) -> None:
    with serving(house, host="0.0.0.0", **live) as server:
        assert (admitted(server.port, made, "ward"), admitted(server.port, made, "lab")) == (
            True,
            False,
        )
        shutil.copy(made["other"].certificate, live["tls_client_ca"])
        becomes(lambda: admitted(server.port, made, "lab"), True)
        assert not admitted(server.port, made, "ward")


def test_tokens_are_revoked_and_given_without_a_restart(tmp_path: Path, house: House) -> None:
    tokens = tmp_path / "tokens.toml"
    tokens.write_text(f'ward = "{WARD}"\n')
    with serving(house, tokens_file=tokens) as server, stub(server) as api:

        def known(token: str) -> bool:
            options = {"metadata": (("authorization", f"Bearer {token}"),), "timeout": 5}
            try:
                api.ListModels(pb.ListModelsRequest(), **options)
            except grpc.RpcError:
                refusal = refusal_of(lambda: api.ListModels(pb.ListModelsRequest(), **options))
                assert refusal[1] == "NotAuthorised"
                return False
            return True

        assert (known(WARD), known(LAB)) == (True, False)
        tokens.write_text(f'lab = "{LAB}"\n')
        becomes(lambda: known(WARD), False)
        assert known(LAB)
        with capture_logs() as logs:
            tokens.write_text(f'lab = "{LAB}"\nward = ')  # half written: what was, stays
            peers.wait_for(lambda: known(LAB) and logs, 10, "the look at a broken file")
            tokens.unlink()
            peers.wait_for(lambda: known(LAB) and len(logs) > 1, 10, "the look at no file")
            assert not known(WARD)
        assert {entry["event"] for entry in logs} >= {"reload_failed"}
        assert LAB not in str(logs)
        tokens.write_text(f'ward = "{WARD}"\n')
        becomes(lambda: known(WARD), True)
        assert not known(LAB)
