"""A login for the worker: a role that owns nothing, and may what dbml_worker may.

Made by whoever installs, used by the worker, and looked at by `dbml verify`.  What dbml_worker may is known to
sql/90_rights/worker.sql; the worker itself is no business of this module.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from dbml import errors
from dbml.dsn import make_uri, parse
from dbml.store.channel import ROLE

Connection = psycopg.Connection[tuple[Any, ...]]

# Who may more than the worker needs: what of it, in the order of how much it is.
_EXCESS = """
select r.rolname::text, case
    when r.rolsuper then 'a superuser'
    when pg_has_role(r.oid, n.nspowner, 'member') then 'the owner of the schema dbml or a member of it'
    when r.rolcreaterole then 'a role that makes roles'
    when r.rolbypassrls then 'a role that row-level security does not bind'
    when exists (select from pg_shdepend d where d.refclassid = 'pg_authid'::regclass and d.refobjid = r.oid and d.deptype = 'o')
        then 'an owner of things'
    else coalesce((select 'a member of ' || string_agg(g.rolname, ', ' order by g.rolname) from pg_roles g
                   where g.rolname not in ('dbml_worker', r.rolname) and pg_has_role(r.oid, g.oid, 'member')),
                  case when not pg_has_role(r.oid, 'dbml_worker', 'member') then 'not a member of dbml_worker' end) end
from pg_roles r, pg_namespace n
where n.nspname = 'dbml' and r.rolname = %s"""


def make_login(dsn: str, name: str, password: str | None = None) -> str:
    """Make a role with a password and the rights of dbml_worker, or give one that is there another password; returns its DSN.

    dsn: of a role that may create roles.  password: a random one unless given.
    Raises: InvalidArgument where the role may more than a worker needs; SchemaError where dbml_worker is not there;
    what psycopg raises.
    """
    password = password or secrets.token_urlsafe(24)
    with psycopg.connect(dsn, client_encoding="utf8", connect_timeout=10, application_name="dbml install") as connection:
        if connection.execute("select to_regrole(%s)", [ROLE]).fetchone() == (None,):
            raise errors.SchemaError(
                f"the role {ROLE} must be there, and this role may not create it",
                hint=f"let an administrator run: CREATE ROLE {ROLE} NOLOGIN; then dbml upgrade",
            )
        database = connection.info.dbname  # which a DSN need not name: it would be the user's
        with connection.transaction():
            _make(connection, name, password)
    kept = {key: value for key, value in parse(dsn).items() if key != "passfile"}
    return make_uri({**kept, "dbname": database, "user": name, "password": password})


def _make(connection: Connection, name: str, password: str) -> None:
    role, group = sql.Identifier(name), sql.Identifier(ROLE)
    # Encrypted here: the server's log does not see it.
    secret = connection.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256").decode()
    there = connection.execute("select from pg_roles where rolname = %s", [name]).fetchone() is not None
    if there and (excess := find_excess(connection, name)) not in (None, f"not a member of {ROLE}"):
        raise errors.InvalidArgument(
            f"the worker's login must own nothing and be a member of {ROLE} alone, {name} is {excess}",
            hint="dbml install --worker-login with a name that no role has yet",
        )
    verb = sql.SQL("alter" if there else "create")
    connection.execute(sql.SQL("{} role {} login password {}").format(verb, role, sql.Literal(secret)))
    connection.execute(sql.SQL("grant {} to {}").format(group, role))
    database = connection.info.dbname
    if connection.execute("select has_database_privilege(%s, %s, 'connect')", [name, database]).fetchone() == (False,):
        connection.execute(sql.SQL("grant connect on database {} to {}").format(sql.Identifier(database), role))


def find_excess(connection: Connection, name: str) -> str | None:
    """Tell what a role is beyond a worker's login, None where it is no more than that."""
    row = connection.execute(_EXCESS, [name]).fetchone()
    return None if row is None else row[1]


def own_login(dsn: str) -> str:
    """Return the DSN of the login that `dbml up` makes for its worker: one a database, with a password that needs no keeping.

    Whoever may read the channel's secret, the owner and the worker, could tell the password; nobody else.
    Raises: what `make_login` raises, and psycopg.Error where it cannot log in.
    """
    with psycopg.connect(dsn, client_encoding="utf8", connect_timeout=10, application_name="dbml up") as connection:
        row = connection.execute(
            "select d.oid, w.secret from pg_database d, dbml._worker w where d.datname = current_database()"
        ).fetchone()
    assert row is not None
    made = make_login(dsn, f"{ROLE}_{row[0]}", hmac.new(row[1], b"the worker's login", hashlib.sha256).hexdigest())
    with psycopg.connect(made, connect_timeout=10, application_name="dbml up"):
        return made


def write_secret(file: Path, text: str) -> None:
    """Write a file that its owner alone may read; one that is there is replaced.

    Raises: InvalidArgument where it cannot be written.
    """
    scratch = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(f"{text}\n")
        scratch.replace(file)
    except OSError as error:
        raise errors.InvalidArgument(f"{file} must be a file that can be written: {error.strerror}") from None
