import contextlib
import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pysqlite3
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

import store_rows as rows
from viscera.errors import InvalidSettings, StoreUnavailable
from viscera.jobs import schema
from viscera.jobs.database import Database, check_sqlite_version
from viscera.jobs.reserve import DiskReserve


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(f"sqlite:///{tmp_path}/viscera.db", busy_timeout_s=0.2)
    opened.migrate()
    yield opened
    opened.close()


def test_sqlite_that_can_corrupt_is_refused() -> None:
    check_sqlite_version((3, 51, 3))
    with pytest.raises(InvalidSettings, match=r"3\.46\.1.*3\.51\.3"):
        check_sqlite_version((3, 46, 1))
    # The interpreter's own is not what runs: pysqlite3 carries a fixed one.
    check_sqlite_version(pysqlite3.sqlite_version_info)


def test_every_connection_is_durable_and_strict(database: Database) -> None:
    with database.write() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


def test_migrations_make_exactly_the_schema(database: Database) -> None:
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, schema.metadata) == []
        made = sa.inspect(connection)
        for table in schema.metadata.sorted_tables:
            assert {i["name"] for i in made.get_indexes(table.name)} >= {
                i.name for i in table.indexes
            }


def test_roles_that_start_at_once_migrate_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/new/viscera.db"
    script = f"from viscera.jobs.database import Database; Database({url!r}).migrate()"
    children = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(4)]
    assert [child.wait(60) for child in children] == [0, 0, 0, 0]


def test_a_store_of_a_newer_version_is_refused(database: Database) -> None:
    with database.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(InvalidSettings, match="newer"):
        database.migrate()


def test_a_locked_database_is_unavailable_and_comes_back(database: Database) -> None:
    with database.write() as _, pytest.raises(StoreUnavailable, match="locked"), database.write():
        pytest.fail("two writers at once")
    with database.write() as connection:
        connection.execute(sa.insert(schema.peers).values(principal="p"))


def test_a_reader_does_not_wait_for_a_writer(database: Database) -> None:
    with database.write() as writer, database.read() as reader:
        writer.execute(sa.insert(schema.peers).values(principal="p"))
        assert reader.scalar(sa.select(sa.func.count()).select_from(schema.peers)) == 0


def test_a_folder_that_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable):
        Database(f"sqlite:///{tmp_path}/file/viscera.db").migrate()


def test_a_file_that_is_no_database_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "viscera.db").write_bytes(b"no database at all" * 1000)
    with pytest.raises(StoreUnavailable):
        Database(f"sqlite:///{tmp_path}/viscera.db").migrate()


def test_a_failed_transaction_leaves_nothing(database: Database) -> None:
    with contextlib.suppress(ZeroDivisionError), database.write() as connection:
        connection.execute(sa.insert(schema.peers).values(principal="p"))
        raise ZeroDivisionError
    with database.read() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(schema.peers)) == 0


def test_a_password_is_in_no_message() -> None:
    for url in ("sqlite://", "nothing at all:secret", "oracle+x://u:secret@h/db"):
        with pytest.raises(InvalidSettings) as caught:
            Database(url)
        assert "secret" not in str(caught.value)


def test_a_full_database_gets_the_reserve(database: Database, tmp_path: Path) -> None:
    reserve = tmp_path / "viscera.db.reserve"
    assert reserve.stat().st_blocks * 512 >= 16 << 20
    row = {"at": rows.now(), "state": "x", "message": "m" * 100_000}
    with database.read() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1")
    with pytest.raises(StoreUnavailable, match="full"), database.write() as connection:
        connection.execute(sa.insert(schema.events), [row] * 10)
    assert not reserve.exists()
    database.close()  # forgets the page limit, as space that was freed would
    with database.write() as connection:
        connection.execute(sa.insert(schema.events), [row])


def test_the_reserve_is_not_taken_from_a_disk_that_needs_it(tmp_path: Path) -> None:
    disk = os.statvfs(tmp_path)
    too_much = DiskReserve(tmp_path / "reserve", disk.f_bavail * disk.f_frsize)
    assert not too_much.hold()
    assert list(tmp_path.iterdir()) == []


def test_writers_from_several_threads_wait_for_each_other(tmp_path: Path) -> None:
    time = rows.Time()
    store = rows.open_store(f"sqlite:///{tmp_path}/viscera.db", tmp_path, time)
    store.migrate()
    faults: list[Exception] = []

    def send(thread: int) -> None:
        try:
            for n in range(20):
                store.record_arrivals([rows.arrival(n, time.wall, series=f"1.2.{thread}")])
        except Exception as error:
            faults.append(error)

    threads = [threading.Thread(target=send, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert len(store.known_paths()) == 80
    store.close()


def _claim_all(url: str, root: Path, seen: "multiprocessing.Queue[list[str]]") -> None:
    store = rows.open_store(url, root)
    ids = []
    while (claimed := store.claim_job(f"w{os.getpid()}")) is not None:
        ids.append(claimed[1].id)
    seen.put(ids)
    store.close()


def test_processes_that_claim_at_once_never_share_a_job(tmp_path: Path) -> None:
    url, time = f"sqlite:///{tmp_path}/viscera.db", rows.Time()
    store = rows.open_store(url, tmp_path, time)
    store.migrate()
    expected = {
        rows.submit(store, time, f"k{n}", upload=f"u{n}", principal="c")[0].id for n in range(40)
    }
    context = multiprocessing.get_context("spawn")
    seen = context.Queue()
    children = [context.Process(target=_claim_all, args=(url, tmp_path, seen)) for _ in range(4)]
    for child in children:
        child.start()
    claimed = [job for _ in children for job in seen.get(timeout=60)]
    for child in children:
        child.join(60)
    assert sorted(claimed) == sorted(expected)
    store.close()
