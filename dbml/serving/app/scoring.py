"""Where scores are made: one call of user code at a time (or as many as there are threads), within limits.

The loop that reads requests must not wait for a model.  Handing a call to a thread costs more than a small model's own
time, so a script that has answered within QUICK_S of late is called in place, as long as no thread is at it.  On a machine
that is busy a call also lasts while another process has its turn: what counts is its own time, unless it has waited for
something itself.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from dbml.serving.app.problems import Busy, Problem, ScriptFailed, TimedOut
from dbml.serving.app.rows import Rows
from dbml.serving.app.scripts import Script

log = logging.getLogger("dbml.serving")

T = TypeVar("T")
QUICK_S = 0.002
MEMORY = 0.8  # of the moving average of a script's seconds


@dataclass(frozen=True)
class Limits:
    """What a service takes at a time.

    queue: requests that may wait or run; timeout_s: for an answer; batch_rows and batch_delay_s: rows of several requests
    that are scored in one call, and how long the first waits for others (0 rows: no batching).
    """

    threads: int = 1
    queue: int = 100
    timeout_s: float = 60.0
    batch_rows: int = 0
    batch_delay_s: float = 0.002


class Scoring:
    """Runs user code for requests."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.taken = 0  # requests that wait or run
        self._threaded = 0
        self._average_s: dict[int, float] = {}
        self._threads = ThreadPoolExecutor(limits.threads, thread_name_prefix="scoring")
        self._batches: dict[tuple[int, str, tuple[str, ...] | int], _Batch] = {}
        self.last_s = 0.0

    async def call(self, key: object, function: Callable[[], T]) -> tuple[T, float]:
        """Call user code; returns its value and its seconds.

        Raises: Busy, TimedOut; ScriptFailed for whatever it raised, but a Problem as it is.
        """
        if self.taken >= self.limits.queue:
            raise Busy(f"{self.taken} requests wait already, the most that queue = {self.limits.queue} lets", limit="queue")
        self.taken += 1
        try:
            if not self._threaded and self._average_s.get(id(key), QUICK_S) < QUICK_S:
                value, seconds, own_s = _timed(function)
            else:
                value, seconds, own_s = await self._in_thread(function)
        except Problem:
            raise
        except Exception as error:  # the edge where a request's user code ends
            log.error("score.py raised %s: %s", type(error).__name__, error, exc_info=error)
            raise ScriptFailed("An unexpected error occurred in scoring script. Check the logs for more info.") from error
        finally:
            self.taken -= 1
        former = self._average_s.get(id(key), own_s)
        self._average_s[id(key)] = MEMORY * former + (1 - MEMORY) * own_s
        return value, seconds

    async def _in_thread(self, function: Callable[[], T]) -> tuple[T, float, float]:
        self._threaded += 1
        future = self._threads.submit(_timed, function)
        future.add_done_callback(lambda _: self._one_less())
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), self.limits.timeout_s)
        except TimeoutError:
            if not future.done():
                future.cancel()
                raise TimedOut(f"Scoring timeout after {self.limits.timeout_s * 1000:.0f} ms", limit="timeout_s") from None
            raise

    def _one_less(self) -> None:
        self._threaded -= 1

    async def predict(self, script: Script, rows: Rows, method: str) -> tuple[Any, float]:
        """Score rows, together with those of other requests where batching is on."""
        if not self.limits.batch_rows or not script.batches or len(rows) >= self.limits.batch_rows:
            return await self.call(script, lambda: script.predict(rows, method))
        kind = tuple(map(str, rows.columns)) if isinstance(rows, pd.DataFrame) else rows.shape[1]
        key = (id(script), method, kind)
        batch = self._batches.get(key)
        if batch is None:
            batch = self._batches[key] = _Batch()
            asyncio.get_running_loop().call_later(self.limits.batch_delay_s, self._flush, key, batch, script, method)
        place = batch.add(rows)
        if batch.count >= self.limits.batch_rows:
            self._flush(key, batch, script, method)
        scores, seconds = await asyncio.shield(batch.done)
        return scores[place], seconds

    def _flush(self, key: tuple[int, str, tuple[str, ...] | int], batch: _Batch, script: Script, method: str) -> None:
        if self._batches.get(key) is not batch:
            return
        del self._batches[key]
        batch.task = asyncio.ensure_future(self._run_batch(batch, script, method))

    async def _run_batch(self, batch: _Batch, script: Script, method: str) -> None:
        try:
            rows = batch.together()
            scores, seconds = await self.call(script, lambda: _per_row(script.predict(rows, method), len(rows)))
            batch.done.set_result((scores, seconds))
        except Exception as error:  # each of the batch's requests answers with it
            batch.done.set_exception(error)
            batch.done.exception()

    def close(self) -> None:
        """End the threads; a call in progress is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class _Batch:
    """Rows of several requests on their way to one call."""

    def __init__(self) -> None:
        self.parts: list[Rows] = []
        self.count = 0
        self.done: asyncio.Future[tuple[Any, float]] = asyncio.get_running_loop().create_future()
        self.task: asyncio.Future[None] | None = None

    def add(self, rows: Rows) -> slice:
        """Add a request's rows; returns where their scores will be."""
        place = slice(self.count, self.count + len(rows))
        self.parts.append(rows)
        self.count += len(rows)
        return place

    def together(self) -> Rows:
        """Return all rows in one piece."""
        if len(self.parts) == 1:
            return self.parts[0]
        if isinstance(self.parts[0], pd.DataFrame):
            return pd.concat(self.parts, ignore_index=True)
        return np.concatenate(self.parts)


def _per_row(scores: Any, count: int) -> Any:
    """Return scores that can be cut by rows."""
    if isinstance(scores, pd.DataFrame):
        scores = scores.to_numpy()
    array = np.asarray(scores)
    if array.shape[:1] != (count,):
        raise ValueError(f"predict() must return one score a row to be batched, got shape {array.shape} for {count} rows")
    return array


def _timed(function: Callable[[], T]) -> tuple[T, float, float]:
    """Call; returns the value, the seconds that passed, and those of them that are the function's own."""
    before = resource.getrusage(resource.RUSAGE_THREAD)
    began = time.perf_counter()
    value = function()
    seconds = time.perf_counter() - began
    if seconds < QUICK_S:
        return value, seconds, seconds
    after = resource.getrusage(resource.RUSAGE_THREAD)
    did_wait = after.ru_nvcsw != before.ru_nvcsw
    spent = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return value, seconds, seconds if did_wait else spent
