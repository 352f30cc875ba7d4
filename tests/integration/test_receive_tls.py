"""DICOM TLS against dcmtk and OpenSSL: who gets in, with what, and what a stuck handshake costs."""

import contextlib
import re
import shutil
import socket
import ssl
import subprocess
import time

import pydicom
import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE

import certificates
import peers
from instances import as_file, ct_dataset
from receive_support import PACS, receiver
from viscera.config import DicomSettings, Peer
from viscera.errors import InvalidSettings
from viscera.receive.tls import ServerTls

CT = [(CTImageStorage, [ExplicitVRLittleEndian])]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificates")
    ca, rogue = (certificates.authority(folder, name) for name in ("ca", "rogue"))
    server = "DNS:localhost,IP:127.0.0.1"
    return {
        "ca": ca,
        "server": certificates.signed(ca, "server", server, kind="rsa"),
        "next": certificates.signed(ca, "next", server, days=20),
        "pacs": certificates.signed(ca, "pacs", "DNS:pacs.example,IP:10.1.2.3", kind="rsa"),
        "branch": certificates.signed(ca, "branch", "DNS:branch.example"),
        "stranger": certificates.signed(rogue, "stranger", "DNS:pacs.example"),
    }


def tls(made, **other):
    server = made["server"]
    given = {"tls_port": 0, "tls_certificate": server.certificate, "tls_key": server.key}
    return given | other


def ended(receive, reason: str) -> float:
    found = receive.metrics.registry.get_sample_value("viscera_associations_total", {"end": reason})
    return found or 0.0


def push(receive, made, client=None, *, extra=(), calling="PACS", folder) -> bool:
    """Send one new instance by dcmtk's storescu; return whether it was stored."""
    path = folder / f"{time.monotonic_ns()}.dcm"
    path.write_bytes(as_file(ct_dataset()))
    mine = ["+tls", made[client].key, made[client].certificate] if client else ["+tla"]
    done = peers.storescu(
        receive.listener.ports["dicom_tls_port"], path, calling=calling,
        extra=[*map(str, mine), "+cf", str(made["ca"].certificate), *extra],
    )  # fmt: skip
    return done.returncode == 0


def test_without_client_certificates_dcmtk_gets_in_by_every_profile_of_bcp_195(made, tmp_path):
    with receiver(tmp_path / "spool", **tls(made)) as receive:
        for profile in ("--profile-bcp195-nd", "--profile-bcp195", "--profile-bcp195-ex"):
            assert push(receive, made, extra=[profile], folder=tmp_path), profile
        assert receive.count("stored") == 3


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (["-tls1_3"], "TLSv1.3"),
        (["-tls1_2"], "TLSv1.2"),
        (["-tls1_2", "-cipher", "ECDHE-RSA-AES256-GCM-SHA384"], "ECDHE-RSA-AES256-GCM-SHA384"),
        (["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"], None),
        (["-tls1_2", "-cipher", "AES128-SHA256:AES256-GCM-SHA384"], None),  # no forward secrecy
        (["-tls1_2", "-cipher", "ECDHE-RSA-AES256-SHA384"], None),  # no AEAD
        (["-tls1_2", "-cipher", "DHE-RSA-AES256-GCM-SHA384"], None),
    ],
)
def test_openssl_sees_bcp_195(made, tmp_path, options, wanted):
    with receiver(tmp_path, **tls(made)) as receive:
        told = certificates.handshake(receive.listener.ports["dicom_tls_port"], *options)
        if wanted is None:
            assert re.search(r"Cipher is \(NONE\)|no protocols available", told), told
        else:
            assert re.search(r"New, TLSv1\.[23], Cipher is ", told)
            assert wanted in told
            assert "Secure Renegotiation IS NOT" not in told or "TLSv1.3" in told
            assert "Session-ID-ctx" in told or "New, TLSv1.3" in told


def test_certificates_are_bound_to_titles_beside_a_plain_port(made, tmp_path):
    pacs = PACS.model_copy(update={"certificates": ("pacs.example",)})
    title = Peer(name="branch", ae_title="BRANCH", networks=("127.0.0.0/8",))
    branch = title.model_copy(update={"certificates": (f"sha256:{made['branch'].sha256()}",)})
    old = title.model_copy(update={"name": "old", "ae_title": "OLD"})
    both = tls(made, tls_client_ca=made["ca"].certificate, peers=(pacs, branch, old))
    with receiver(tmp_path / "spool", **both) as receive:
        assert push(receive, made, "pacs", folder=tmp_path)
        assert push(receive, made, "branch", calling="BRANCH", folder=tmp_path)
        assert push(receive, made, "branch", calling="OLD", folder=tmp_path)
        assert not push(receive, made, "branch", folder=tmp_path)  # another's title
        assert not push(receive, made, "pacs", calling="BRANCH", folder=tmp_path)
        peers.wait_for(lambda: ended(receive, "certificate") == 2, 5, "both counted")
        assert not push(receive, made, "stranger", folder=tmp_path)
        assert not push(receive, made, folder=tmp_path)
        peers.wait_for(lambda: ended(receive, "tls_failed") == 2, 5, "both counted")
        # By the plain port: who is bound to no certificate, and nobody else.
        path = tmp_path / "plain.dcm"
        path.write_bytes(as_file(ct_dataset()))
        plain = {
            calling: peers.storescu(receive.listener.port, path, calling=calling).returncode == 0
            for calling in ("PACS", "BRANCH", "OLD")
        }
        assert plain == {"PACS": False, "BRANCH": False, "OLD": True}
        assert receive.count("stored") == 4


def test_a_peer_may_have_to_come_by_tls(made, tmp_path):
    pacs = PACS.model_copy(update={"require_tls": True})
    with receiver(tmp_path / "spool", **tls(made, peers=(pacs,))) as receive:
        path = tmp_path / "plain.dcm"
        path.write_bytes(as_file(ct_dataset()))
        assert peers.storescu(receive.listener.port, path).returncode != 0
        assert push(receive, made, folder=tmp_path)


@contextlib.contextmanager
def association(receive, made, version=None):
    context = ssl.create_default_context(cafile=str(made["ca"].certificate))
    if version is not None:
        context.maximum_version = version
    ae = AE("PACS")
    ae.add_requested_context(*CT[0])
    assoc = ae.associate(
        "127.0.0.1", receive.listener.ports["dicom_tls_port"], ae_title="VISCERA",
        tls_args=(context, "localhost"),
    )  # fmt: skip
    assert assoc.is_established
    try:
        yield assoc
    finally:
        assoc.release()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_bytes_arrive_as_sent(made, tmp_path, version):
    sent = {ds.SOPInstanceUID: ds for ds in (ct_dataset(size=512, z_mm=z) for z in range(6))}
    with receiver(tmp_path, **tls(made, plain=False)) as receive:
        assert list(receive.listener.ports) == ["dicom_tls_port"]
        with association(receive, made, version) as assoc:
            assert [assoc.send_c_store(ds).Status for ds in sent.values()] == [0] * 6
        kept = {ds.SOPInstanceUID: ds for ds in map(pydicom.dcmread, receive.files())}
    assert kept == sent


def expiry(receive, file: str = "dicom.tls_certificate") -> float:
    name = "viscera_certificate_expiry_timestamp_seconds"
    return receive.metrics.registry.get_sample_value(name, {"file": file})


def shown(receive) -> str:
    """Return the SHA-256 fingerprint of the certificate that is shown now, by OpenSSL."""
    told = certificates.handshake(receive.listener.ports["dicom_tls_port"])
    text = subprocess.run(
        ["/usr/bin/openssl", "x509", "-noout", "-fingerprint", "-sha256"],
        input=told, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return text.strip().split("=")[1]


def test_new_files_are_taken_without_a_restart(made, tmp_path):
    live = certificates.Made(tmp_path / "live.pem", tmp_path / "live.key")

    def put(source, *, key=True):
        shutil.copy(source.certificate, live.certificate)
        if key:
            shutil.copy(source.key, live.key)

    put(made["server"])
    ca = tmp_path / "ca.pem"
    shutil.copy(made["ca"].certificate, ca)
    given = {"tls_port": 0, "tls_certificate": live.certificate, "tls_key": live.key}
    with receiver(tmp_path / "spool", **given) as receive:
        assert shown(receive) == made["server"].sha256()
        assert expiry(receive) == made["server"].ends()
        with association(receive, made) as assoc:
            put(made["next"], key=False)  # halfway: the old pair goes on
            time.sleep(1.1)
            assert shown(receive) == made["server"].sha256()
            put(made["next"])
            time.sleep(1.1)
            assert expiry(receive) == made["next"].ends() > made["server"].ends()
            assert shown(receive) == made["next"].sha256()
            assert assoc.send_c_store(ct_dataset()).Status == 0  # the old association lives


def test_silent_and_slow_handshakes_stop_nobody(made, tmp_path):
    pieces = [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 30]
    with receiver(tmp_path / "spool", **tls(made, pdu_timeout_s=2)) as receive:
        port = receive.listener.ports["dicom_tls_port"]
        with contextlib.ExitStack() as stack:
            stuck = [
                stack.enter_context(socket.create_connection(("127.0.0.1", port)))
                for _ in range(12)
            ]
            for number, connection in enumerate(stuck):
                connection.sendall(pieces[number % 3])
            began = time.monotonic()
            assert push(receive, made, folder=tmp_path)
            assert time.monotonic() - began < 2
            for connection in stuck:  # a byte now and then prolongs nothing
                with contextlib.suppress(OSError):
                    connection.sendall(b"\x03")
            for connection in stuck:
                connection.settimeout(10)
                with contextlib.suppress(ConnectionResetError):
                    while connection.recv(1000):  # an alert may come first
                        pass
            assert time.monotonic() - began < 6
        ends = ("tls_too_slow", "tls_failed")
        peers.wait_for(lambda: sum(ended(receive, end) for end in ends) == 12, 5, "all counted")
        assert ended(receive, "tls_too_slow") >= 4
        assert push(receive, made, folder=tmp_path)


def test_plain_dicom_on_the_tls_port_is_turned_away(made, tmp_path):
    with receiver(tmp_path / "spool", **tls(made)) as receive:
        path = tmp_path / "plain.dcm"
        path.write_bytes(as_file(ct_dataset()))
        port = receive.listener.ports["dicom_tls_port"]
        assert peers.storescu(port, path).returncode != 0
        peers.wait_for(lambda: ended(receive, "tls_failed") == 1, 5, "the count")


def test_wrong_files_are_said_in_one_line(made, tmp_path):
    for certificate, key, setting in (
        (made["server"].certificate, made["next"].key, "dicom.tls_key"),
        (made["server"].key, made["server"].key, "dicom.tls_certificate"),
        (tmp_path / "nothing.pem", made["server"].key, "dicom.tls_certificate"),
    ):
        settings = DicomSettings(tls_port=0, tls_certificate=certificate, tls_key=key)
        with pytest.raises(InvalidSettings, match=setting) as error:
            ServerTls(settings)
        assert "\n" not in str(error.value)


def test_several_processes_share_the_tls_port_too(made, tmp_path):
    config = peers.write_config(tmp_path, model_repo=tmp_path, model="none")
    server = made["server"]
    lines = f'tls_port = 0\ntls_certificate = "{server.certificate}"\ntls_key = "{server.key}"\n'
    config.write_text(config.read_text().replace("[dicom]\n", f"[dicom]\nprocesses = 2\n{lines}"))
    path = tmp_path / "one.dcm"
    path.write_bytes(as_file(ct_dataset()))
    with peers.service(config, "receive", folder=tmp_path) as running:
        ports = {line["dicom_tls_port"] for line in running.events("role_ready")}
        assert len(ports) == 1
        options = ["+tla", "+cf", str(made["ca"].certificate)]
        assert peers.storescu(ports.pop(), path, extra=options).returncode == 0
        page = running.metrics()
    assert page.count('file="dicom.tls_certificate"') == 2
