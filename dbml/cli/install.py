"""`dbml install` and `dbml upgrade`."""

from __future__ import annotations

from dbml.cli.output import DsnOption, console
from dbml.database import install as installer
from dbml.database.dsn import find_dsn, without_password


def install(dsn: DsnOption = None) -> None:
    """Install dbml in a database, or bring it to this version.

    One transaction, repeatable; it needs the extension dblink, and the right to create schemas.

    Example: dbml install --dsn postgresql://owner:password@db.example.com/sales
    """
    found = find_dsn(dsn)
    _print(installer.install(found), found)


def upgrade(dsn: DsnOption = None) -> None:
    """Bring the dbml of a database to this version.

    Example: dbml upgrade --dsn postgresql://owner:password@db.example.com/sales
    """
    found = find_dsn(dsn)
    _print(installer.upgrade(found), found)


def _print(done: installer.Installed, dsn: str) -> None:
    before = f", before {done.before}" if done.before and done.before != done.version else ""
    console.print(
        f"dbml {done.version} (revision {done.revision}) is in {without_password(dsn)}{before}", markup=False
    )
