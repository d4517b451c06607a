"""Where the SQL files and the migrations are, in a checkout and in an installed wheel.

A wheel carries them inside the package as `_sql` and `_migrations`; an editable install has them
beside it.  This module finds files and decides their order; it neither reads nor runs them.
"""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent


def _beside_or_inside(name: str) -> Path:
    inside = PACKAGE / f"_{name}"
    if inside.is_dir():
        return inside
    beside = PACKAGE.parent / name
    if beside.is_dir():
        return beside
    raise FileNotFoundError(f"the folder {name} must be in the package or beside it, found {inside} nowhere")


def sql_path() -> Path:
    """Return the folder of SQL files."""
    return _beside_or_inside("sql")


def migrations_path() -> Path:
    """Return the folder of Alembic's env.py and versions."""
    return _beside_or_inside("migrations")


def sql_files() -> list[Path]:
    """Return every SQL file in the order in which they are applied: by path, areas being numbered."""
    root = sql_path()
    return sorted(root.rglob("*.sql"), key=lambda path: path.relative_to(root).as_posix())
