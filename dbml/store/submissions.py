"""Submitted runs, as the worker takes them, and what it writes about them.

Every function takes an open psycopg connection; the caller decides about transactions.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection, sql

from dbml.store.runs import end, jsonb

CHANNEL = "dbml_submissions"  # of the notifications that something was submitted or taken back

_LOG = "insert into dbml._log_chunks (run_id, ordinal, text) values (%s, %s, %s) on conflict do nothing"

_BEGIN = "select dbml_channel._begin_run_v1(%(run_id)s, %(pool)s, %(options)s, %(software)s, %(seed)s)"


@dataclass(frozen=True)
class Submission:
    """One that waits; pool: the limits of its pool, or a refusal."""

    run_id: str
    request: str
    signature: str
    pool: Mapping[str, Any]


async def waiting(connection: AsyncConnection[Any], held: Collection[str], limit: int) -> list[Submission]:
    """Return runs that wait to be begun; held: the ids of those that are known."""
    query = "select run_id::text, request, signature, pool from dbml_channel._waiting_runs_v1(%s, %s)"
    cursor = await connection.execute(query, (_ids(held), limit))
    return [Submission(*row) for row in await cursor.fetchall()]


async def remaining(connection: AsyncConnection[Any], held: Collection[str]) -> set[str]:
    """Return which of these runs still wait."""
    cursor = await connection.execute("select r::text from dbml_channel._still_waiting_v1(%s) r", (_ids(held),))
    return {run_id for (run_id,) in await cursor.fetchall()}


def _ids(held: Collection[str]) -> list[uuid.UUID]:
    return [uuid.UUID(run_id) for run_id in held]


async def _value(connection: AsyncConnection[Any], query: str, values: Any, *, binary: bool = False) -> Any:
    row = await (await connection.execute(query.encode(), values, binary=binary)).fetchone()
    return None if row is None else row[0]


async def begin(connection: AsyncConnection[Any], run: Mapping[str, Any]) -> bool:
    """Record that a run begins; False where it does not wait any more."""
    values = dict(run, options=jsonb(run["options"]), software=jsonb(run["software"]))
    return bool(await _value(connection, _BEGIN, values))


async def finish(connection: AsyncConnection[Any], outcome: Mapping[str, Any]) -> None:
    """Record how a run ended, begun or not; does nothing where its record has been deleted."""
    await connection.execute("select dbml_channel._wait_no_more_v1(%s)", (outcome["run_id"],))
    await end(connection, outcome)


async def add_log(connection: AsyncConnection[Any], run_id: str, ordinal: int, text: str) -> None:
    """Keep a part of a run's log; once, however often it is written."""
    await connection.execute(_LOG, (run_id, ordinal, text))


async def open_input(connection: AsyncConnection[Any], source: Mapping[str, Any], user: str) -> None:
    """Open the cursor of an input and prepare the statement that takes its next rows as a chunk.

    Raises: psycopg.Error where the function that holds the query is not what was submitted, or the query fails.
    """
    await connection.execute("select dbml_channel._check_inputs_v1(%s, %s)", (jsonb([dict(source)]), user))
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
    await connection.execute("select dbml_channel._sweep_inputs_v1(%s::text[])", (list(held),))


async def lock_of(connection: AsyncConnection[Any], environment_id: int) -> str | None:
    """Return the lock of an environment; None where it is gone."""
    lock: str | None = await _value(connection, "select dbml_channel._environment_lock_v1(%s)", (environment_id,))
    return lock


async def snapshot_part(connection: AsyncConnection[Any], snapshot: str, part: int) -> bytes | None:
    """Return one part of a snapshot's archive, None past its end."""
    query = "select dbml_channel._snapshot_part_v1(%s::text, %s::integer)"
    content: bytes | None = await _value(connection, query, (snapshot, part), binary=True)
    return content


async def find_model(connection: AsyncConnection[Any], run_id: str, model: str) -> tuple[int, str, int, bytes]:
    """Return key, name, version and digest of a model that a run asks for.

    Raises: errors.ModelNotFound.
    """
    query = "select model_id, name, version, digest from dbml_channel._find_run_model_v1(%s, %s)"
    row = await (await connection.execute(query, (run_id, model))).fetchone()
    assert row is not None
    return row[0], row[1], row[2], bytes(row[3])


async def model_part(connection: AsyncConnection[Any], run_id: str, model_id: int, part: int) -> bytes | None:
    """Return one part of a model, None past its end."""
    query = "select dbml_channel._run_model_part_v1(%s::uuid, %s::bigint, %s::integer)"
    content: bytes | None = await _value(connection, query, (run_id, model_id, part), binary=True)
    return content


async def add_model(connection: AsyncConnection[Any], run_id: str, head: Mapping[str, Any]) -> int:
    """Register a kept blob, or artifacts of the run, as the next version of a model; returns the version."""
    return int(await _value(connection, "select dbml_channel._add_run_model_v1(%s, %s)", (run_id, jsonb(dict(head)))))


async def keep_output(connection: AsyncConnection[Any], run_id: str, output: str, files: Sequence[str]) -> dict[str, Any]:
    """Let artifacts of a run be files of the default datastore: paths below the output's folder; returns what came of it."""
    query = "select dbml_channel._keep_run_output_v1(%s::uuid, %s::text, %s::text[])"
    return dict(await _value(connection, query, (run_id, output, list(files))))


async def submit_child(connection: AsyncConnection[Any], run_id: str, asked: Mapping[str, Any]) -> str:
    """Submit a run for the script of another; returns its id."""
    return str(await _value(connection, "select dbml_channel._submit_child_v1(%s::uuid, %s)", (run_id, jsonb(dict(asked)))))


async def child_state(connection: AsyncConnection[Any], run_id: str, child: str) -> dict[str, Any]:
    """Return status, error, tags and metrics of a run that a script has submitted."""
    return dict(await _value(connection, "select dbml_channel._child_state_v1(%s::uuid, %s::uuid)", (run_id, child)))
