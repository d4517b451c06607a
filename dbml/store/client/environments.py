"""Environments of packages, by clients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from psycopg import sql

from dbml.store.client.rows import Connection, Row, all_rows, call, jsonb, where

_COLUMNS = sql.SQL(
    "select environment_id, name, version, python_version, format, spec, lock, lock_sha256, description, tags, properties,"
    " definition, created_at, created_by from dbml.environments"
)


def create(
    connection: Connection, workspace: str, name: str, spec: str, *, python_version: str | None = None,
    description: str | None = None, tags: Mapping[str, Any] | None = None,
) -> int:  # fmt: skip
    """Lock packages as the next version of an environment; returns the version."""
    return int(
        call(
            connection, "create_environment", name=name, spec=spec, python_version=python_version, workspace=workspace,
            description=description, tags=jsonb(dict(tags or {})),
        )
    )  # fmt: skip


def define(connection: Connection, workspace: str, reference: str, definition: Mapping[str, Any]) -> None:
    """Keep what an environment says beyond its packages."""
    connection.execute(
        "select dbml_channel.define_environment(%s, %s, %s)", (reference, jsonb(dict(definition)), workspace)
    )  # fmt: skip


def list_all(connection: Connection, workspace: str, *, name: str | None = None, version: int | None = None) -> list[Row]:
    """Return environments of a workspace, by name and the newest version first."""
    condition, values = where(workspace=workspace, name=name, version=version)
    return all_rows(connection, _COLUMNS + condition + sql.SQL(" order by name, version desc"), values)
