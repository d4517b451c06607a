"""What the worker writes about runs: statements on the private tables, and nothing else.

Every function takes an open psycopg connection; the caller decides about transactions.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any

from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

PART_BYTES = 1 << 20


def jsonb(value: Any) -> Jsonb:
    """Return JSON without escapes, which a database in another encoding than UTF-8 does not take."""
    return Jsonb(value, dumps=partial(json.dumps, ensure_ascii=False))


_START = """
insert into dbml._runs (run_id, workspace_id, workspace, experiment, username, session_user_, database, application,
                        client_address, backend_pid, language, script, script_sha256, params, inputs, status, started_at,
                        stored_script, stored_version, environment, environment_version, lock_sha256, pool, options,
                        seed, software, snapshot, arguments, replay_of, kind)
values (%(run_id)s, %(workspace_id)s, %(workspace)s, %(experiment)s, %(username)s, %(session_user)s, %(database)s,
        %(application)s, %(client_address)s, %(backend_pid)s, %(language)s, %(script)s, %(script_sha256)s, %(params)s,
        %(inputs)s, %(status)s, %(started_at)s, %(stored_script)s, %(stored_version)s,
        %(environment)s, %(environment_version)s, %(lock_sha256)s, %(pool)s, %(options)s,
        %(seed)s, %(software)s, %(snapshot)s, %(arguments)s, %(replay_of)s,
        %(kind)s)
on conflict (run_id) do nothing"""

_EXPERIMENT = """
insert into dbml._experiments (workspace_id, name, created_by) values (%s, %s, %s) on conflict do nothing"""

_LEAVE_QUEUE = "update dbml._runs set status = 'running', queued_seconds = %s where run_id = %s and status = 'queued'"

_OUTPUT = """
insert into dbml._outputs (run_id, name, columns, rows) values (%(run_id)s, %(name)s, %(columns)s, %(n)s)
on conflict (run_id, name) do update set rows = dbml._outputs.rows + excluded.rows"""

_OUTPUT_PART = "insert into dbml._output_parts (run_id, name, ordinal, columns, literals) values (%s, %s, %s, %s, %s)"

_FINISH = """
update dbml._runs
set status = %(status)s, finished_at = greatest(%(finished_at)s, started_at), rows_in = %(rows_in)s, rows_out = %(rows_out)s,
    peak_memory_mb = %(peak_memory_mb)s, cpu_seconds = %(cpu_seconds)s, log = %(log)s, sqlstate = %(sqlstate)s,
    error = %(error)s, error_context = %(error_context)s, tags = tags || %(tags)s, properties = properties || %(properties)s,
    logged_params = logged_params || %(logged_params)s, loaded = %(loaded)s
where run_id = %(run_id)s"""

_METRICS = """
insert into dbml._metrics (run_id, ordinal, name, step, value, logged_at, kind, data)
select * from unnest(%s::uuid[], %s::bigint[], %s::text[], %s::bigint[], %s::double precision[], %s::timestamptz[],
                     %s::text[], %s::jsonb[])"""

_INTERRUPT = """
update dbml._runs
set status = 'interrupted', finished_at = greatest(now(), started_at), sqlstate = 'ML011', error = %s
where finished_at is null and source = 'worker' and run_id <> all(%s)
  and not exists (select from dbml._submissions s where s.run_id = dbml._runs.run_id)"""


async def start(connection: AsyncConnection[Any], run: Mapping[str, Any]) -> None:
    """Record that a run has begun; makes its experiment where it is new."""
    if run["experiment"] is not None:
        await connection.execute(_EXPERIMENT, (run["workspace_id"], run["experiment"], run["username"]))
    wrapped = ("params", "inputs", "options", "software", "arguments")
    values = dict(run, **{name: None if run[name] is None else jsonb(run[name]) for name in wrapped})
    await connection.execute(_START, values)


async def leave_queue(connection: AsyncConnection[Any], run_id: str, queued_s: float) -> None:
    """Record that a queued run is running."""
    await connection.execute(_LEAVE_QUEUE, (queued_s, run_id))


async def finish(connection: AsyncConnection[Any], run: Mapping[str, Any], outcome: Mapping[str, Any]) -> None:
    """Record how a run ended; makes its record again where that was lost in a crash of the server."""
    if not await end(connection, outcome):
        await start(connection, run)
        await end(connection, outcome)


async def end(connection: AsyncConnection[Any], outcome: Mapping[str, Any]) -> bool:
    """Record how a run ended; False where it has no record."""
    values = dict(outcome, **{name: jsonb(outcome[name]) for name in ("tags", "properties", "logged_params", "loaded")})
    return (await connection.execute(_FINISH, values)).rowcount == 1


async def interrupt(connection: AsyncConnection[Any], reason: str, living: Collection[str]) -> int:
    """Mark every run that a former worker left running as interrupted; returns how many.

    living: the ids of those that run here.
    """
    return (await connection.execute(_INTERRUPT, (reason, [uuid.UUID(run_id) for run_id in living]))).rowcount


async def add_values(connection: AsyncConnection[Any], rows: Sequence[tuple[Any, ...]]) -> None:
    """Add logged values, one at least: rows of (run_id, ordinal, name, step, value, time, kind, data)."""
    # Not COPY, which row-level security forbids to a role that is bound by it.
    run_ids, ordinals, names, steps, values, times, kinds, said = (list(column) for column in zip(*rows, strict=True))
    numbers = [None if value is None else float(value) for value in values]
    data = [None if each is None else jsonb(each) for each in said]
    ids = [uuid.UUID(run_id) for run_id in run_ids]
    await connection.execute(_METRICS, (ids, ordinals, names, steps, numbers, times, kinds, data))


async def add_part(connection: AsyncConnection[Any], blob: bytes, ordinal: int, part: bytes) -> None:
    """Keep one part (at most PART_BYTES) of the blob of that digest, whose row is there."""
    digest = hashlib.sha256(part).digest()
    await connection.execute(
        "insert into dbml._chunks (digest, data) values (%s, %s) on conflict do nothing", (digest, part), binary=True
    )
    await connection.execute("insert into dbml._blob_chunks (blob, ordinal, chunk) values (%s, %s, %s)", (blob, ordinal, digest))


async def add_blob(connection: AsyncConnection[Any], digest: bytes, size: int) -> bool:
    """Make the row of a blob; False where the same bytes are kept already, and no parts are needed."""
    cursor = await connection.execute(
        "insert into dbml._blobs (digest, size) values (%s, %s) on conflict do nothing", (digest, size)
    )
    return cursor.rowcount == 1


async def add_artifact(
    connection: AsyncConnection[Any], run_id: str, name: str, kind: str, content_type: str, digest: bytes
) -> None:
    """Name a kept blob as an artifact of a run; the same name again replaces it."""
    await connection.execute(
        "insert into dbml._artifacts (run_id, name, kind, content_type, digest) values (%s, %s, %s, %s, %s)"
        " on conflict (run_id, name) do update set kind = excluded.kind, content_type = excluded.content_type,"
        " digest = excluded.digest, created_at = now()",
        (run_id, name, kind, content_type, digest),
    )


async def add_output(
    connection: AsyncConnection[Any], run_id: str, name: str, ordinal: int, columns: Sequence[Mapping[str, str]], n: int,
    literals: Sequence[str],
) -> None:  # fmt: skip
    """Add a part of an output: n rows, as an array literal a column."""
    listed = jsonb(list(columns))
    await connection.execute(_OUTPUT, {"run_id": run_id, "name": name, "columns": listed, "n": n})
    await connection.execute(_OUTPUT_PART, (run_id, name, ordinal, listed, list(literals)))
