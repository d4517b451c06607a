"""Snapshots, submitted runs, replays and lineage, by clients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from psycopg import sql

from dbml.store.client.rows import Connection, Row, all_rows, call, jsonb, one_row, value

_SUBMITTED = sql.SQL(
    "select kind, snapshot, script, arguments, target, seed, replay_of, environment, environment_version, params, sqlstate,"
    " error, error_context from dbml.runs where run_id = %(run_id)s"
)


def has_snapshot(connection: Connection, workspace: str, snapshot: str) -> bool:
    """Tell whether a workspace has a snapshot."""
    query = sql.SQL("select exists (select from dbml.snapshots where (workspace, snapshot) = (%(workspace)s, %(snapshot)s))")
    return bool(value(connection, query, {"workspace": workspace, "snapshot": snapshot}))


def create_snapshot(connection: Connection, workspace: str, digest: str) -> str:
    """Make an uploaded archive a snapshot; returns it."""
    return str(call(connection, "create_snapshot", digest=digest, workspace=workspace))


def snapshot_parts(connection: Connection, workspace: str, snapshot: str) -> Iterator[bytes]:
    """Yield the parts of a snapshot's archive."""
    query = "select dbml.snapshot_part(%s::text, %s::integer, %s::text)"
    number = 0
    while (row := connection.execute(query, (snapshot, number, workspace), binary=True).fetchone()) is not None:
        if row[0] is None:
            return
        yield bytes(row[0])
        number += 1


def submit(
    connection: Connection, workspace: str, experiment: str, snapshot: str, script: str, *, arguments: Sequence[Any] = (),
    inputs: Mapping[str, Any] | None = None, environment: str | None = None,
    environment_variables: Mapping[str, Any] | None = None, pool: str | None = None,
    timeout_s: float | None = None, seed: int | None = None, target: str = "worker", tags: Mapping[str, Any] | None = None,
    properties: Mapping[str, Any] | None = None, outputs: Mapping[str, Any] | None = None, parent_run_id: UUID | None = None,
) -> UUID:  # fmt: skip
    """Submit a script of a snapshot; returns the run's id."""
    objects = {
        "environment_variables": environment_variables, "inputs": inputs, "tags": tags, "properties": properties,
        "outputs": outputs,
    }  # fmt: skip
    made = call(
        connection, "submit_run", experiment=experiment, snapshot=snapshot, script=script, arguments=jsonb(list(arguments)),
        environment=environment, pool=pool, timeout=None if timeout_s is None else f"{timeout_s} seconds", seed=seed,
        target=target, workspace=workspace, parent_run_id=parent_run_id,
        **{name: jsonb(dict(given or {})) for name, given in objects.items()},
    )  # fmt: skip
    return UUID(str(made))


def find(connection: Connection, run_id: UUID) -> Row | None:
    """Return what a run tells about how it was submitted and how it ended."""
    return one_row(connection, _SUBMITTED, {"run_id": run_id})


def cancel(connection: Connection, run_id: UUID) -> bool:
    """Cancel a run that waits or runs in the worker; returns whether there was one."""
    return bool(call(connection, "cancel_script", run_id=run_id))


def log_since(connection: Connection, run_id: UUID, after: int) -> tuple[int, str]:
    """Return the number of the last part of a log, and what was printed after an earlier one."""
    query = sql.SQL("select ordinal, text from dbml.run_log(%(run_id)s, after => %(after)s)")
    rows = all_rows(connection, query, {"run_id": run_id, "after": after})
    return (rows[-1]["ordinal"] if rows else after), "".join(row["text"] for row in rows)


def replay(connection: Connection, run_id: UUID, params: Mapping[str, Any]) -> list[Row]:
    """Run a run's script again and compare: rows of what, original, replayed, same."""
    query = sql.SQL("select what, original, replayed, same from dbml.replay(%(run_id)s, %(params)s)")
    return all_rows(connection, query, {"run_id": run_id, "params": jsonb(dict(params))})


def lineage(connection: Connection, workspace: str, name: str) -> list[Row]:
    """Return the steps to and from something, the nearest first."""
    query = sql.SQL(
        'select direction, depth, from_kind, "from", relation, to_kind, "to", at from dbml.lineage(%(name)s, %(workspace)s)'
    )
    return all_rows(connection, query, {"name": name, "workspace": workspace})
