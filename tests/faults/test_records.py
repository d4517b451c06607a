"""Records and crashes: what a caller was told is written is there, however long the server is away."""

from __future__ import annotations

import asyncio
import itertools

import psycopg
import pytest

from dbml.worker import telemetry
from dbml.worker.telemetry import Connection, Telemetry

from .conftest import until


class Records:
    """A table of its own, and its connection's end as a crash would bring it."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self.run("create table noted (ordinal int primary key)", "grant insert on noted to public")

    def run(self, *statements: str) -> None:
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    def crash(self) -> None:
        """Take the last record, and end the worker's connection; returns when it has ended."""
        ours = "from pg_stat_activity where application_name = 'dbml worker' and datname = current_database()"
        self.run("delete from noted", f"select pg_terminate_backend(pid) {ours}")
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            until(lambda: connection.execute(f"select count(*) {ours}").fetchone() == (0,))  # type: ignore[arg-type]

    def there(self) -> list[int]:
        with psycopg.connect(self._dsn) as connection:
            return [row[0] for row in connection.execute("select ordinal from noted order by 1").fetchall()]

    @staticmethod
    async def note(records: Telemetry, ordinal: int) -> bool:
        async def work(connection: Connection) -> None:
            await connection.execute("insert into noted values (%s)", (ordinal,))

        return await records.note("a record", work)


def test_a_record_of_the_last_moment_survives_a_long_absence(installed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server dies with a record that is not yet on its disk, and comes back an hour later."""
    table = Records(installed)

    async def story() -> None:
        records = Telemetry(installed)
        assert await table.note(records, 1)
        table.crash()
        clock = itertools.count(telemetry.time.monotonic() + 3600)
        monkeypatch.setattr(telemetry.time, "monotonic", lambda: float(next(clock)))
        await records._look()  # finds the connection lost, and a new one
        await records._look()
        assert table.there() == [1]
        await records.close()

    asyncio.run(story())


def test_records_that_are_on_the_disk_are_let_go(installed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that answers long after has them; they are not kept for ever, nor written again."""
    table = Records(installed)

    async def story() -> None:
        records = Telemetry(installed)
        assert await table.note(records, 1)
        assert len(records._recent) == 1
        now = telemetry.time.monotonic()
        monkeypatch.setattr(telemetry.time, "monotonic", lambda: now + 60)
        await records._look()
        assert not records._recent and records._sizes["recent"] == 0
        table.crash()
        await records._look()
        await records._look()
        assert table.there() == []
        await records.close()

    asyncio.run(story())
