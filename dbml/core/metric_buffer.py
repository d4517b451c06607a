"""Logged values on their way to the database: collected, and written in batches.

A batch goes when there are BATCH values, when the oldest is INTERVAL_S old, when somebody asks (`flush`, and with it
complete, fail, cancel and reading), and when the process ends in an orderly way.  Each batch has a number, so that one
that is sent again after the connection broke is written once.  What a killed process had not flushed is lost, and no more.
A forked child begins with nothing: what its parent had collected, its parent writes.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
import uuid
import weakref
from typing import TYPE_CHECKING
from uuid import UUID

import psycopg

from dbml.store.client import runs
from dbml.store.client.rows import Row

if TYPE_CHECKING:
    from dbml.core.connection import Connection

BATCH = 1000
INTERVAL_S = 1.0
MOST = 100_000  # values held while the database is away

_known: weakref.WeakValueDictionary[tuple[int, UUID], MetricBuffer] = weakref.WeakValueDictionary()
_pending: set[MetricBuffer] = set()  # those with values, kept until they are written
_guard = threading.Lock()
_flusher: threading.Thread | None = None


class MetricBuffer:
    """The values of one run that this process has logged and not yet written; threads may share it."""

    def __init__(self, connection: Connection, run_id: UUID) -> None:
        self._connection = connection
        self.run_id = run_id
        self._begin()

    def _begin(self) -> None:
        self._values: list[Row] = []
        self._lock = threading.Lock()  # over the values
        self._writing = threading.Lock()  # over batches, which go in order
        self._writer = uuid.uuid4()
        self._sequence = 0
        self._refused: psycopg.Error | None = None  # what writing in the background was told

    def add(self, values: list[Row]) -> None:
        """Take values; writes at once where a batch is full.

        Raises: psycopg.Error where the database refuses them, or is away for so long that MOST are held.
        """
        now = time.time()
        for value in values:
            value.setdefault("time", now)
        with self._lock:
            self._values += values
            held = len(self._values)
            _pending.add(self)
        if held < BATCH:
            _start_flusher()
            return
        try:
            self.flush()
        except psycopg.OperationalError:
            if held >= MOST:
                raise

    def flush(self) -> None:
        """Write what there is; when it returns, it is committed.

        Raises: psycopg.Error.  Where the database is away the values stay for the next attempt; those that it refuses, of a
        run that is gone or a right that was taken away, are dropped.
        """
        with self._writing:
            if self._refused is not None:
                refused, self._refused = self._refused, None
                raise refused
            while True:
                with self._lock:
                    batch = self._values[:BATCH]
                    if not batch:
                        _pending.discard(self)
                        return
                try:
                    self._connection.do_again(runs.log, self.run_id, batch, self._writer, self._sequence + 1)
                except psycopg.OperationalError:
                    raise
                except psycopg.Error:
                    with self._lock:
                        del self._values[: len(batch)]
                    raise
                self._sequence += 1
                with self._lock:
                    del self._values[: len(batch)]

    def flush_quietly(self) -> None:
        """Write what there is; what the database refuses is raised by the next `flush`."""
        try:
            self.flush()
        except psycopg.OperationalError:
            return  # it is tried again
        except psycopg.Error as error:
            self._refused = error


def buffer_of(connection: Connection, run_id: UUID) -> MetricBuffer:
    """Return the buffer of a run: one for all objects of this process that stand for the run on a connection."""
    with _guard:
        found = _known.get((id(connection), run_id))
        if found is None:
            found = _known[(id(connection), run_id)] = MetricBuffer(connection, run_id)
        return found


def _start_flusher() -> None:
    global _flusher
    with _guard:
        if _flusher is None or not _flusher.is_alive():
            _flusher = threading.Thread(target=_flush_now_and_then, name="dbml metrics", daemon=True)
            _flusher.start()


def _flush_now_and_then() -> None:
    """Write what is there every INTERVAL_S, and end when there was nothing for a while."""
    global _flusher
    idle = 0
    while idle < 10:
        time.sleep(INTERVAL_S)
        waiting = list(_pending)
        idle = 0 if waiting else idle + 1
        for buffer in waiting:
            buffer.flush_quietly()
    with _guard:
        _flusher = None
    if _pending:
        _start_flusher()


def flush_all() -> None:
    """Write what all runs of this process have collected; what cannot be written is told on standard error."""
    for buffer in list(_pending):
        try:
            buffer.flush()
        except psycopg.Error as error:
            print(f"dbml: metrics of run {buffer.run_id} could not be written: {error}", file=sys.stderr)


def _after_fork() -> None:
    global _guard, _flusher
    _guard = threading.Lock()
    _flusher = None
    _pending.clear()
    for buffer in list(_known.values()):
        buffer._begin()


atexit.register(flush_all)
os.register_at_fork(after_in_child=_after_fork)
