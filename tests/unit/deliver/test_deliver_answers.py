import pytest
from pynetdicom.status import STORAGE_SERVICE_CLASS_STATUS

from viscera.deliver.answers import require_taken
from viscera.errors import PeerRefused, PeerUnreachable


@pytest.mark.parametrize("status", [0x0000, 0x0001, 0x0107, 0x0111, 0x0116, 0xB000, 0xB006, 0xB007])
def test_the_destination_has_it(status: int) -> None:
    require_taken(status, "1.2.3")


@pytest.mark.parametrize("status", [None, 0xA700, 0xA7FF, 0x0110, 0x0124, 0x0210, 0x1234])
def test_it_may_go_better_later(status: int | None) -> None:
    with pytest.raises(PeerUnreachable, match=r"1\.2\.3"):
        require_taken(status, "1.2.3")


@pytest.mark.parametrize("status", [0xA900, 0xA9FF, 0xC000, 0xCFFF, 0x0122, 0x0117])
def test_the_same_object_would_be_refused_again(status: int) -> None:
    with pytest.raises(PeerRefused, match=f"0x{status:04X}"):
        require_taken(status, "1.2.3")


def test_every_status_of_the_standard_has_its_meaning() -> None:
    """pynetdicom's table is the judge: success and warning are taken, failures are not.

    But for the duplicate: a UID that is made from the content cannot mean another object.
    """
    for status, (category, _) in STORAGE_SERVICE_CLASS_STATUS.items():
        if status == 0x0111 or category in ("Success", "Warning"):
            require_taken(status, "1")
        else:
            with pytest.raises((PeerUnreachable, PeerRefused)):
                require_taken(status, "1")
