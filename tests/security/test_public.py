"""What an installation gives to PUBLIC, all of it, and why each thing is harmless."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from dbml.database.install import install

EVERYTHING = """
select 'schema ' || n.nspname || ': ' || a.privilege_type
from pg_namespace n, aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) a where a.grantee = 0
union all
select c.relkind::text || ' ' || c.oid::regclass || ': ' || a.privilege_type
from pg_class c, aclexplode(coalesce(c.relacl, acldefault(case c.relkind when 'S' then 's' else 'r' end::"char", c.relowner))) a
where a.grantee = 0
union all
select 'column ' || t.attrelid::regclass || '.' || t.attname || ': ' || a.privilege_type
from pg_attribute t, aclexplode(t.attacl) a where a.grantee = 0
union all
select 'function ' || p.proname
from pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a where a.grantee = 0
union all
select 'type ' || t.typname
from pg_type t, aclexplode(coalesce(t.typacl, acldefault('T', t.typowner))) a where a.grantee = 0 and t.typrelid = 0 and t.typelem = 0
union all
select 'database: ' || a.privilege_type
from pg_database d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a
where a.grantee = 0 and d.datname = current_database()
union all
select 'default: ' || a.privilege_type from pg_default_acl d, aclexplode(d.defaclacl) a where a.grantee = 0
"""

HARMLESS = {
    # PUBLIC may not enter the schemas, and these are names without rows.
    "type _name": "a domain over text",
    "type unknown_column": "an enum without values", "type expected_column": "an enum without values",
    # Of dblink, what opens no connection and speaks on none.
    "function dblink_get_connections": "names of the session's own connections",
    "function dblink_error_message": "of the session's own connection", "function dblink_is_busy": "of the session's own connection",
    "function dblink_get_notify": "of the session's own connection",
    "function dblink_current_query": "the session's own query", "function dblink_get_pkey": "what pg_index tells everybody",
    "function dblink_build_sql_insert": "makes text of what the caller may read",
    "function dblink_build_sql_update": "makes text of what the caller may read",
    "function dblink_build_sql_delete": "makes text of what the caller may read",
    "function dblink_fdw_validator": "checks names of options",
}  # fmt: skip


def given(dsn: str) -> set[str]:
    with psycopg.connect(dsn) as connection:
        return {row[0] for row in connection.execute(EVERYTHING)}  # type: ignore[arg-type]


def test_an_installation_gives_public_nothing_but_what_is_harmless(empty: str) -> None:
    before = given(empty)
    install(empty)
    assert given(empty) - before == set(HARMLESS)
    install(empty)
    assert given(empty) - before == set(HARMLESS)


def test_nobody_else_opens_connections_from_the_server(empty: str, role: str) -> None:
    install(empty)
    with psycopg.connect(empty, autocommit=True) as db:
        db.execute(f"set role {role}")  # type: ignore[arg-type]
        for call in (
            "dblink_connect('host=127.0.0.1 port=1')", "dblink_connect('dbml0', 'host=127.0.0.1 port=1')",
            "dblink('host=127.0.0.1 port=1', 'select 1')", "dblink_exec('host=127.0.0.1 port=1', 'select 1')",
            "dblink_send_query('dbml0', 'run {}')", "dblink_get_result('dbml0')", "dblink_disconnect('dbml0')",
            "dblink_connect_u('host=127.0.0.1 port=1')",
        ):  # fmt: skip
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                db.execute(f"select {call}")  # type: ignore[arg-type]


def test_an_extension_that_was_there_keeps_its_grants(empty: str, role: str) -> None:
    with psycopg.connect(empty) as db:
        db.execute("create extension dblink")
    install(empty)
    with psycopg.connect(empty) as db:
        may: Any = db.execute("select has_function_privilege(%s, 'dblink_send_query(text, text)', 'execute')", [role]).fetchone()
    assert may == (True,)
