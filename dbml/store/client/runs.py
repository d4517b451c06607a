"""Runs that live in a client, and the reading of any: what they logged and what they kept.

Text and JSON come from the views; bytes part by part from functions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import sql

from dbml.store.client.rows import Connection, Row, all_rows, call, jsonb, one_row, value

_COLUMNS = sql.SQL(
    "select run_id, workspace, experiment, parent_run_id, display_name as name, source, status, username,"
    " started_at, finished_at, seconds,"
    " language, script, script_sha256, logged_params || coalesce(params, '{}') as params, inputs, log, sqlstate, error,"
    " error_context, tags, properties, environment, environment_version, lock_sha256, pool, rows_in, rows_out from dbml.runs r"
)


def hold_session(connection: Connection, key: int) -> None:
    """Hold runs alive under a key as long as this session lasts: those that it starts, and those that had the key before."""
    connection.execute("select set_config('dbml.session', %s, false), dbml_channel.hold_session()", (str(key),))


def start(
    connection: Connection, workspace: str, experiment: str | None, *, name: str | None = None,
    params: Mapping[str, Any] | None = None, tags: Mapping[str, Any] | None = None,
    properties: Mapping[str, Any] | None = None, parent_run_id: UUID | None = None, lasting: bool = False,
) -> UUID:  # fmt: skip
    """Record that a run begins; returns its id."""
    return UUID(
        str(
            call(
                connection, "start_run", experiment=experiment, name=name, params=jsonb(dict(params or {})),
                tags=jsonb(dict(tags or {})), properties=jsonb(dict(properties or {})), parent_run_id=parent_run_id,
                lasting=lasting, workspace=workspace,
            )
        )
    )  # fmt: skip


def finish(connection: Connection, run_id: UUID, status: str, error: str | None = None) -> str:
    """Record how a run ended."""
    return str(call(connection, "finish_run", run_id=run_id, status=status, error=error))


def delete(connection: Connection, run_id: UUID) -> int:
    """Delete a run with its parts; returns how many runs went."""
    return int(call(connection, "delete_run", run_id=run_id))


def find(connection: Connection, run_id: UUID) -> Row | None:
    """Return a run that the caller may see."""
    return one_row(connection, _COLUMNS + sql.SQL(" where run_id = %(run_id)s"), {"run_id": run_id})


def list_all(
    connection: Connection, workspace: str, *, experiment: str | None = None, parent_run_id: UUID | None = None,
    roots_only: bool = False, recursive: bool = False, status: str | None = None, tags: Mapping[str, Any] | None = None,
    properties: Mapping[str, Any] | None = None, limit: int | None = None,
) -> list[Row]:  # fmt: skip
    """Return runs of a workspace, the newest first.

    tags, properties: those that have all of these; a value None asks for the name alone.
    recursive: with parent_run_id, children of children too.
    """
    terms: list[sql.Composable] = [sql.SQL("r.workspace = %(workspace)s")]
    head = sql.SQL("")
    if experiment is not None:
        terms.append(sql.SQL("r.experiment = %(experiment)s"))
    if status is not None:
        terms.append(sql.SQL("r.status = %(status)s"))
    if parent_run_id is not None and recursive:
        head = sql.SQL(
            "with recursive below as (select c.run_id from dbml.runs c where c.parent_run_id = %(parent_run_id)s"
            " union select c.run_id from dbml.runs c join below b on c.parent_run_id = b.run_id) "
        )
        terms.append(sql.SQL("r.run_id in (select b.run_id from below b)"))
    elif parent_run_id is not None:
        terms.append(sql.SQL("r.parent_run_id = %(parent_run_id)s"))
    elif roots_only:
        terms.append(sql.SQL("r.parent_run_id is null"))
    values: Row = {
        "workspace": workspace, "experiment": experiment, "status": status, "parent_run_id": parent_run_id, "limit": limit,
    }  # fmt: skip
    for column, asked in (("tags", tags), ("properties", properties)):
        if asked:
            terms.append(sql.SQL("r.{} @> {} and r.{} ?& {}").format(
                sql.Identifier(column), sql.Placeholder(column), sql.Identifier(column), sql.Placeholder(column + "_names")
            ))  # fmt: skip
            values[column] = jsonb({name: wanted for name, wanted in asked.items() if wanted is not None})
            values[column + "_names"] = list(asked)
    query = head + _COLUMNS + sql.SQL(" where ") + sql.SQL(" and ").join(terms)
    return all_rows(connection, query + sql.SQL(" order by started_at desc, run_id limit %(limit)s"), values)


def beginning_with(connection: Connection, workspace: str, start: str) -> list[UUID]:
    """Return the ids of a workspace's runs that begin so, at most a few."""
    query = sql.SQL(
        "select run_id from dbml.runs where workspace = %(workspace)s and starts_with(run_id::text, lower(%(start)s)) limit 10"
    )
    return [row["run_id"] for row in all_rows(connection, query, {"workspace": workspace, "start": start})]


def tag(connection: Connection, run_id: UUID, tags: Mapping[str, Any], remove: Sequence[str] = ()) -> dict[str, Any]:
    """Set tags and remove those named; returns what there is then."""
    return dict(call(connection, "tag_run", run_id=run_id, tags=jsonb(dict(tags)), remove=list(remove)))


def add_properties(connection: Connection, run_id: UUID, properties: Mapping[str, Any]) -> dict[str, Any]:
    """Add properties, which are for good; returns all of them."""
    return dict(call(connection, "add_run_properties", run_id=run_id, properties=jsonb(dict(properties))))


def log_params(connection: Connection, run_id: UUID, params: Mapping[str, Any]) -> dict[str, Any]:
    """Log parameters, which do not change; returns all that the run has logged."""
    return dict(call(connection, "log_params", run_id=run_id, params=jsonb(dict(params))))


def log(connection: Connection, run_id: UUID, metrics: Sequence[Row], writer: UUID, sequence: int) -> int:
    """Log a batch, once however often it is sent; returns how many values were written."""
    return int(
        call(connection, "log_metrics", run_id=run_id, metrics=jsonb(list(metrics)), writer=writer, sequence=sequence)
    )  # fmt: skip


def metrics(connection: Connection, run_ids: Sequence[UUID], name: str | None = None) -> list[Row]:
    """Return what runs logged, in the order of logging."""
    query: sql.Composable = sql.SQL(
        "select run_id, name, step, value, kind, data, logged_at from dbml.metrics where run_id = any(%(run_ids)s)"
    )
    if name is not None:
        query += sql.SQL(" and name = %(name)s")
    return all_rows(connection, query, {"run_ids": list(run_ids), "name": name})


def add_artifact(
    connection: Connection, run_id: UUID, name: str, digest: bytes, kind: str, content_type: str, *, replace: bool = False
) -> int:
    """Keep uploaded bytes with a run; returns their size."""
    return int(
        call(
            connection, "add_artifact", run_id=run_id, name=name, digest=digest, kind=kind, content_type=content_type,
            replace=replace,
        )
    )  # fmt: skip


def artifacts(connection: Connection, run_id: UUID, name: str | None = None) -> list[Row]:
    """Return the artifacts of a run by name, without their bytes."""
    query: sql.Composable = sql.SQL(
        "select name, kind, content_type, digest, size_bytes, created_at from dbml.artifacts where run_id = %(run_id)s"
    )
    if name is not None:
        query += sql.SQL(" and name = %(name)s")
    return all_rows(connection, query + sql.SQL(" order by name"), {"run_id": run_id, "name": name})


def count_until(connection: Connection, workspace: str, experiment: str | None, moment: datetime) -> int:
    """Return how many runs of an experiment began by a moment."""
    query = sql.SQL(
        "select count(*) from dbml.runs where workspace = %(workspace)s and experiment is not distinct from %(experiment)s"
        " and started_at <= %(moment)s"
    )
    return int(value(connection, query, {"workspace": workspace, "experiment": experiment, "moment": moment}))


def stop_script(connection: Connection, run_id: UUID) -> bool:
    """Stop a script that runs or waits in the worker; returns whether there was one."""
    return bool(call(connection, "cancel_script", run_id=run_id))
