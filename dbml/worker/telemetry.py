"""Records of runs: written by the worker itself, so that a failed or rolled-back call is still seen.

One connection to the database, opened when needed and opened again when it was lost.  A record that cannot be
written is logged and never fails the script: the caller's answer matters more than the note about it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import psycopg

from dbml.store import channel, runs

log = logging.getLogger("dbml.telemetry")

Connection = psycopg.AsyncConnection[Any]
T = TypeVar("T")


class Telemetry:
    """The worker's own connection to the database, one transaction at a time."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: Connection | None = None
        self._lock = asyncio.Lock()

    async def _connect(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = await psycopg.AsyncConnection.connect(
                self._dsn, client_encoding="utf8", application_name="dbml worker", connect_timeout=5
            )
            # A run's record is worth less than the wait for a disk: visible at once, safe within a second.
            await self._connection.execute("set synchronous_commit = off")
            await self._connection.commit()
        return self._connection

    async def transact(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Run work in a transaction of its own; a lost connection is opened again, once."""
        async with self._lock:
            for attempt in (1, 2):
                connection = await self._connect()
                try:
                    async with connection.transaction():
                        return await work(connection)
                except psycopg.OperationalError:
                    if attempt == 2 or not connection.broken:
                        raise
                    await connection.close()
            raise AssertionError("unreachable")

    async def note(self, what: str, work: Callable[[Connection], Awaitable[object]]) -> bool:
        """Run work like `transact`, but log a failure instead of raising it; returns whether it was written."""
        try:
            await self.transact(work)
        except psycopg.Error as error:
            log.error("%s could not be recorded: %s", what, str(error).strip())
            return False
        return True

    async def read_channel(self) -> channel.Channel | None:
        """Read the row that joins the database to its worker."""
        return await self.transact(channel.read)

    async def register(self, host: str, port: int) -> None:
        """Tell the database where this worker listens, and close the records of a worker that was before it."""

        async def work(connection: Connection) -> int:
            await channel.register(connection, host, port)
            return await runs.interrupt(connection, "the worker was stopped or died while the script ran")

        left = await self.transact(work)
        if left:
            log.warning("%d runs of a former worker are marked as interrupted", left)

    async def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            await self._connection.close()
