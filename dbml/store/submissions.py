"""Submitted runs, as the worker takes them, and what it writes about them.

Every function takes an open psycopg connection; the caller decides about transactions.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection, sql

from dbml.store.runs import end, jsonb

CHANNEL = "dbml_submissions"  # of the notifications that something was submitted or taken back

# Of each role its oldest first, the roles in turn.  Rights and the limits of the pool are those of this moment.
_WAITING = """
select s.run_id::text, s.request, s.signature, case
       when dbml_channel._may_submit(s.username, s.workspace_id)
       then dbml_channel._choose_pool(s.request::jsonb ->> 'pool', s.username)
       else jsonb_build_object('refusal', jsonb_build_object('sqlstate', '42501',
            'message', format('role %%s may no longer run scripts in workspace "%%s"', s.username, s.workspace))) end
from (select s.run_id, s.request, s.signature, s.submitted_at, r.username, r.workspace_id, r.workspace,
             row_number() over (partition by r.username order by s.submitted_at) as turn
      from dbml._submissions s join dbml._runs r using (run_id)) s
where s.run_id <> all(%s)
order by s.turn, s.submitted_at
limit %s"""

_BEGIN = """
with begun as (delete from dbml._submissions where run_id = %(run_id)s returning run_id)
update dbml._runs r
set status = 'running', pool = %(pool)s, options = r.options || %(options)s, software = %(software)s, seed = %(seed)s,
    queued_seconds = greatest(0, extract(epoch from clock_timestamp() - r.started_at))
from begun where r.run_id = begun.run_id"""

_LOG = "insert into dbml._log_chunks (run_id, ordinal, text) values (%s, %s, %s) on conflict do nothing"

_PARTS = "select ordinal from dbml._blob_chunks where blob = %s order by ordinal"

_PART = """
select dbml._read_chunk(c) from dbml._blob_chunks bc join dbml._chunks c on c.digest = bc.chunk
where bc.blob = %s and bc.ordinal = %s"""


@dataclass(frozen=True)
class Submission:
    """One that waits; pool: the limits of its pool, or a refusal."""

    run_id: str
    request: str
    signature: str
    pool: Mapping[str, Any]


async def waiting(connection: AsyncConnection[Any], held: Collection[str], limit: int) -> list[Submission]:
    """Return runs that wait to be begun; held: the ids of those that are known."""
    cursor = await connection.execute(_WAITING, ([uuid.UUID(run_id) for run_id in held], limit))
    return [Submission(*row) for row in await cursor.fetchall()]


async def remaining(connection: AsyncConnection[Any], held: Collection[str]) -> set[str]:
    """Return which of these runs still wait."""
    cursor = await connection.execute(
        "select run_id::text from dbml._submissions where run_id = any(%s)", ([uuid.UUID(run_id) for run_id in held],)
    )
    return {run_id for (run_id,) in await cursor.fetchall()}


async def begin(connection: AsyncConnection[Any], run: Mapping[str, Any]) -> bool:
    """Record that a run begins; False where it does not wait any more."""
    values = dict(run, options=jsonb(run["options"]), software=jsonb(run["software"]))
    return (await connection.execute(_BEGIN, values)).rowcount == 1


async def finish(connection: AsyncConnection[Any], outcome: Mapping[str, Any]) -> None:
    """Record how a run ended, begun or not; does nothing where its record has been deleted."""
    await connection.execute("delete from dbml._submissions where run_id = %s", (outcome["run_id"],))
    await end(connection, outcome)


async def add_log(connection: AsyncConnection[Any], run_id: str, ordinal: int, text: str) -> None:
    """Keep a part of a run's log; once, however often it is written."""
    await connection.execute(_LOG, (run_id, ordinal, text))


async def open_input(connection: AsyncConnection[Any], source: Mapping[str, Any], user: str) -> None:
    """Open the cursor of an input and prepare the statement that takes its next rows as a chunk.

    Raises: psycopg.Error where the function that holds the query is not what was submitted, or the query fails.
    """
    await connection.execute("select dbml_channel._check_sources(%s, %s)", (jsonb([dict(source)]), user))
    columns = source["columns"]
    cursor = await connection.execute(
        "select dbml_channel.chunk_query(%s::text[], %s::text[], %s::integer[], false)",
        (
            [column["type"] for column in columns], [column["kind"] for column in columns],
            list(range(1, len(columns) + 1)),
        ),
    )  # fmt: skip
    row = await cursor.fetchone()
    assert row is not None
    query = sql.SQL("declare input no scroll cursor for select * from dbml_runtime.{}()").format(
        sql.Identifier(source["function"])
    )
    await connection.execute(query)
    await connection.execute(f"prepare input_chunk (refcursor, integer) as {row[0]}".encode())


async def next_chunk(connection: AsyncConnection[Any], rows: int) -> tuple[int, bytes, int]:
    """Take the next rows of the open input: how many they are, the chunk, and how many to ask for next."""
    cursor = await connection.execute(sql.SQL("execute input_chunk('input', {})").format(sql.Literal(rows)))
    row = await cursor.fetchone()
    assert row is not None
    body = str(row[1]).encode()
    after = await connection.execute("select dbml_channel.next_chunk_rows(%s, %s, false)", (rows, len(body)))
    next_rows = await after.fetchone()
    assert next_rows is not None
    return int(row[0]), body, int(next_rows[0])


async def close_input(connection: AsyncConnection[Any]) -> None:
    """Close the open input."""
    await connection.execute("close input")
    await connection.execute("deallocate input_chunk")


async def sweep_inputs(connection: AsyncConnection[Any], held: Collection[str]) -> None:
    """Drop the functions that held queries of runs that are over; held: names of those that are not."""
    await connection.execute("select dbml_channel._sweep_sources(%s::text[])", (list(held),))


async def lock_of(connection: AsyncConnection[Any], environment_id: int) -> str | None:
    """Return the lock of an environment; None where it is gone."""
    cursor = await connection.execute("select lock from dbml._environments where environment_id = %s", (environment_id,))
    row = await cursor.fetchone()
    return None if row is None else str(row[0])


async def parts(connection: AsyncConnection[Any], blob: bytes) -> list[int]:
    """Return the ordinals of a blob's parts."""
    return [ordinal for (ordinal,) in await (await connection.execute(_PARTS, (blob,))).fetchall()]


async def part(connection: AsyncConnection[Any], blob: bytes, ordinal: int) -> bytes:
    """Return one part of a blob, checked against its digest."""
    row = await (await connection.execute(_PART, (blob, ordinal), binary=True)).fetchone()
    return b"" if row is None else bytes(row[0])


async def find_model(connection: AsyncConnection[Any], model: str, workspace: str) -> tuple[str, int, bytes]:
    """Return name, version and digest of a model.

    Raises: errors.ModelNotFound, errors.InvalidArgument.
    """
    cursor = await connection.execute("select name, version, digest from dbml_channel.find_model(%s, %s)", (model, workspace))
    row = await cursor.fetchone()
    assert row is not None
    return row[0], row[1], bytes(row[2])


async def add_model(
    connection: AsyncConnection[Any], workspace_id: int, head: Mapping[str, Any], created_by: str
) -> int:  # fmt: skip
    """Register a kept blob as the next version of a model, for a role; returns the version."""
    name, digest = head["name"], bytes.fromhex(head["digest"])
    cursor = await connection.execute("select dbml._add_model(%s, %s, %s, %s)", (workspace_id, name, digest, jsonb(dict(head))))
    row = await cursor.fetchone()
    assert row is not None
    await connection.execute(
        "update dbml._models set created_by = %s where (workspace_id, name, version) = (%s, %s, %s)",
        (created_by, workspace_id, name, row[0]),
    )
    return int(row[0])


async def add_model_files(connection: AsyncConnection[Any], workspace: str, head: Mapping[str, Any], created_by: str) -> int:
    """Register artifacts of a run as the next version of a model, for a role; returns the version."""
    values = {
        **{key: head[key] for key in ("name", "format", "framework", "framework_version", "description", "run_id")},
        **{key: jsonb(head[key]) for key in ("files", "tags", "properties")}, "workspace": workspace,
    }  # fmt: skip
    query = sql.SQL("select dbml.register_model_files({})").format(
        sql.SQL(", ").join(sql.SQL("{} => {}").format(sql.Identifier(name), sql.Placeholder(name)) for name in values)
    )
    row = await (await connection.execute(query, values)).fetchone()
    assert row is not None
    await connection.execute(
        "update dbml._models m set created_by = %s, environment_id = %s from dbml._workspaces w"
        " where w.name = %s and (m.workspace_id, m.name, m.version) = (w.workspace_id, %s, %s)",
        (created_by, head["environment_id"], workspace, head["name"], row[0]),
    )
    return int(row[0])
