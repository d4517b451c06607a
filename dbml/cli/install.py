"""`dbml install` and `dbml upgrade`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbml.cli.output import DsnOption, console
from dbml.dsn import find_dsn, without_password

if TYPE_CHECKING:
    from dbml.database.install import Installed


def install(dsn: DsnOption = None) -> None:
    """Install dbml in a database, or bring it to this version.

    One transaction, repeatable; it needs the extension dblink, and the right to create schemas.

    Example: dbml install --dsn postgresql://owner:password@db.example.com/sales
    """
    from dbml.database import install as installer  # imports Alembic, which other commands need not wait for

    found = find_dsn(dsn)
    _print(installer.install(found), found)


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
