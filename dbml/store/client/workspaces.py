"""Workspaces, and the names that programs give the worker as a compute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg import sql

from dbml.store.client.rows import Connection, Row, all_rows, call, jsonb, one_row, where

_COLUMNS = sql.SQL(
    "select workspace_id, name, subscription_id, resource_group, location, sku, description, tags, created_at, created_by"
    " from dbml.workspaces"
)
_COMPUTES = sql.SQL("select name, kind, settings, description, tags, created_at, created_by from dbml.computes")


def create(connection: Connection, name: str, *, exist_ok: bool = False, **about: Any) -> int:
    """Create a workspace; returns its id."""
    return int(call(connection, "create_workspace", name=name, exist_ok=exist_ok, **about))


def find(connection: Connection, name: str) -> Row | None:
    """Return a workspace that the caller may see."""
    return one_row(connection, _COLUMNS + sql.SQL(" where name = %(name)s"), {"name": name})


def list_all(connection: Connection, *, subscription_id: str | None = None, resource_group: str | None = None) -> list[Row]:
    """Return the workspaces that the caller may see, by name."""
    condition, values = where(subscription_id=subscription_id, resource_group=resource_group)
    return all_rows(connection, _COLUMNS + condition + sql.SQL(" order by name"), values)


def update(
    connection: Connection, name: str, *, description: str | None = None, tags: Mapping[str, Any] | None = None,
    remove: Sequence[str] = (),
) -> dict[str, Any]:  # fmt: skip
    """Describe a workspace and set tags; returns them."""
    given = call(
        connection, "update_workspace", name=name, description=description, tags=jsonb(dict(tags or {})), remove=list(remove)
    )
    return dict(given)


def delete(connection: Connection, name: str) -> None:
    """Delete a workspace with all that is in it."""
    call(connection, "delete_workspace", name=name)


def create_compute(connection: Connection, workspace: str, name: str, kind: str, settings: Mapping[str, Any]) -> bool:
    """Give the worker a name; returns whether it is new."""
    made = call(connection, "create_compute", name=name, kind=kind, settings=jsonb(dict(settings)), workspace=workspace)
    return bool(made)


def list_computes(connection: Connection, workspace: str, name: str | None = None) -> list[Row]:
    """Return the computes of a workspace by name, or the one of that name."""
    condition, values = where(workspace=workspace, name=name)
    return all_rows(connection, _COMPUTES + condition + sql.SQL(" order by name"), values)


def delete_compute(connection: Connection, workspace: str, name: str) -> bool:
    """Forget the name of a compute; returns whether it was there."""
    return bool(call(connection, "delete_compute", name=name, workspace=workspace))
