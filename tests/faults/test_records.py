"""Records and crashes: what a caller was told is written is there, however long the server is away."""

from __future__ import annotations

import asyncio
import itertools
import time

import psycopg
import pytest

from dbml.store import channel
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
        clock = itertools.count(time.monotonic() + 3600)
        monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
        await records._look()  # finds the connection lost, and a new one
        await records._look()
        assert table.there() == [1]
        await records.close()

    asyncio.run(story())


def test_records_that_are_on_the_disk_are_let_go(installed: str) -> None:
    """Once the server says that it has them they are not kept for ever, nor written again."""
    table = Records(installed)

    async def story() -> None:
        records = Telemetry(installed)
        assert await table.note(records, 1)
        assert len(records._recent) == 1
        await let_go(records)
        assert records._sizes["recent"] == 0
        table.crash()
        await records._look()
        await records._look()
        assert table.there() == []
        await records.close()

    asyncio.run(story())


def test_records_are_kept_until_the_server_says_that_it_has_them(installed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long that takes: a disk that is busy may take longer than the server means to let it."""
    table = Records(installed)
    disk = [0]

    async def positions(connection: Connection) -> tuple[int, int]:
        await channel.breathe(connection)
        return disk[0], 100

    monkeypatch.setattr(channel, "log_positions", positions)

    async def story() -> None:
        records = Telemetry(installed)
        assert await table.note(records, 1)
        clock = itertools.count(time.monotonic() + 3600)
        monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
        for _ in range(3):
            disk[0] = 99
            await records._look()
            assert len(records._recent) == 1
        table.crash()
        disk[0] = 100  # of a log that is another since
        await records._look()
        await records._look()
        assert table.there() == [1]
        await records._look()
        assert not records._recent
        await records.close()

    asyncio.run(story())


def test_where_the_server_does_not_tell_records_are_let_go_in_time(installed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    table = Records(installed)
    table.run(
        "create schema other",
        "grant usage on schema other to public",
        "create function other.pg_current_wal_flush_lsn() returns pg_lsn language plpgsql as"
        " $$begin raise feature_not_supported using message = 'not on this server'; end$$",
        f'alter database "{psycopg.conninfo.conninfo_to_dict(installed)["dbname"]}" set search_path = other, pg_catalog, public',
    )
    monkeypatch.setattr(telemetry, "RECENT_S", 30.0)

    async def story() -> None:
        records = Telemetry(installed)
        assert await table.note(records, 1)
        await records._look()
        assert len(records._recent) == 1
        now = time.monotonic()
        monkeypatch.setattr(time, "monotonic", lambda: now + 60)
        await records._look()
        assert not records._recent
        await records.close()

    asyncio.run(story())


async def let_go(records: Telemetry) -> None:
    """Look until nothing is kept, as the worker does all the time."""
    deadline = time.monotonic() + 30
    while records._recent:
        assert time.monotonic() < deadline
        await records._look()
        await asyncio.sleep(0.05)
