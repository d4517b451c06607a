"""Machine-learning services inside PostgreSQL.

    import dbml

    with dbml.connect() as db:
        print(db.predict("churn", "SELECT * FROM customers"))

`connect` is the small client; `dbml.core` the SDK for notebooks written for azureml-core; the rest is the server's side.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dbml.client import Client

__version__ = "0.1.0"
__all__ = ["__version__", "connect"]


def connect(dsn: str | None = None, *, workspace: str = "default") -> Client:
    """Open a session with a workspace, as the database's own user.

    dsn: a PostgreSQL URI or key=value string; where it is None, DBML_DSN, DBML_DSN_FILE, or the running `dbml up` of this
    folder or a parent.
    Raises: DbmlError where there is no DSN; psycopg.OperationalError; WorkspaceException.
    """
    client: type[Client] = import_module("dbml.client").Client  # not before it is needed: it takes its time
    return client(dsn, workspace)
