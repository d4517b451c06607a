"""Addresses: `dbml://user@host:port/database?workspace=NAME` of a workspace, `dbml:/runs/ID/artifacts/…` of what a run keeps.

An address holds no password.  It is found as anywhere: in DBML_DSN, DBML_DSN_FILE or the running `dbml up`, where they name
the same database, in a connection that this process has, or by libpq's own means (PGPASSWORD, ~/.pgpass, a service file).
`dbml:` alone is the database of DBML_DSN, and the workspace of DBML_WORKSPACE, else default.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from dbml import errors
from dbml.core.connection import Connection, open_to
from dbml.dsn import find_dsn, make_uri, parse

if TYPE_CHECKING:
    from dbml.core.workspace import Workspace

SCHEME = "dbml"
SECRETS = ("password", "sslpassword")
WORKSPACE = "DBML_WORKSPACE"


def tracking_uri(workspace: Workspace) -> str:
    """Return the address of a workspace for `mlflow.set_tracking_uri`."""
    found = urlsplit(without_secrets(workspace._connection.dsn))
    query = [*parse_qsl(found.query), ("workspace", workspace.name)]
    return urlunsplit((SCHEME, found.netloc, found.path, urlencode(query, quote_via=quote, safe="/"), ""))


def without_secrets(dsn: str) -> str:
    """Return a DSN as a URI that may be shown."""
    return make_uri({key: value for key, value in parse(dsn).items() if key not in SECRETS})


def workspace_of(uri: str) -> Workspace:
    """Return the workspace of an address.

    Raises: InvalidArgument where it is none, or holds a password; WorkspaceException where there is no such workspace.
    """
    from dbml.core.workspace import Workspace

    dsn, name = _parts(uri)
    return Workspace._open(_connection(dsn), name or os.environ.get(WORKSPACE) or "default")


def _parts(uri: str) -> tuple[str | None, str | None]:
    """Return the DSN, None where an address names none, and the workspace."""
    found = urlsplit(uri)
    query = parse_qsl(found.query, keep_blank_values=True)
    name = next((value for key, value in query if key == "workspace"), None)
    rest = [(key, value) for key, value in query if key != "workspace"]
    if found.scheme != SCHEME:
        raise errors.InvalidArgument(f"a tracking URI of dbml must begin with {SCHEME}:, got one of {found.scheme!r}")
    if not (found.netloc or found.path.strip("/") or rest):
        return None, name
    known = parse(
        urlunsplit(("postgresql", found.netloc, found.path, urlencode(rest, quote_via=quote, safe="/"), "")), "tracking URI"
    )
    if held := [key for key in SECRETS if key in known]:
        raise errors.InvalidArgument(
            f"a tracking URI must hold no {held[0]}: MLflow shows and keeps it",
            hint="export DBML_DSN, PGPASSWORD, or ~/.pgpass; workspace.get_mlflow_tracking_uri() has none",
        )
    return make_uri(known), name


def _connection(dsn: str | None) -> Connection:
    """Return a connection to a database, by what knows its password."""
    if dsn is None:
        return Connection()
    if (known := open_to(dsn, without_secrets)) is not None:
        return known
    try:
        found = find_dsn()
    except errors.DbmlError:
        return Connection(dsn)
    return Connection(found if without_secrets(found) == dsn else dsn)


def artifacts_of(run_id: str, folder: str = "") -> str:
    """Return the address of what a run keeps, or of a folder of it."""
    return f"{SCHEME}:/runs/{run_id}/artifacts" + (f"/{quote(folder)}" if folder else "")


def version_of(name: str, version: int | str) -> str:
    """Return the address of the files of a registered model's version."""
    return f"{SCHEME}:/models/{quote(name, safe='')}/{version}"
