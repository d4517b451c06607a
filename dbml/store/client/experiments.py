"""Experiments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg import sql

from dbml.store.client.rows import Connection, Row, all_rows, call, jsonb, where

_COLUMNS = sql.SQL(
    "select experiment_id, name, description, tags, created_at, created_by, runs, last_run_at from dbml.experiments"
)


def create(
    connection: Connection, workspace: str, name: str, *, description: str | None = None, tags: dict[str, Any] | None = None
) -> int:
    """Make an experiment where it is not there; returns its id."""
    return int(
        call(
            connection, "create_experiment", name=name, description=description, tags=jsonb(tags or {}), workspace=workspace
        )
    )  # fmt: skip


def list_all(connection: Connection, workspace: str, name: str | None = None) -> list[Row]:
    """Return the experiments of a workspace by name, or the one of that name."""
    condition, values = where(workspace=workspace, name=name)
    return all_rows(connection, _COLUMNS + condition + sql.SQL(" order by name"), values)


def update(
    connection: Connection, workspace: str, name: str, *, description: str | None = None, tags: Mapping[str, Any] | None = None,
    remove: Sequence[str] = (),
) -> dict[str, Any]:  # fmt: skip
    """Describe an experiment, set tags and remove those named; returns its tags."""
    return dict(
        call(
            connection, "update_experiment", name=name, description=description, tags=jsonb(dict(tags or {})),
            remove=list(remove), workspace=workspace,
        )
    )  # fmt: skip


def delete(connection: Connection, workspace: str, name: str) -> None:
    """Delete an experiment that has no runs."""
    call(connection, "delete_experiment", name=name, workspace=workspace)
