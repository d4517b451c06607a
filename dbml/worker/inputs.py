"""Inputs of submitted runs: rows of queries that run as who has submitted the run, in a session of the worker's.

Each query is in a security definer function of the submitter's, which alone decides what it may read: the worker has no
right to any table, and whatever the query does, it cannot become the worker.  To dbml's own functions its caller is the
role dbml_worker, which is in no workspace.
Why: docs/decisions/0010-submitted-runs-wait-in-a-table.md.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import psycopg

from dbml import errors
from dbml.store import channel, submissions
from dbml.worker.telemetry import CONNECT_TIMEOUT_S

FIRST_ROWS = 1000

Send = Callable[[dict[str, Any], bytes], Awaitable[object]]


async def send_inputs(dsn: str, sources: Sequence[Mapping[str, Any]], user: str, send: Send) -> None:
    """Send the rows of each input, chunk by chunk; all are of one moment.

    Raises: errors.DbmlError where a query fails, with its SQLSTATE; whatever send raises.
    """
    try:
        connection = await psycopg.AsyncConnection.connect(
            dsn, client_encoding="utf8", application_name="dbml worker", connect_timeout=CONNECT_TIMEOUT_S
        )
        _, role = await channel.lay_down(connection)
        await connection.commit()
        await connection.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
        await connection.set_read_only(True)
    except psycopg.Error as error:
        raise _failed(error, "the inputs") from None
    try:
        if role != channel.ROLE:
            # dbml's functions would take the query for one of the worker's login, which may be an administrator's.
            raise errors.WorkerError(
                f"a worker must be able to take the role {channel.ROLE} to read inputs, this one acts as {role}",
                hint=f"let an administrator run: CREATE ROLE {channel.ROLE} NOLOGIN; then dbml upgrade, and restart the worker",
            )
        for position, source in enumerate(sources):
            try:
                await submissions.open_input(connection, source, user)
                rows = FIRST_ROWS
                while True:
                    n, body, rows = await submissions.next_chunk(connection, rows)
                    if n == 0:
                        break
                    await send({"input": position, "n": n}, body)
                await submissions.close_input(connection)
            except psycopg.Error as error:
                if isinstance(error, errors.DbmlError):
                    raise
                raise _failed(error, f'the input "{source["name"]}"') from None
    finally:
        await connection.close()


def _failed(error: psycopg.Error, what: str) -> errors.DbmlError:
    return errors.from_fields(
        {
            "sqlstate": error.sqlstate or "08006", "message": f"{what}: {error.diag.message_primary or str(error).strip()}",
            "detail": None, "hint": error.diag.message_hint,
        }
    )  # fmt: skip
