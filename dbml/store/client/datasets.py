"""Datasets, by clients: versions, and what the database computes of their rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from psycopg import sql

from dbml.store.client.rows import Connection, Row, all_rows, call, jsonb, value, where

_COLUMNS = sql.SQL(
    "select dataset_id, workspace, name, version, kind, definition, schema, description, tags, is_latest, files, created_at,"
    " created_by from dbml.datasets"
)


def register(
    connection: Connection, workspace: str, name: str, kind: str, definition: Mapping[str, Any], *,
    schema: Sequence[Mapping[str, Any]] | None, files: Sequence[str], files_of: str | None, description: str | None,
    tags: Mapping[str, Any], create_new_version: bool,
) -> int:  # fmt: skip
    """Register a dataset; returns the version."""
    return int(
        call(
            connection, "register_dataset", name=name, kind=kind, definition=jsonb(dict(definition)),
            schema=None if schema is None else jsonb(list(schema)), files=list(files), files_of=files_of, description=description,
            tags=jsonb(dict(tags)), create_new_version=create_new_version, workspace=workspace,
        )
    )  # fmt: skip


def list_all(
    connection: Connection, workspace: str, *, name: str | None = None, version: int | None = None,
    dataset_id: int | None = None, is_latest: bool | None = None,
) -> list[Row]:  # fmt: skip
    """Return datasets of a workspace by name, the newest version first."""
    condition, values = where(workspace=workspace, name=name, version=version, dataset_id=dataset_id, is_latest=is_latest)
    return all_rows(connection, _COLUMNS + condition + sql.SQL(" order by name, version desc"), values)


def update(
    connection: Connection, workspace: str, reference: str, *, description: str | None, tags: Mapping[str, Any] | None
) -> None:
    """Describe a version, and give it tags in place of the former."""
    call(
        connection, "update_dataset", dataset=reference, description=description,
        tags=None if tags is None else jsonb(dict(tags)), workspace=workspace,
    )  # fmt: skip


def delete(connection: Connection, workspace: str, reference: str) -> int:
    """Delete a version; returns it."""
    return int(call(connection, "delete_dataset", dataset=reference, workspace=workspace))


def link(connection: Connection, workspace: str, run_id: UUID, reference: str, name: str) -> None:
    """Record that a run used a version, under the name that the run has for it."""
    call(connection, "link_dataset", run_id=run_id, dataset=reference, name=name, workspace=workspace)


def of_run(connection: Connection, run_id: UUID, direction: str = "input") -> list[Row]:
    """Return dataset_id, dataset and name_in_run of what a run used, or wrote (output), by name."""
    query = sql.SQL(
        "select dataset_id, dataset, name_in_run from dbml.run_datasets where (run_id, direction) = (%s, %s) order by name_in_run"
    )
    return all_rows(connection, query, (run_id, direction))


def primary_key(connection: Connection, table: str) -> list[str]:
    """Return the columns of a table's primary key in their order; table: as written in SQL."""
    query = sql.SQL(
        "select coalesce(array_agg(a.attname::text order by k.place), '{}') from pg_catalog.pg_index i,"
        " unnest(i.indkey::smallint[]) with ordinality k(number, place), pg_catalog.pg_attribute a"
        " where i.indrelid = to_regclass(%s) and i.indisprimary and a.attrelid = i.indrelid and a.attnum = k.number"
    )
    return list(value(connection, query, (table,)))


def profile(connection: Connection, query: str, probabilities: Sequence[float] | None) -> list[Row]:
    """Return the profile of a query, a row a column."""
    if probabilities is None:
        return all_rows(connection, sql.SQL("select * from dbml.profile(%s)"), (query,))
    statement = sql.SQL("select * from dbml.profile(%s, probabilities => %s::double precision[])")
    return all_rows(connection, statement, (query, list(probabilities)))


def drift(connection: Connection, reference: str, query: str, bins: int) -> list[Row]:
    """Return how far a query's columns have drifted from another's, a row a column."""
    return all_rows(connection, sql.SQL("select * from dbml.data_drift(%s, %s, bins => %s)"), (reference, query, bins))
