"""What the worker writes about the runs that a script begins as parts of its own, many at a time.

Every function takes an open psycopg connection; the caller decides about transactions.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from psycopg import AsyncConnection

from dbml.store.runs import jsonb

# What tells a script from others stays with its own run, and so does the place in its pool.
_START = """
insert into dbml._runs (run_id, parent_run_id, workspace_id, workspace, experiment, username, session_user_, database,
                        application, client_address, language, params, inputs, status, started_at, name, source, kind,
                        environment, environment_version, lock_sha256)
select c.run_id, c.parent_run_id, r.workspace_id, r.workspace, r.experiment, r.username, r.session_user_, r.database,
       r.application, r.client_address, r.language, '{}', '[]', 'running', c.started_at, c.name, 'worker', r.kind, r.environment,
       r.environment_version, r.lock_sha256
from dbml._runs r, unnest(%s::uuid[], %s::uuid[], %s::timestamptz[], %s::text[]) c(run_id, parent_run_id, started_at, name)
where r.run_id = %s
on conflict (run_id) do nothing"""

_CHANGE = """
update dbml._runs r
set tags = r.tags || c.tags, properties = r.properties || c.properties, logged_params = r.logged_params || c.params,
    status = c.status,
    finished_at = case when c.finished_at is not null then greatest(c.finished_at, r.started_at) end,
    sqlstate = c.sqlstate, error = c.error
from unnest(%s::uuid[], %s::jsonb[], %s::jsonb[], %s::jsonb[], %s::text[], %s::timestamptz[], %s::text[], %s::text[])
    c(run_id, tags, properties, params, status, finished_at, sqlstate, error)
where r.run_id = c.run_id"""


async def start(connection: AsyncConnection[Any], *, run_id: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """Record that runs begin: rows of (run_id, parent_run_id, started_at, name); run_id: of the script that they are part of."""
    made, parents, times, names = (list(column) for column in zip(*rows, strict=True))
    await connection.execute(_START, (_ids(made), _ids(parents), times, names, run_id))


async def change(connection: AsyncConnection[Any], changes: Sequence[Mapping[str, Any]]) -> None:
    """Add tags, properties and parameters to runs, and record how they stand."""
    plain = {key: [each[key] for each in changes] for key in ("status", "finished_at", "sqlstate", "error")}
    said = {key: [jsonb(each[key]) for each in changes] for key in ("tags", "properties", "params")}
    await connection.execute(_CHANGE, (_ids([each["run_id"] for each in changes]), *said.values(), *plain.values()))


def _ids(texts: Sequence[str]) -> list[uuid.UUID]:
    return [uuid.UUID(text) for text in texts]
