"""`dbml install` and `dbml upgrade`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dbml.cli.output import DsnOption, console
from dbml.dsn import find_dsn, without_password

if TYPE_CHECKING:
    from dbml.database.install import Installed


def install(
    dsn: DsnOption = None,
    worker_login: Annotated[
        str | None,
        typer.Option(help="Make this role too, for the worker to log in with: it owns nothing and reads no table of yours."),
    ] = None,
    worker_dsn_file: Annotated[
        Path, typer.Option(help="Where the DSN of --worker-login is written, for its owner's eyes; DBML_DSN_FILE reads it.")
    ] = Path("dbml-worker.dsn"),
) -> None:
    """Install dbml in a database, or bring it to this version.

    One transaction, repeatable; it needs the extension dblink, and the right to create schemas.
    --worker-login is done after it, and again gives the role another password.

    Example: dbml install --dsn postgresql://owner:password@db.example.com/sales
    --worker-login sales_worker --worker-dsn-file /etc/dbml/worker.dsn
    """
    from dbml.database import install as installer  # imports Alembic, which other commands need not wait for

    found = find_dsn(dsn)
    _print(installer.install(found), found)
    if worker_login is not None:
        from dbml.database.worker_login import make_login, write_secret

        login = make_login(found, worker_login)
        write_secret(worker_dsn_file, login)
        line = f"the worker's login is in {worker_dsn_file}: DBML_DSN_FILE={worker_dsn_file} dbml worker"
        console.print(line, markup=False, soft_wrap=True)


def upgrade(dsn: DsnOption = None) -> None:
    """Bring the dbml of a database to this version.

    Example: dbml upgrade --dsn postgresql://owner:password@db.example.com/sales
    """
    from dbml.database import install as installer

    found = find_dsn(dsn)
    _print(installer.upgrade(found), found)


def _print(done: Installed, dsn: str) -> None:
    before = f", before {done.before}" if done.before and done.before != done.version else ""
    line = f"dbml {done.version} (revision {done.revision}) is in {without_password(dsn)}{before}"
    console.print(line, markup=False, soft_wrap=True)
