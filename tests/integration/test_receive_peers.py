"""Who is turned away, and what limits hold. Loopback has a whole network of addresses."""

import subprocess
import time

import pytest
from pydicom.uid import ComprehensiveSRStorage, CTImageStorage, ExplicitVRLittleEndian

from instances import ct_dataset
from peers import ENVIRONMENT, answers, need, wait_for
from receive_support import PACS, Sender, receiver
from viscera.config import Peer

CT = [(CTImageStorage, [ExplicitVRLittleEndian])]
BRANCH = Peer(name="branch", ae_title="BRANCH", networks=("127.0.0.9/32",))


def rejection(sender: Sender) -> tuple[int, int, int] | None:
    with sender.association() as assoc:
        if not assoc.is_rejected:
            return None
        primitive = assoc.acceptor.primitive
        return primitive.result, primitive.result_source, primitive.diagnostic


@pytest.fixture
def running(tmp_path):
    with receiver(tmp_path / "spool", peers=(PACS, BRANCH)) as receive:
        yield receive


def test_wrong_titles_and_networks_are_rejected(running):
    port = running.listener.port
    assert rejection(Sender(port, contexts=CT)) is None
    assert rejection(Sender(port, called="OTHER", contexts=CT)) == (1, 1, 7)
    assert rejection(Sender(port, calling="STRANGER", contexts=CT)) == (1, 1, 3)
    assert rejection(Sender(port, calling="BRANCH", contexts=CT)) == (1, 1, 3)
    assert rejection(Sender(port, calling="BRANCH", address="127.0.0.9", contexts=CT)) is None
    assert running.files() == []


def test_dcmtk_is_told_why(running):
    echo = [need("/usr/bin/echoscu"), "-aec", "VISCERA", "-aet", "STRANGER", "127.0.0.1"]
    done = subprocess.run(
        [*echo, str(running.listener.port)],
        env=ENVIRONMENT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "Calling AE Title Not Recognized" in done.stderr


def test_logs_name_our_peers_and_quote_only_who_was_turned_away(running, capsys):
    port = running.listener.port
    Sender(port).send(ct_dataset())
    rejection(Sender(port, calling="STRANGER", contexts=CT))
    rejection(Sender(port, calling="BRANCH", contexts=CT))
    wait_for(lambda: running.associations_open() == 0, 5, "the release")
    time.sleep(0.2)
    said = "".join(capsys.readouterr())
    assert "association_rejected" in said
    assert "source_network" in said
    assert "peer=branch" in said
    assert "peer=pacs" in said
    assert "calling=STRANGER" in said
    assert not [word for word in ("PACS", "P1") if word in said]


def test_unknown_sop_class_gets_no_context(running):
    contexts = [("1.2.3.4.5", [ExplicitVRLittleEndian]), *CT]
    with Sender(running.listener.port, contexts=contexts).association() as assoc:
        assert [c.abstract_syntax for c in assoc.accepted_contexts] == [CTImageStorage]


def test_sop_class_of_another_context_is_refused(running):
    report = ct_dataset()
    report.SOPClassUID = ComprehensiveSRStorage
    with Sender(running.listener.port, contexts=CT).association() as assoc:
        (context,) = assoc.accepted_contexts
        assoc._accepted_cx[context.context_id].abstract_syntax = ComprehensiveSRStorage
        assert assoc.send_c_store(report).Status == 0x0122
    assert running.files() == []
    assert running.count("rejected", "UnsupportedSOPClass") == 1


def test_limits_hold_and_free_again(tmp_path):
    limits = {"max_associations": 2, "max_associations_per_peer": 1}
    second = Peer(name="b", ae_title="B", networks=("127.0.0.0/8",))
    third = Peer(name="c", ae_title="C", networks=("127.0.0.0/8",))
    with receiver(tmp_path, peers=(PACS, second, third), **limits) as receive:
        port = receive.listener.port
        with Sender(port, contexts=CT).association():
            assert receive.associations_open() == 1
            assert rejection(Sender(port, contexts=CT)) == (2, 3, 2)
            with Sender(port, calling="B", contexts=CT).association() as assoc:
                assert assoc.is_established
                assert rejection(Sender(port, calling="C", contexts=CT)) == (2, 3, 2)
        wait_for(lambda: receive.associations_open() == 0, 5, "the releases")
        assert Sender(port).send(ct_dataset()) == [0]


def test_silence_ends_an_association(tmp_path):
    with (
        receiver(tmp_path, idle_timeout_s=0.5) as receive,
        Sender(receive.listener.port, contexts=CT).association() as assoc,
    ):
        wait_for(lambda: assoc.is_aborted, 5, "the abort")
        wait_for(lambda: receive.associations_open() == 0, 5, "the slot freed")


def test_stop_ends_open_associations_and_the_port(tmp_path):
    with receiver(tmp_path) as receive:
        port = receive.listener.port
        with Sender(port, contexts=CT).association() as assoc:
            began = time.monotonic()
            receive.listener.stop()
            assert time.monotonic() - began < 4
            wait_for(lambda: assoc.is_aborted, 5, "the abort")
        assert receive.associations_open() == 0
        assert not answers(port)
