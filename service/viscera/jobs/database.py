"""One way to a connection on SQLite and PostgreSQL, and one error for what goes wrong there."""

import fcntl
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import exc

from viscera.errors import InvalidSettings, StoreUnavailable
from viscera.jobs.reserve import DiskReserve

T = TypeVar("T")

# Older ones can corrupt a database in WAL mode.
_SQLITE_FLOOR = (3, 51, 3)
# Any number will do that no other program takes on the same PostgreSQL database.
_MIGRATION_LOCK = 0x76697363
_MIGRATIONS = Path(__file__).parent / "migrations"


class Database:
    """An engine with the two kinds of transaction that the store needs.

    Parameters
    ----------
    url
        SQLAlchemy URL. It may hold a password and is never put into a message.
    busy_timeout_s
        How long a SQLite writer waits for another one.

    Raises
    ------
    InvalidSettings
        If the URL cannot be used, or SQLite is too old.
    """

    def __init__(self, url: str, *, busy_timeout_s: float = 5.0) -> None:
        try:
            parsed = sa.make_url(url)
        except exc.ArgumentError as error:
            raise InvalidSettings("jobs.url: not a SQLAlchemy URL") from error
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        self.reserve: DiskReserve | None = None
        self._file: Path | None = None
        if self.is_sqlite:
            if not parsed.database or parsed.database == ":memory:":
                raise InvalidSettings("jobs.url: SQLite needs a file that all roles can open")
            self._file = Path(parsed.database)
            self.reserve = DiskReserve(self._file.with_name(f"{self._file.name}.reserve"))
            self._engine = _sqlite_engine(parsed, busy_timeout_s)
        else:
            self._engine = _server_engine(parsed)
        self._writer = self._engine.execution_options(viscera_writes=True)

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """One transaction that changes nothing. Raises `StoreUnavailable`."""
        with self._named_errors(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """One transaction that may write, committed at the end. Raises `StoreUnavailable`."""
        with self._named_errors(), self._writer.begin() as connection:
            yield connection

    def transact(self, work: Callable[[sa.Connection], T]) -> T:
        """Run `work` in one writing transaction, again where another inserted the same row.

        SQLite's writers come one after the other; on PostgreSQL two may both find nothing and
        insert, and the unique index refuses the second, which then finds the first one's row.
        """
        for _ in range(5):
            try:
                with self.write() as connection:
                    return work(connection)
            except exc.IntegrityError as error:
                last = error
        raise StoreUnavailable(f"writers keep colliding: {last.orig}") from last

    def migrate(self) -> None:
        """Bring the schema to this version's; safe when several roles start at once."""
        with self._named_errors(), self._alone(), self._writer.begin() as connection:
            config = Config()
            config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, "head")
            except CommandError as error:
                raise InvalidSettings(
                    f"the job store's schema is not known to this version ({error}); "
                    "use the version that wrote it, or a newer one"
                ) from error
        if self.reserve is not None:
            self.reserve.hold()

    def require_current(self) -> None:
        """Refuse a store that is not there, or whose schema is another version's.

        For commands: they neither make a store nor change what a running service works on.

        Raises
        ------
        InvalidSettings
            With where it was looked for.
        """
        if self._file is not None and not self._file.exists():
            raise InvalidSettings(
                f"there is no job store at {self._file.absolute()}; run this where the service runs"
                " (a path in jobs.url counts from the working folder), with its settings"
            )
        with self._named_errors(), self._engine.connect() as connection:
            found = MigrationContext.configure(connection).get_current_revision()
        known = ScriptDirectory(str(_MIGRATIONS)).get_current_head()
        if found != known:
            raise InvalidSettings(
                f"the job store has schema {found or 'none'}, this version {known}; use the version"
                " of the service that runs, or start this one's first"
            )

    def close(self) -> None:
        """Close every pooled connection."""
        self._engine.dispose()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold off the other roles: by a lock file, or by PostgreSQL's advisory lock."""
        if self._file is not None:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._file.with_name(f"{self._file.name}.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
            return
        with self._engine.connect() as connection:
            connection.execute(sa.select(sa.func.pg_advisory_lock(_MIGRATION_LOCK)))
            try:
                yield
            finally:
                connection.execute(sa.select(sa.func.pg_advisory_unlock(_MIGRATION_LOCK)))

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except (exc.IntegrityError, exc.ProgrammingError, exc.DataError):
            raise
        except exc.DBAPIError as error:
            cause = str(error.orig).strip()
            if self.reserve is not None and "full" in cause:
                self.reserve.release()
            raise StoreUnavailable(f"the job store does not answer: {cause}") from error
        except (exc.TimeoutError, OSError) as error:
            raise StoreUnavailable(f"the job store does not answer: {error}") from error


def _sqlite_engine(url: sa.URL, busy_timeout_s: float) -> sa.Engine:
    dbapi = _sqlite_module()
    # Its own pragmas and transactions: the module's would begin a reader and upgrade it later,
    # which fails at once instead of waiting when another one writes.
    engine = sa.create_engine(url, module=dbapi, connect_args={"timeout": busy_timeout_s})

    @sa.event.listens_for(engine, "connect")
    def _prepare(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        writes = connection.get_execution_options().get("viscera_writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _sqlite_module() -> Any:
    import pysqlite3.dbapi2

    check_sqlite_version(pysqlite3.dbapi2.sqlite_version_info)
    return pysqlite3.dbapi2


def check_sqlite_version(version: tuple[int, ...]) -> None:
    """Refuse a SQLite that can corrupt the store.

    Raises
    ------
    InvalidSettings
        If `version` is older than the fixed one.
    """
    if version < _SQLITE_FLOOR:
        seen, floor = (".".join(map(str, v)) for v in (version, _SQLITE_FLOOR))
        raise InvalidSettings(
            f"SQLite {seen} can corrupt a database in WAL mode; install a pysqlite3 that carries "
            f"{floor} or newer"
        )


def _server_engine(url: sa.URL) -> sa.Engine:
    try:
        return sa.create_engine(url, pool_pre_ping=True)
    except (ImportError, exc.NoSuchModuleError) as error:
        raise InvalidSettings(f"jobs.url: no driver for {url.drivername}") from error
