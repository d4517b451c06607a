"""The record of a submitted run: its row is there before its worker is, and grows while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import psycopg

from dbml import errors
from dbml.store import runs, submissions
from dbml.worker.record import RunLog, RunRecord
from dbml.worker.secret_params import Secrets
from dbml.worker.software import software_of
from dbml.worker.telemetry import NOTE_BYTES, Connection, Telemetry

FLUSH_S = 0.5  # the longest that printed text and metrics are on their way
INTERRUPTED = errors.WorkerLost.sqlstate
WAITS_ON = errors.TooManyScripts.sqlstate


class LiveLog(RunLog):
    """A log that gives what is new."""

    def __init__(self, secrets: Secrets) -> None:
        super().__init__(secrets)
        self._new: list[str] = []

    def add(self, text: str) -> None:
        """Add printed text."""
        super().add(text)
        self._new.append(text)

    def take(self) -> str:
        """Return what was added since the last time, without secrets."""
        text, self._new = "".join(self._new), []
        return self._secrets.mask(text).replace("\x00", "\ufffd")


class SubmittedRecord(RunRecord):
    """The record of one submitted run.

    Until it has begun it is left as it is, and another attempt, or another worker, may begin it.
    """

    log: LiveLog

    def __init__(
        self, request: Mapping[str, Any], telemetry: Telemetry, secrets: Secrets, pool: str | None,
        limits: Mapping[str, Any] | None = None, seed: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__(request, telemetry, secrets, pool, limits, seed)
        self.run_id = str(request["run_id"])
        self.log = LiveLog(secrets)
        self._begun = False
        self._left_alone = False
        self._over = asyncio.Event()
        self._flushing: asyncio.Task[None] | None = None
        self._log_chunks = 0

    def begin(self, status: str) -> None:
        """Record that it runs; that it waits is known."""
        if status == "running":
            self._started = asyncio.create_task(self._begin())

    async def leave_queue(self, queued_s: float) -> None:
        """Record that it runs."""
        self.queued_s = queued_s
        self.begin("running")

    async def has_begun(self) -> bool:
        """Tell whether its beginning is recorded: not where it was taken back, or the database is away."""
        return self._started is not None and await self._started

    def leave_alone(self) -> None:
        """Record nothing more."""
        self._left_alone = True

    def follow(self) -> None:
        """Write from now on what is printed and logged as it comes."""
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush_often())

    async def refuse(self, error: errors.DbmlError) -> None:
        """Do nothing: it waits on."""

    async def fail(self, error: errors.DbmlError) -> None:
        """Record that it cannot begin at all."""
        nothing = {"status": "failed", "rows_in": 0, "rows_out": None, "peak_memory_mb": None, "cpu_seconds": None}
        await self.finish(nothing, error.fields())

    async def finish(self, outcome: Mapping[str, Any], error: Mapping[str, str | None] | None) -> None:
        """Record how the run ended."""
        state = error and error["sqlstate"]
        if self._left_alone or (state == WAITS_ON and not self._begun):
            return
        self._over.set()
        if self._flushing is not None:
            await self._flushing
        ending = self._ending(outcome, error)
        if state == INTERRUPTED:
            ending["status"] = "interrupted"
        await self.children.end_all(ending)
        values, _ = self._values.take()
        text, ordinal = self.log.take(), self._log_chunks

        async def work(connection: Connection) -> None:
            if text:
                await submissions.add_log(connection, self.run_id, ordinal, text)
            await submissions.finish(connection, ending)
            if values:
                await runs.add_values(connection, values)
            self._telemetry.unfinished.discard(self.run_id)

        size = len(ending["log"]) + len(text) + 100 * len(values)
        await self._telemetry.note(f"the end of run {self.run_id}", work, size=size, durable=True)

    async def _begin(self) -> bool:
        limits = {} if self._limits is None else {"limits": dict(self._limits)}
        run = {
            "run_id": self.run_id, "pool": self._pool, "options": limits, "seed": self._seed,
            "software": software_of(self._request.get("environment")),
        }  # fmt: skip
        self._telemetry.unfinished.add(self.run_id)
        try:
            self._begun = await self._telemetry.transact(lambda connection: submissions.begin(connection, run), durable=True)
        except (psycopg.Error, OSError):
            self._begun = False
        if self._begun:
            self.follow()
        else:
            self._telemetry.unfinished.discard(self.run_id)
        return self._begun

    async def _flush_often(self) -> None:
        while not self._over.is_set():
            try:
                await asyncio.wait_for(self._over.wait(), FLUSH_S)
            except TimeoutError:
                await self._flush()

    async def _flush(self) -> None:
        if text := self.log.take():
            ordinal = self._log_chunks
            self._log_chunks += 1
            await self._note(
                "printed text", lambda connection: submissions.add_log(connection, self.run_id, ordinal, text), size=len(text)
            )
        if self._values:
            await self._write_values()
        await self.children.flush()

    async def _note(
        self, what: str, work: Callable[[Connection], Awaitable[object]], *, size: int = NOTE_BYTES, durable: bool = False
    ) -> None:  # fmt: skip
        await self._telemetry.note(f"{what} of run {self.run_id}", work, size=size, durable=durable)
