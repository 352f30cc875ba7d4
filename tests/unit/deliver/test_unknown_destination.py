"""What waits for a destination that nobody serves is told, and nothing of it is changed."""

from pathlib import Path

from structlog.testing import capture_logs

from store_rows import Time, finish, open_store, submit
from viscera.config import DeliverSettings, Destination
from viscera.roles.deliver import _warn_of_strangers


def test_a_destination_that_is_no_longer_in_the_settings_is_named(tmp_path: Path) -> None:
    time = Time()
    store = open_store(f"sqlite:///{tmp_path}/viscera.db", tmp_path, time)
    store.migrate()
    submit(store, time, "k")
    finish(store, ("pacs", "former"))
    pacs = Destination(name="pacs", kind="dicom", host="127.0.0.1")
    with capture_logs() as said:
        _warn_of_strangers(store, DeliverSettings(destinations=(pacs,)))
    assert [(line["event"], line["destination"], line["waiting"]) for line in said] == [
        ("destination_unknown", "former", 2)
    ]
    assert store.waiting_by_destination() == {"pacs": 2, "former": 2}
    store.close()
