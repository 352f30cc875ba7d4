"""Who comes in, and what is told to who does not."""

from functools import partial

import pytest
from pydantic import ValidationError

from viscera.config import DicomSettings, Peer
from viscera.errors import InvalidSettings
from viscera.receive.policy import Admissions, AdmittedPeer, Caller, Rejection
from viscera.receive.tls import PeerCertificate


def settings(*peers: Peer, **other) -> DicomSettings:
    return DicomSettings(peers=peers, **other)


def peer(name="pacs", ae_title="PACS", networks=("10.1.0.0/16", "2001:db8::/32"), **other) -> Peer:
    return Peer(name=name, ae_title=ae_title, networks=networks, **other)


def enter(admissions, called="VISCERA", calling="PACS", address="10.1.2.3"):
    return admissions.enter(Caller(called, calling, address))


def reason(answer):
    assert isinstance(answer, Rejection)
    return answer.result, answer.source, answer.diagnostic, answer.because


@pytest.mark.parametrize(
    "address", ["10.1.0.0", "10.1.255.255", "2001:db8::1", "::ffff:10.1.2.3", "2001:db8::1%eth0"]
)
def test_known_peer_in_its_network_comes_in(address):
    answer = enter(Admissions(settings(peer())), address=address)
    assert isinstance(answer, AdmittedPeer)
    assert answer.name == "pacs"


def test_titles_are_compared_without_padding_and_with_case():
    admissions = Admissions(settings(peer()))
    assert isinstance(enter(admissions, " VISCERA", "PACS  "), AdmittedPeer)
    assert reason(enter(admissions, calling="pacs"))[:3] == (1, 1, 3)
    assert reason(enter(admissions, called="viscera"))[:3] == (1, 1, 7)


@pytest.mark.parametrize("address", ["10.2.0.1", "127.0.0.1", "2001:db9::1", "::ffff:10.2.0.1"])
def test_known_title_from_elsewhere_is_told_no_more_than_a_stranger(address):
    admissions = Admissions(settings(peer()))
    elsewhere = enter(admissions, address=address)
    stranger = enter(admissions, calling="OTHER")
    assert reason(elsewhere) == (1, 1, 3, "source_network")
    assert reason(stranger) == (1, 1, 3, "calling_ae_title")
    assert (elsewhere.peer, stranger.peer) == ("pacs", "")


def test_nobody_comes_in_by_default():
    assert reason(enter(Admissions(DicomSettings())))[:3] == (1, 1, 3)
    assert reason(enter(Admissions(settings(peer(networks=())))))[:3] == (1, 1, 3)


def test_two_peers_may_share_a_title():
    admissions = Admissions(settings(peer(), peer(name="branch", networks=("10.9.0.0/16",))))
    assert enter(admissions, address="10.9.1.1").name == "branch"


def test_limits_reject_for_now_and_free_again():
    second = peer(name="b", ae_title="B")
    limits = {"max_associations": 3, "max_associations_per_peer": 2}
    admissions = Admissions(settings(peer(), second, **limits))
    assert enter(admissions).name == "pacs"
    assert enter(admissions).name == "pacs"
    assert reason(enter(admissions)) == (2, 3, 2, "max_associations_per_peer")
    assert enter(admissions, calling="B").name == "b"
    assert reason(enter(admissions, calling="B")) == (2, 3, 2, "max_associations")
    assert admissions.open_now("pacs") == 2
    admissions.leave("pacs")
    assert enter(admissions, calling="B").name == "b"


def test_unknown_kind_is_named_at_start():
    with pytest.raises(InvalidSettings, match="of pacs names XX"):
        Admissions(settings(peer(accept_and_drop=("SR", "XX"))))


SHOWN = PeerCertificate(frozenset({"pacs.example", "10.1.2.3"}), "ab" * 32)


@pytest.mark.parametrize(
    ("wanted", "is_one"),
    [
        (("pacs.example",), True),
        (("PACS.Example",), True),
        (("10.1.2.3",), True),
        (("x", "sha256:" + "AB" * 32), True),
        (("sha256:" + ":".join(["ab"] * 32),), True),
        (("sha256:" + "ac" * 32,), False),
        (("example",), False),
        (("*.example",), False),
        ((), False),
    ],
)
def test_a_certificate_is_known_by_whole_names_or_its_digest(wanted, is_one):
    assert SHOWN.is_one_of(wanted) is is_one


def test_who_is_bound_to_a_certificate_comes_with_it_only():
    tls = {"tls_port": 1, "tls_certificate": "c", "tls_key": "k", "tls_client_ca": "a"}
    admissions = Admissions(settings(peer(certificates=("pacs.example",)), **tls))
    caller = partial(Caller, "VISCERA", "PACS", "10.1.2.3")
    other = PeerCertificate(frozenset({"other"}), "00")
    assert isinstance(admissions.enter(caller(True, SHOWN)), AdmittedPeer)
    for refused in (caller(), caller(True), caller(True, other)):
        assert reason(admissions.enter(refused)) == (1, 1, 3, "certificate")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"plain": False}, "tls_port"),
        ({"tls_port": 1}, "tls_key"),
        ({"peers": (peer(require_tls=True),)}, "by TLS only"),
        ({"tls_port": 1, "tls_certificate": "c", "tls_key": "k",
          "peers": (peer(certificates=("a",)),)}, "tls_client_ca"),
    ],
)  # fmt: skip
def test_half_a_tls_configuration_is_refused(given, says):
    with pytest.raises(ValidationError, match=says):
        DicomSettings(**given)


def test_a_digest_that_is_none_is_refused():
    with pytest.raises(ValidationError, match="64 hexadecimal digits"):
        peer(certificates=("sha256:abc",))
