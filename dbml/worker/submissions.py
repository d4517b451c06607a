"""Submissions: what waits in the database to be run, taken as soon as it is committed.

PostgreSQL itself tells of a commit: dbml.submit_run notifies, and a notification is sent when its transaction commits.
A connection of its own listens; dbml.rotate_keys makes itself heard there too.  Only the worker whose session holds the
workers' lock takes runs, so that none is taken twice; and a run begins when its row in dbml._submissions is gone, so that
none begins twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

import psycopg

from dbml import errors
from dbml.store import channel, submissions
from dbml.store.submissions import Submission
from dbml.worker.environments.zygotes import Zygotes
from dbml.worker.keys import Keys
from dbml.worker.pools import Pool
from dbml.worker.record import RunRecord
from dbml.worker.sandbox import Limits
from dbml.worker.script_call import ScriptCall
from dbml.worker.secret_params import Secrets
from dbml.worker.submitted_call import SubmittedCall, request_of
from dbml.worker.submitted_record import SubmittedRecord
from dbml.worker.telemetry import CONNECT_TIMEOUT_S, Telemetry

log = logging.getLogger("dbml.submissions")

LOOK_S = 5.0  # how often to look although nothing was heard
MOST_HELD = 64  # runs that are taken and wait for their turn, or run
PAUSE_S = 1.0  # before a run is tried again that found no place

Make = Callable[[Mapping[str, Any], RunRecord, int], ScriptCall]


class Submissions:
    """Takes submitted runs and lets them run.

    make: makes a script's call from its request, its record, and the number that it has in place of a backend's.
    """

    def __init__(self, dsn: str, keys: Keys, telemetry: Telemetry, zygotes: Zygotes, limits: Limits, make: Make) -> None:
        self._dsn = dsn
        self._keys = keys
        self._telemetry = telemetry
        self._zygotes = zygotes
        self._limits = limits
        self._make = make
        self._backends = itertools.count(-1, -1)  # a submitted run has no backend; each has a number of its own
        self._calls: dict[str, SubmittedCall | None] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._listening: asyncio.Task[None] | None = None
        self._looking = asyncio.Lock()
        self._swept = False  # what held the inputs of runs that are over is gone

    def start(self) -> None:
        """Begin to listen."""
        self._listening = asyncio.create_task(self._listen())

    async def stop(self) -> None:
        """Take no more; runs that have begun are interrupted, others are left to the next worker."""
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.wait([self._listening])
        for call in list(self._calls.values()):
            if call is not None:
                await call.interrupt()
        for task in list(self._tasks.values()):
            task.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks.values()))

    async def _listen(self) -> None:
        while True:
            try:
                connection = await psycopg.AsyncConnection.connect(
                    self._dsn, autocommit=True, application_name="dbml worker", connect_timeout=CONNECT_TIMEOUT_S,
                    client_encoding="utf8", keepalives_idle=30, keepalives_interval=10, keepalives_count=3,
                )  # fmt: skip
                async with connection:
                    await channel.lay_down(connection)
                    await connection.execute(f"listen {submissions.CHANNEL}")
                    while True:
                        await self._keys.follow()
                        await self._look()
                        await self._hear(connection)
            except (psycopg.Error, OSError):
                await asyncio.sleep(PAUSE_S)  # the telemetry says that the database is away
            except Exception:
                log.exception("submitted runs could not be looked for")
                await asyncio.sleep(LOOK_S)

    @staticmethod
    async def _hear(connection: psycopg.AsyncConnection[Any]) -> None:
        """Wait for a notification, or until it is time to look anyway."""
        async for _ in connection.notifies(timeout=LOOK_S, stop_after=1):
            return

    async def _look(self) -> None:
        """Take what waits, and let go what was taken back."""
        async with self._looking:  # what one look has found is held before the next
            if self._telemetry.alone:
                await self._let_go()
                await self._take()

    async def _let_go(self) -> None:
        waiting = [run_id for run_id, call in self._calls.items() if call is not None and call.waits]
        if waiting:
            left = await self._telemetry.transact(lambda connection: submissions.remaining(connection, waiting))
            for run_id in waiting:
                call = self._calls.get(run_id)
                if run_id not in left and call is not None and call.waits:
                    call.take_back()

    async def _take(self) -> None:
        if not self._swept:
            # Asked for while the connection is ours: no run begins meanwhile, whose function would be taken for an old one.
            await self._telemetry.transact(lambda connection: submissions.sweep_inputs(connection, self._functions()))
            self._swept = True
        room = MOST_HELD - len(self._calls)
        if room > 0:
            held = list(self._calls)
            found = await self._telemetry.transact(lambda connection: submissions.waiting(connection, held, room))
            for submission in found:
                self._calls[submission.run_id] = None
                self._tasks[submission.run_id] = asyncio.create_task(self._run(submission))

    def _functions(self) -> list[str]:
        return [name for call in self._calls.values() if call is not None for name in call.functions]

    async def _run(self, submission: Submission) -> None:
        run_id = submission.run_id
        try:
            if not await self._run_it(submission):
                await asyncio.sleep(PAUSE_S)
        except Exception:
            log.exception("submitted run %s could not be run", run_id)
            await asyncio.sleep(LOOK_S)
        finally:
            self._calls.pop(run_id, None)
            self._tasks.pop(run_id, None)
        if self._listening is not None and not self._listening.done():
            if json.loads(submission.request)["inputs"]:
                self._swept = False
            with contextlib.suppress(psycopg.Error, OSError):
                await self._look()  # there is room for another

    async def _run_it(self, submission: Submission) -> bool:
        run_id = submission.run_id
        header = json.loads(submission.request)
        refusal = submission.pool.get("refusal")
        request = request_of(header, submission.pool.get("pool") or {})
        signature, signed = submission.signature.encode(), submission.request.encode()
        if not self._keys.signatures.proves(signature, signed):
            await self._keys.follow()
        if not self._keys.signatures.proves(signature, signed) or header["run_id"] != run_id:
            error: errors.DbmlError | None = errors.WorkerRefused(
                "the submission is not signed with this database's secret", hint="submit the run again"
            )
            request["run_id"] = run_id
        else:
            error = None if refusal is None else errors.from_fields(refusal)
        if error is not None:
            await SubmittedRecord(request, self._telemetry, Secrets(header["params"]), header["pool"]).fail(error)
            return True
        pool = Pool.of(request, self._limits)
        record = SubmittedRecord(request, self._telemetry, Secrets(request["params"]), pool.name, pool.held(), request["seed"])
        backend = next(self._backends)
        call = SubmittedCall(
            request, record, self._zygotes, self._telemetry, lambda: self._make(request, record, backend), self._dsn
        )
        self._calls[run_id] = call
        return await call.run()
