from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viscera.deliver import send_folder
from viscera.deliver.folder import place
from viscera.deliver.lane import require_committed_bytes
from viscera.errors import PeerUnreachable, RoundTripMismatch


def test_a_file_arrives_whole_and_again_is_nothing(tmp_path: Path) -> None:
    source = tmp_path / "seg.dcm"
    source.write_bytes(b"object" * 1000)
    target = place(tmp_path / "out", "1.2.3", "job1", "seg.dcm")
    for _ in range(2):
        send_folder(source, target)
    assert target == tmp_path / "out" / "1.2.3" / "job1" / "seg.dcm"
    assert target.read_bytes() == source.read_bytes()
    assert [p.name for p in target.parent.iterdir()] == ["seg.dcm"]


def test_a_folder_that_cannot_be_written_is_a_matter_of_time(tmp_path: Path) -> None:
    source = tmp_path / "seg.dcm"
    source.write_bytes(b"object")
    (tmp_path / "out").write_text("a file where a folder should be")
    with pytest.raises(PeerUnreachable):
        send_folder(source, tmp_path / "out" / "1.2" / "job" / "seg.dcm")


@given(st.text(max_size=80))
def test_no_series_uid_leads_out_of_the_folder(series_uid: str) -> None:
    folder = Path("/srv/out")
    target = place(folder, series_uid, "job", "seg.dcm")
    assert target.parents[2] == folder
    assert ".." not in target.parts
    assert target.resolve().is_relative_to(folder)


def test_other_bytes_are_not_sent(tmp_path: Path) -> None:
    path = tmp_path / "seg.dcm"
    path.write_bytes(b"abc")
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2
    require_committed_bytes(path, digest)
    path.write_bytes(b"abd")
    with pytest.raises(RoundTripMismatch):
        require_committed_bytes(path, digest)
