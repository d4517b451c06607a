"""Install and upgrade: one transaction, repeatable, safe together, and refusing what it does not know."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from alembic import command

import dbml
from dbml import errors
from dbml.database.install import head_revision, install, upgrade
from dbml.database.schema import is_newer, read_installed


def snapshot(dsn: str) -> list[tuple]:
    """Return every object of dbml's schemas, tables with their columns, functions with their source."""
    with psycopg.connect(dsn) as connection:
        return connection.execute(
            """
            select n.nspname, 'column', c.relname || '.' || a.attname, format_type(a.atttypid, a.atttypmod)
            from pg_attribute a
                join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
            where n.nspname like 'dbml%' and a.attnum > 0 and not a.attisdropped
            union all
            select n.nspname, 'function', p.oid::regprocedure::text,
                   md5(pg_get_functiondef(p.oid)) || coalesce(p.proacl::text, '')
            from pg_proc p join pg_namespace n on n.oid = p.pronamespace
            where n.nspname like 'dbml%' and p.prokind in ('f', 'p')
            order by 1, 2, 3"""
        ).fetchall()


def test_it_says_what_it_found_and_what_there_is_now(empty):
    first, second = install(empty), install(empty)
    assert (first.before, second.before) == (None, dbml.__version__)
    assert first.version == second.version == dbml.__version__
    with psycopg.connect(empty) as connection:
        assert read_installed(connection) == (dbml.__version__, head_revision())


def test_a_second_install_changes_nothing(empty):
    install(empty)
    before = snapshot(empty)
    install(empty)
    assert snapshot(empty) == before


def test_twenty_installs_at_once(empty):
    with ThreadPoolExecutor(20) as pool:
        results = list(pool.map(lambda _: install(empty), range(20)))
    assert len([r for r in results if r.before is None]) == 1
    with psycopg.connect(empty) as connection:
        assert connection.execute("select count(*) from dbml._schema_version").fetchone() == (1,)
        assert connection.execute("select count(*) from dbml._alembic_version").fetchone() == (1,)


def test_a_role_whose_default_isolation_is_serializable_takes_its_turn_too(server, empty):
    with psycopg.connect(empty, autocommit=True) as connection:
        connection.execute("alter role current_user in database " + connection.info.dbname
                           + " set default_transaction_isolation = 'serializable'")  # fmt: skip
    with ThreadPoolExecutor(5) as pool:
        assert len(list(pool.map(lambda _: install(empty), range(5)))) == 5


def test_a_failed_install_leaves_nothing(empty, monkeypatch, tmp_path):
    broken = tmp_path / "10_broken.sql"
    broken.write_text("select 1;\nselect no_such_function();\n")
    monkeypatch.setattr("dbml.database.install.sql_files", lambda: [broken])
    with pytest.raises(psycopg.errors.UndefinedFunction, match="no_such_function") as caught:
        install(empty)
    assert any("10_broken.sql" in note for note in caught.value.__notes__)
    assert snapshot(empty) == []


def test_files_are_run_verbatim(empty, monkeypatch, tmp_path):
    odd = tmp_path / "10_odd.sql"
    odd.write_text("comment on schema dbml is $$100% :name %(x)s {y} \\d$$;\n")
    monkeypatch.setattr("dbml.database.install.sql_files", lambda: [odd])
    install(empty)
    with psycopg.connect(empty) as connection:
        found = connection.execute("select obj_description('dbml'::regnamespace)").fetchone()
    assert found == ("100% :name %(x)s {y} \\d",)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("_alembic_version set version_num = '9999'", "9999"),
        ("_schema_version set version = '99.1.0'", "99.1.0"),
    ],
)
@pytest.mark.parametrize("action", [install, upgrade])
def test_a_newer_schema_is_refused_by_both_versions(installed, change, named, action):
    with psycopg.connect(installed) as connection:
        connection.execute(f"update dbml.{change}")
    before = snapshot(installed)
    with pytest.raises(errors.SchemaTooNew) as caught:
        action(installed)
    assert named in str(caught.value)
    assert dbml.__version__ in str(caught.value)
    assert "pip install" in caught.value.hint
    assert snapshot(installed) == before


def test_upgrade_wants_a_schema(empty):
    with pytest.raises(errors.SchemaMissing) as caught:
        upgrade(empty)
    assert caught.value.hint == "dbml install"


def test_upgrade_of_an_older_version(installed):
    with psycopg.connect(installed) as connection:
        connection.execute("update dbml._schema_version set version = '0.0.1'")
    assert upgrade(installed).before == "0.0.1"
    with psycopg.connect(installed) as connection:
        assert read_installed(connection) == (dbml.__version__, head_revision())


@pytest.fixture
def owned(server, role):
    """The DSN, as an ordinary role, of a database that it owns, the way managed services give it."""
    name = server.create(owner=role)
    yield server.dsn(name, user=role, password="secret"), server.dsn(name)
    server.drop(name)


def test_an_ordinary_role_that_owns_the_database(owned):
    as_owner, as_admin = owned
    with psycopg.connect(as_admin) as connection:
        connection.execute("create extension dblink")
    assert install(as_owner).before is None
    assert install(as_owner).before == dbml.__version__
    with psycopg.connect(as_owner) as connection:
        assert connection.execute("select rolsuper from pg_roles where rolname = current_user").fetchone() == (False,)


def test_without_dblink_the_hint_is_the_command_for_the_administrator(owned):
    as_owner, as_admin = owned
    with pytest.raises(errors.DblinkMissing) as caught:
        install(as_owner)
    assert "CREATE EXTENSION dblink" in caught.value.hint
    assert snapshot(as_admin) == []
    with psycopg.connect(as_admin) as connection:
        connection.execute(caught.value.hint.partition(": ")[2])
    assert install(as_owner).before is None


def test_dblink_may_live_in_any_schema(server, empty):
    with psycopg.connect(empty) as connection:
        connection.execute('create schema "Extension Home"')
        connection.execute('create extension dblink with schema "Extension Home"')
    assert install(empty).before is None


def test_a_database_without_schema_public(empty):
    with psycopg.connect(empty) as connection:
        connection.execute("drop schema public")
        connection.execute("create schema other")
        connection.execute(f"alter database {connection.info.dbname} set search_path = other")
    assert install(empty).before is None


def test_install_connects_before_anything_else(server):
    with pytest.raises(psycopg.OperationalError, match="no_such_database"):
        install(server.dsn("no_such_database"))


@pytest.mark.parametrize(
    ("left", "right", "newer"),
    [
        ("0.2.0", "0.1.9", True),
        ("0.10.0", "0.9.0", True),
        ("0.1.0", "0.1.0", False),
        ("1.0.0.dev1", "1.0.0", False),
    ],
)
def test_versions_compare_by_number(left, right, newer):
    assert is_newer(left, right) is newer


def test_environments_come_to_a_database_that_has_models_and_a_view_on_their_bytes(empty, monkeypatch):
    to_revision = command.upgrade
    with monkeypatch.context() as patch:
        patch.setattr("dbml.database.install.sql_files", list)
        patch.setattr("dbml.database.install.command.upgrade", lambda config, _: to_revision(config, "0002"))
        install(empty)
    with psycopg.connect(empty) as connection:
        for statement in BEFORE_ENVIRONMENTS:
            connection.execute(statement)
    install(empty)
    with psycopg.connect(empty) as connection:
        assert connection.execute("select content from public.mine").fetchone() == (b"x",)
        assert connection.execute("select name, version, environment from dbml.models").fetchall() == [("kept", 1, None)]
        assert connection.execute("select environment, lock_sha256 from dbml.runs").fetchall() == [(None, None)]
        assert connection.execute(
            "select count(*) from pg_proc where proname in ('register_model', 'find_model')"
        ).fetchone() == (2,)


BEFORE_ENVIRONMENTS = (
    "insert into dbml._chunks values (sha256('x'), 'x')",
    "insert into dbml._blobs (digest, size) values (sha256('x'), 1)",
    "insert into dbml._blob_chunks values (sha256('x'), 0, sha256('x'))",
    "insert into dbml._models (workspace_id, name, version, digest) select workspace_id, 'kept', 1, sha256('x') from dbml._workspaces",
    "insert into dbml._runs (run_id, workspace_id, workspace, username, session_user_, status, started_at, finished_at)"
    " select gen_random_uuid(), workspace_id, name, 'me', 'me', 'completed', now(), now() from dbml._workspaces",
    "create schema dbml_channel",
    "create function dbml_channel.find_model(model text, workspace text default null, out digest bytea) language sql"
    " begin atomic select sha256('x'); end",
    "create function dbml.model_bytes(model text, workspace text default null) returns bytea language sql"
    " begin atomic select digest from dbml_channel.find_model(model, workspace); end",
    "create function dbml.register_model(name text, model bytea, framework text default null, framework_version text default null,"
    " signature jsonb default null, description text default null, tags jsonb default '{}', properties jsonb default '{}',"
    " alias text default null, run_id uuid default null, workspace text default null) returns integer language sql"
    " begin atomic select 1; end",
    "create view public.mine as select dbml.model_bytes('kept') as content",
)
