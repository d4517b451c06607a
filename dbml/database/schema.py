"""Which version of dbml a database holds: reading it, and comparing it with others.

Apart from `install`, so that a command which only looks need not import Alembic.
"""

from __future__ import annotations

from typing import Any

import psycopg


def read_installed(connection: psycopg.Connection[tuple[Any, ...]]) -> tuple[str, str] | None:
    """Return version and revision of the schema in a database, None where there is none.

    Needs the rights of the schema's owner.
    """
    row = connection.execute("select to_regclass('dbml._alembic_version'), to_regclass('dbml._schema_version')").fetchone()
    if not row or row[0] is None or row[1] is None:
        return None
    found = connection.execute("select v.version, a.version_num from dbml._schema_version v, dbml._alembic_version a").fetchone()
    return (str(found[0]), str(found[1])) if found else None


def is_newer(version: str, than: str) -> bool:
    """Compare two versions of dbml by their numbers."""
    return _numbers(version) > _numbers(than)


def _numbers(version: str) -> tuple[int, ...]:
    numbers = []
    for part in version.split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)
