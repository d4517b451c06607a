"""Where the DSN comes from: an argument, DBML_DSN, the file DBML_DSN_FILE, then the `dbml up` of this folder or a parent.

Also the two other spellings of a DSN: the environment of psql, so that no password stands in a
process list, and one for display.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import psycopg
from psycopg import conninfo

from dbml import errors
from dbml.home import find_home

# libpq's environment variables: conninfo key -> variable (PostgreSQL's documentation, 32.15).
VARIABLES = {
    "host": "PGHOST",
    "hostaddr": "PGHOSTADDR",
    "port": "PGPORT",
    "dbname": "PGDATABASE",
    "user": "PGUSER",
    "password": "PGPASSWORD",
    "passfile": "PGPASSFILE",
    "service": "PGSERVICE",
    "options": "PGOPTIONS",
    "application_name": "PGAPPNAME",
    "sslmode": "PGSSLMODE",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
    "sslrootcert": "PGSSLROOTCERT",
    "channel_binding": "PGCHANNELBINDING",
    "connect_timeout": "PGCONNECT_TIMEOUT",
    "target_session_attrs": "PGTARGETSESSIONATTRS",
    "gssencmode": "PGGSSENCMODE",
    "require_auth": "PGREQUIREAUTH",
}


def find_dsn(argument: str | None = None, *, environment: Mapping[str, str] | None = None, start: Path | None = None) -> str:
    """Return the DSN to use.

    argument: what `--dsn` said.  environment: os.environ unless given.  start: the folder whose
    running `dbml up` counts, the current one unless given.
    Raises: InvalidArgument when it is not a DSN, DbmlError when there is none, with what to do.
    """
    environment = os.environ if environment is None else environment
    for source, value in (("--dsn", argument), ("DBML_DSN", environment.get("DBML_DSN"))):
        if value:
            parse(value, source)
            return value
    if file := environment.get("DBML_DSN_FILE"):  # a secret as systemd, Docker and Kubernetes hand it over
        try:
            value = Path(file).read_text().strip()
        except OSError as error:
            raise errors.InvalidArgument(f"DBML_DSN_FILE must be a file that can be read, got {file}: {error.strerror}") from None
        parse(value, "DBML_DSN_FILE")
        return value
    home = find_home(start)
    state = home.state() if home else None
    if state is None:
        raise errors.DbmlError(
            "no database to talk to: neither --dsn nor DBML_DSN is given, and no dbml is running here",
            hint="dbml up --detach starts one in this folder",
        )
    return str(state["dsn"])


def parse(dsn: str, source: str = "dsn") -> dict[str, Any]:
    """Return the DSN as libpq's keys and values.

    Raises: InvalidArgument, without showing the DSN, which may hold a password.
    """
    try:
        return conninfo.conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        raise errors.InvalidArgument(
            f"{source} must be a PostgreSQL URI or key=value string",
            hint="postgresql://user:password@host:5432/database",
        ) from None


def libpq_environment(dsn: str) -> tuple[dict[str, str], str]:
    """Return the DSN as environment variables for psql and other programs of libpq, and the rest.

    The rest, empty as a rule, is a key=value string of what libpq reads from no variable.
    """
    known = parse(dsn)
    variables = {VARIABLES[key]: str(value) for key, value in known.items() if key in VARIABLES}
    return variables, conninfo.make_conninfo(**{k: v for k, v in known.items() if k not in VARIABLES})


def without_password(dsn: str) -> str:
    """Return the DSN for display."""
    known = parse(dsn)
    known.pop("password", None)
    return make_uri(known)


def make_uri(keys: Mapping[str, Any]) -> str:
    """Return a URI of libpq's keys, a Unix socket's folder as its `host` parameter."""
    rest = {key: str(value) for key, value in keys.items() if value is not None}
    host, port = rest.pop("host", ""), rest.pop("port", "")
    user, password, name = rest.pop("user", ""), rest.pop("password", ""), rest.pop("dbname", "")
    if host.startswith("/"):
        rest = {"host": host, **({"port": port} if port else {}), **rest}
        host = port = ""
    login = quote(user, safe="") + (f":{quote(password, safe='')}" if password else "")
    place = (f"[{host}]" if ":" in host else host) + (f":{port}" if port else "")
    query = f"?{urlencode(rest, quote_via=quote, safe='/')}" if rest else ""
    return f"postgresql://{login}{'@' if login else ''}{place}/{quote(name, safe='')}{query}"
