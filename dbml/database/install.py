"""Install and upgrade: one transaction that migrates the tables and replaces the code.

Twenty may start at once: an advisory lock makes them take turns, and the later ones find nothing
left to do but to replace the functions by the same functions.  What a table is like is known to
migrations/, what a function does to sql/; this module only runs them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from dbml import __version__, errors
from dbml.database.binaries import OLDEST
from dbml.database.schema import is_newer
from dbml.dsn import parse
from dbml.store.resources import migrations_path, sql_files

# Of an extension that is here for dbml alone, what opens connections and speaks on them is the owner's: PostgreSQL gives it
# to PUBLIC, and with it the server's place in the network.
_CLOSE_DBLINK = """
do $$
declare
    routine regprocedure;
begin
    for routine in
        select p.oid from pg_depend d join pg_proc p on p.oid = d.objid
        where d.classid = 'pg_proc'::regclass and d.deptype = 'e' and d.refclassid = 'pg_extension'::regclass
          and d.refobjid = (select e.oid from pg_extension e where e.extname = 'dblink')
          and p.proname ~ '^dblink(_(connect|connect_u|disconnect|exec|open|fetch|close|send_query|get_result|cancel_query))?$'
    loop
        execute format('revoke all on function %s from public', routine);
    end loop;
end
$$"""
LOCK = 0x64626D6C  # "dbml" in ASCII: the advisory lock of every installer


@dataclass(frozen=True)
class Installed:
    """What a database holds, or holds now: version of the code and revision of the tables.

    before: the version found, None where there was no schema.
    """

    version: str
    revision: str
    before: str | None


def install(dsn: str) -> Installed:
    """Bring the schema of a database to this version, from nothing or from any older version.

    All or nothing, in one transaction, and repeatable.
    Raises: SchemaTooNew; DblinkMissing; SchemaError for a server too old; what psycopg raises.
    """
    return _apply(dsn, needs_schema=False)


def upgrade(dsn: str) -> Installed:
    """Do what `install` does, where there is a schema.

    Raises: SchemaMissing, and what `install` raises.
    """
    return _apply(dsn, needs_schema=True)


def head_revision() -> str:
    """Return the newest revision that this code knows."""
    return str(ScriptDirectory.from_config(_config()).get_current_head())


def knows(revision: str) -> bool:
    """Tell whether this code has that revision."""
    return revision in {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}


def _config() -> Config:
    config = Config()
    # Alembic interpolates %.
    config.set_main_option("script_location", str(migrations_path()).replace("%", "%%"))
    return config


@contextmanager
def _transaction(dsn: str) -> Iterator[Connection]:
    """Yield a SQLAlchemy connection inside a transaction that holds the installers' lock."""
    parse(dsn)
    engine = create_engine(
        "postgresql+psycopg://",
        creator=lambda: psycopg.connect(dsn, client_encoding="utf8", application_name="dbml install"),
        poolclass=NullPool,
    )
    try:
        with engine.begin() as connection:
            # Whatever the role's defaults are: what another installer committed must be seen after the wait.
            connection.exec_driver_sql("set transaction isolation level read committed, read write")
            connection.exec_driver_sql("set local lock_timeout = 0")
            connection.exec_driver_sql("set local statement_timeout = 0")
            connection.exec_driver_sql(f"select pg_advisory_xact_lock({LOCK})")
            yield connection
    except DBAPIError as error:
        # The caller knows psycopg's errors, not SQLAlchemy's.
        if isinstance(error.orig, psycopg.Error):
            raise error.orig from None
        raise
    finally:
        engine.dispose()


def _apply(dsn: str, *, needs_schema: bool) -> Installed:
    with _transaction(dsn) as connection:
        number = int(connection.exec_driver_sql("show server_version_num").scalar_one())
        if number < OLDEST * 10000:
            raise errors.SchemaError(f"the server must be PostgreSQL {OLDEST} or newer, got {number // 10000}")
        before = _installed_version(connection)
        if before is None and needs_schema:
            raise errors.SchemaMissing("the database has no schema dbml", hint="dbml install")
        _provide_dblink(connection)
        connection.exec_driver_sql("create schema if not exists dbml")
        _migrate(connection)
        _run_files(connection)
        _record_version(connection)
        revision = connection.exec_driver_sql("select version_num from dbml._alembic_version").scalar_one()
    return Installed(__version__, str(revision), before)


def _installed_version(connection: Connection) -> str | None:
    """Return the version of the schema, None where there is none; refuse one newer than the code."""
    if connection.exec_driver_sql("select to_regclass('dbml._alembic_version')").scalar() is None:
        return None
    revision = connection.exec_driver_sql("select version_num from dbml._alembic_version").scalar()
    version = "0"
    if connection.exec_driver_sql("select to_regclass('dbml._schema_version')").scalar() is not None:
        version = str(connection.exec_driver_sql("select version from dbml._schema_version").scalar() or "0")
    if revision is None:
        return None
    if is_newer(version, __version__) or not knows(str(revision)):
        raise errors.SchemaTooNew(
            f"the schema in the database is of dbml {version} (revision {revision}), newer than this code,"
            f" dbml {__version__} (revision {head_revision()})",
            detail={"schema_version": version, "schema_revision": str(revision), "code_version": __version__},
            hint=f"pip install 'dbml>={version}'",
        )
    return version


def _provide_dblink(connection: Connection) -> None:
    if connection.exec_driver_sql("select 1 from pg_extension where extname = 'dblink'").scalar():
        return
    database = connection.exec_driver_sql(
        "select format('%I', current_database())", execution_options={"no_parameters": True}
    ).scalar()
    has_public = connection.exec_driver_sql("select to_regnamespace('public')").scalar() is not None
    try:
        with connection.begin_nested():
            connection.exec_driver_sql(f"create extension dblink{' with schema public' if has_public else ''}")
            connection.exec_driver_sql(_CLOSE_DBLINK, execution_options={"no_parameters": True})
    except DBAPIError as error:
        state = getattr(error.orig, "sqlstate", None)
        if state == "42501":
            raise errors.DblinkMissing(
                "the extension dblink must be in the database, and this role may not create it",
                hint=f"let the administrator run in database {database}: CREATE EXTENSION dblink",
            ) from None
        if state in ("58P01", "0A000"):
            raise errors.DblinkMissing(
                "the extension dblink must be in the database, and the server does not have its files",
                hint="install PostgreSQL's contrib package on the server: apt-get install postgresql-contrib",
            ) from None
        raise


def _migrate(connection: Connection) -> None:
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _run_files(connection: Connection) -> None:
    for path in sql_files():
        try:
            connection.exec_driver_sql(path.read_text(encoding="utf-8"), execution_options={"no_parameters": True})
        except DBAPIError as error:
            error.add_note(f"in {path.parent.name}/{path.name}")
            if error.orig is not None:
                error.orig.add_note(f"in {path.parent.name}/{path.name}")
            raise


def _record_version(connection: Connection) -> None:
    connection.exec_driver_sql(
        "create table if not exists dbml._schema_version ("
        " only_row boolean primary key default true check (only_row),"
        " version text not null, applied_at timestamptz not null default now())"
    )
    if connection.exec_driver_sql("select to_regclass('dbml._certificates')").scalar() is not None:
        # What another version has compiled is proven anew before it is used.
        connection.exec_driver_sql(
            "update dbml._certificates set status = 'stale', reason = 'it was certified by dbml ' || dbml_version"
            " where status = 'certified' and dbml_version is distinct from %(version)s",
            {"version": __version__},
        )
    connection.exec_driver_sql(
        "insert into dbml._schema_version (version) values (%(version)s)"
        " on conflict (only_row) do update set version = excluded.version, applied_at = now()",
        {"version": __version__},
    )
