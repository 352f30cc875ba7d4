"""Stores of earlier versions: taken over with their rows, and left alone by commands."""

from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

import store_rows
from viscera.errors import InvalidSettings
from viscera.jobs import migrations
from viscera.jobs.store import SqlJobStore

SCRIPTS = Path(migrations.__file__).parent
REVISIONS = [one.revision for one in ScriptDirectory(str(SCRIPTS)).walk_revisions()]
HEAD, EARLIER = REVISIONS[0], REVISIONS[1:]


def old_store(folder: Path, revision: str) -> sa.Engine:
    """A store as the version of `revision` would have made it, with a row in every table."""
    engine = sa.create_engine(f"sqlite:///{folder}/old.db")
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(SCRIPTS))
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    tables = sa.MetaData()
    tables.reflect(engine)
    with engine.begin() as connection:
        for table in tables.sorted_tables:
            if table.name != "alembic_version":
                connection.execute(table.insert().values(**row_of(table)))
    return engine


def row_of(table: sa.Table) -> dict[str, object]:
    """Values for what must not be empty: rows that refer to one another all say 1."""
    values: dict[str, object] = {}
    for column in table.columns:
        if column.nullable or column.server_default is not None:
            continue
        if isinstance(column.type, sa.DateTime):
            values[column.name] = store_rows.now().replace(tzinfo=None)
        elif isinstance(column.type, sa.JSON):
            values[column.name] = []
        elif isinstance(column.type, sa.Integer | sa.Float | sa.Numeric):
            values[column.name] = 1
        else:
            values[column.name] = "queued" if column.name == "state" else "1"
    return values


def counted(engine: sa.Engine) -> dict[str, int]:
    with engine.connect() as connection:
        names = sa.inspect(connection).get_table_names()
        return {
            name: connection.scalar(sa.text(f"SELECT count(*) FROM {name}")) or 0 for name in names
        }


def opened(folder: Path) -> SqlJobStore:
    return store_rows.open_store(f"sqlite:///{folder}/old.db", folder / "spool")


@pytest.mark.parametrize("revision", EARLIER)
def test_a_store_of_an_earlier_version_is_taken_over_with_its_rows(
    tmp_path: Path, revision: str
) -> None:
    engine = old_store(tmp_path, revision)
    before = counted(engine)
    assert set(before.values()) == {1}
    with closing(opened(tmp_path)) as store:
        with pytest.raises(InvalidSettings, match=f"schema {revision}, this version {HEAD}"):
            store.require_current()
        store.migrate()
        store.require_current()
        assert store.backlog().jobs
    after = counted(engine)
    assert {name: after[name] for name in before} == before
    with engine.connect() as connection:
        assert connection.execute(sa.text("PRAGMA foreign_key_check")).all() == []
        assert connection.scalar(sa.text("PRAGMA integrity_check")) == "ok"


def test_a_store_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    engine = old_store(tmp_path, HEAD)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    before = counted(engine)
    with closing(opened(tmp_path)) as store:
        for open_it in (store.migrate, store.require_current):
            with pytest.raises(InvalidSettings, match="9999"):
                open_it()
    assert counted(engine) == before
