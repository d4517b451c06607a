"""Records of runs: written by the worker itself, so that a failed or rolled-back call is still seen.

One connection to the database, opened again whenever it is lost.  A record never fails the script: the caller's answer
matters more than the note about it.  A note that cannot be written because the database is away, or has no space, is
kept in memory and written when it is back, in order, up to MOST_KEPT bytes of them.

Commits are asynchronous: a run's record is worth less than the wait for a disk.  So a crash of the server takes the
last ones with it; they are kept until the server's log tells that they are on its disk, and written again after a
connection was lost, however long it takes until there is one again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import select
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import psycopg

from dbml.store import channel, runs

log = logging.getLogger("dbml.telemetry")

Connection = psycopg.AsyncConnection[Any]
T = TypeVar("T")
Work = Callable[[Connection], Awaitable[object]]

CONNECT_TIMEOUT_S = 5
LOOK_S = 0.5  # how soon a lost connection is noticed when there is nothing to write
LONGEST_PAUSE_S = 2.0
CLOCK_S = 60.0  # how often the database's clock is asked
MOST_KEPT = 64 << 20  # bytes
NOTE_BYTES = 1 << 10  # of a note that does not say how large it is
CLOSE_S = 5.0
PATIENCE_S = 10.0  # of a caller whose record waits for a connection that was only just lost
LIVES_S = 1.0
RECENT_S = 60.0  # after which a record is taken to be on the disk of a server that does not tell
MOMENT_S = 0.1  # from the end of one backend to that of all, where the server has died
INTERRUPTED = "the worker was stopped or died while the script ran"


@dataclass(eq=False)
class Note:
    """Something to be written; again: it may have been written already."""

    what: str
    work: Work
    size: int
    durable: bool = False
    again: bool = False
    written_at: float = 0.0
    position: int | None = None  # in the server's log, at or behind which it is
    written: asyncio.Event = field(default_factory=asyncio.Event)


class Telemetry:
    """The worker's own connection to the database, one transaction at a time."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: Connection | None = None
        self._lock = asyncio.Lock()
        self._kept: deque[Note] = deque()  # to be written
        self._recent: deque[Note] = deque()  # written, but perhaps not yet to disk
        self._sizes = {"kept": 0, "recent": 0}
        self._keeper: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._said_who: tuple[str, str] | None = None
        self._failing = False  # to open the connection, at the last attempt
        self._alone = False  # no other worker of this database holds its lock
        self._offset: float | None = None  # the database's clock, less our monotonic one
        self._asked_clock = 0.0
        self.unfinished: set[str] = set()  # the ids of runs that are ours and have no end in the database

    # -- transactions ----------------------------------------------------------------------------------------------

    async def _connect(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._alone = False
            connection = await psycopg.AsyncConnection.connect(
                self._dsn, client_encoding="utf8", application_name="dbml worker", connect_timeout=CONNECT_TIMEOUT_S,
                autocommit=True, keepalives_idle=30, keepalives_interval=10, keepalives_count=3,
            )  # fmt: skip
            try:
                self._say_who(*await channel.lay_down(connection))
                await connection.execute("set synchronous_commit = off")
                # A worker whose host is gone: the server ends its session, and with it its lock, within a minute.
                await connection.execute("set tcp_keepalives_idle = 30")
                await connection.execute("set tcp_keepalives_interval = 10")
                await connection.execute("set tcp_keepalives_count = 3")
                await connection.execute("set idle_in_transaction_session_timeout = '60s'")
                await self._ask_clock(connection)
            except BaseException:
                await connection.close()
                raise
            self._connection = connection
            self._write_recent_again()
        return self._connection

    def _say_who(self, login: str, role: str) -> None:
        """Say as whom records are written, when that is new."""
        if (login, role) == self._said_who:
            return
        self._said_who = (login, role)
        if role == channel.ROLE:
            log.info("the worker writes its records as role %s, logged in as %s", role, login)
        else:
            log.warning(
                "the worker has all rights of its login, role %s: it may not take the role %s."
                " Give it a login of its own: dbml install --worker-login NAME", login, channel.ROLE,
            )  # fmt: skip

    async def transact(self, work: Callable[[Connection], Awaitable[T]], *, durable: bool = False) -> T:
        """Run work in a transaction of its own; a lost connection is opened again, once.

        durable: wait for the disk.
        """
        async with self._lock:
            for attempt in (1, 2):
                connection = await self._connect()
                try:
                    async with connection.transaction():
                        if durable:
                            await connection.execute("set local synchronous_commit = on")
                        return await work(connection)
                except psycopg.OperationalError:
                    if attempt == 2 or not connection.broken:
                        raise
                    await connection.close()
            raise AssertionError("unreachable")

    # -- notes -----------------------------------------------------------------------------------------------------

    async def note(self, what: str, work: Work, *, size: int = NOTE_BYTES, durable: bool = False) -> bool:
        """Run work like `transact`, now or when the database is back; False where it cannot be written.

        work must do no harm when it is done twice: it may find its own rows there.  size: bytes that it keeps in memory.
        """
        note = Note(what, work, size, durable)
        if self._kept or self._away():
            return await self._keep_a_while(note)
        try:
            return await self._write(note)
        except psycopg.Error as error:
            log.warning("the database does not take records: %s", str(error).strip())
            note.again = True
            return await self._keep_a_while(note)

    async def _keep_a_while(self, note: Note) -> bool:
        """Keep a note, and wait for a moment where the connection was only just lost: who called reads the record next."""
        kept = self._keep(note)
        if kept and self._keeper is not None and not self._failing:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(note.written.wait(), PATIENCE_S)
        return kept

    async def lives(self) -> bool:
        """Tell whether the server has been there all along, a moment after something else of it has ended."""
        connection = self._connection
        await asyncio.sleep(MOMENT_S)
        if connection is None or connection.closed:
            return False
        try:
            async with asyncio.timeout(LIVES_S), self._lock:
                await connection.execute("select 1")
        except (psycopg.Error, TimeoutError):
            return False
        return True

    async def _write(self, note: Note) -> bool:
        """Write a note; returns False where it never can be, raises where it may be later."""
        try:
            await self.transact(note.work, durable=note.durable)
        except psycopg.errors.UniqueViolation as error:
            if not note.again:
                log.error("%s could not be recorded: %s", note.what, str(error).strip())
            return note.again  # it was written, and its connection lost before we heard of it
        except psycopg.Error as error:
            if _may_be_later(error):
                raise
            log.error("%s could not be recorded: %s", note.what, str(error).strip())
            return False
        if not note.durable:
            self._remember(note)
        return True

    def _keep(self, note: Note) -> bool:
        if self._sizes["kept"] + note.size > MOST_KEPT:
            log.error("%s is not recorded: the database is away, and %d MB of records wait already", note.what, MOST_KEPT >> 20)
            return False
        self._kept.append(note)
        self._sizes["kept"] += note.size
        self._wake.set()
        return True

    def _remember(self, note: Note) -> None:
        note.written_at, note.position = time.monotonic(), None
        self._recent.append(note)
        self._sizes["recent"] += note.size
        while self._sizes["recent"] > MOST_KEPT:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        self._sizes["recent"] -= self._recent.popleft().size

    def _write_recent_again(self) -> None:
        """Put what a crash may have taken before what is to be written."""
        while self._recent:
            note = self._recent.pop()
            note.again = True
            self._kept.appendleft(note)
            self._sizes["kept"] += note.size
        self._sizes["recent"] = 0
        self._wake.set()

    # -- keeping the connection ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to keep the connection open, and to write what could not be written."""
        self._keeper = asyncio.create_task(self._keep_open())

    def _away(self) -> bool:
        return self._keeper is not None and (self._connection is None or self._connection.closed)

    async def _keep_open(self) -> None:
        pause_s = 0.0
        while True:
            try:
                await self._look()
                if pause_s:
                    log.warning("the database takes records again")
                pause_s = 0.0
                self._failing = False
            except (psycopg.Error, OSError) as error:
                if not pause_s:
                    log.warning("the database is away, records wait: %s", str(error).strip())
                pause_s = min(2 * pause_s or 0.1, LONGEST_PAUSE_S)
                self._failing = True
            except Exception:
                log.exception("a record failed unexpectedly")
                pause_s = LONGEST_PAUSE_S
            self._wake.clear()
            if pause_s:
                await asyncio.sleep(pause_s)
            else:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), LOOK_S)

    async def _look(self) -> None:
        """Open the connection if it is lost, write what waits, and see to what a former worker left."""
        if not self._lock.locked() and (self._connection is None or self._connection.closed or self._has_something()):
            await self.transact(channel.breathe)
        while self._kept:
            note = self._kept[0]
            try:
                await self._write(note)
            except psycopg.Error:
                note.again = True
                raise
            self._kept.remove(note)  # it need not be the first any more: a new connection puts others before it
            self._sizes["kept"] -= note.size
            note.written.set()
        if self._recent and not self._lock.locked():
            await self.transact(self._look_back)
        if not self._alone:
            await self._take_over()
        if time.monotonic() - self._asked_clock > CLOCK_S:
            await self.transact(self._ask_clock)

    async def _look_back(self, connection: Connection) -> None:
        """Let go of what the server has on its disk, as its log tells."""
        positions = await channel.log_positions(connection)
        if positions is None:
            while self._recent and time.monotonic() - self._recent[0].written_at > RECENT_S:
                self._forget_oldest()
            return
        on_disk, written = positions
        while self._recent and self._recent[0].position is not None and self._recent[0].position <= on_disk:
            self._forget_oldest()
        for note in self._recent:
            if note.position is None:
                note.position = written

    def _has_something(self) -> bool:
        """Tell whether the server has sent something unasked, most likely that it ends the connection."""
        assert self._connection is not None
        poll = select.poll()
        poll.register(self._connection.fileno(), select.POLLIN)
        return bool(poll.poll(0))

    @property
    def alone(self) -> bool:
        """Tell whether no other worker of this database holds the workers' lock."""
        return self._alone

    async def _take_over(self) -> None:
        """Mark what a former worker left running, once it is gone."""

        async def work(connection: Connection) -> tuple[bool, int]:
            if not await channel.lock(connection):
                return False, 0
            return True, await runs.interrupt(connection, INTERRUPTED, self.unfinished)

        self._alone, left = await self.transact(work)
        if left:
            log.warning("%d runs of a former worker are marked as interrupted", left)

    # -- the channel -----------------------------------------------------------------------------------------------

    async def read_channel(self) -> channel.Channel | None:
        """Read the row that joins the database to its worker."""
        return await self.transact(channel.read)

    async def register(self, host: str, port: int, packages: Mapping[str, str]) -> None:
        """Tell the database where this worker listens, and close the records of a worker that was before it."""
        await self.transact(lambda connection: channel.register(connection, host, port, packages), durable=True)
        await self._take_over()
        if not self._alone:
            log.warning("another worker serves this database still: new calls come here, its own runs are left to it")

    async def _ask_clock(self, connection: Connection) -> None:
        began = time.monotonic()
        now = await channel.clock(connection)
        self._asked_clock = time.monotonic()
        self._offset = now - (began + self._asked_clock) / 2

    def now(self) -> float:
        """Return the time by the database's clock, Unix time; ours may be wrong, and may jump."""
        return time.time() if self._offset is None else self._offset + time.monotonic()

    async def ask_clock(self) -> None:
        """Ask the database for the time, where that was not done within the last second and it answers at once."""
        if time.monotonic() - self._asked_clock > 1:
            self._asked_clock = time.monotonic()
            with contextlib.suppress(psycopg.Error, OSError, TimeoutError):
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    await self.transact(self._ask_clock)

    async def close(self) -> None:
        """Write what waits, if the database takes it soon, and close the connection."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        with contextlib.suppress(psycopg.Error, OSError, TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                while self._kept:
                    await self._write(self._kept[0])
                    self._kept.popleft()
        if self._kept:
            log.error("%d records are lost: the database is away", len(self._kept))
        if self._connection is not None:
            await self._connection.close()


def _may_be_later(error: psycopg.Error) -> bool:
    """Tell whether the same may succeed later: the connection is lost, or the server cannot take it now."""
    if error.sqlstate is None:
        return isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))
    # Connections; resources, the disk's space among them; a server that stops or starts; input and output; a standby.
    return (error.sqlstate[:2] in ("08", "53", "57", "58") and error.sqlstate != "57014") or error.sqlstate == "25006"
