"""Scorers: the processes that keep loaded models, shared by every connection.

A process holds one model and no other: a model is code of whoever made it, and could change what is loaded beside it, or
look at it.  Models are known by the SHA-256 of their bytes, so nothing has to be invalidated: another version has another
digest, and SQL, which looked the version up in the caller's snapshot, sends the bytes along when it is told that they are
needed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import IO, Any

from dbml import errors
from dbml.worker.pools import Pool
from dbml.worker.processes import Child, Zygote
from dbml.worker.sandbox import Limits
from dbml.worker.space import room_for
from dbml.worker.turns import Turns
from dbml.worker.watch import Idler, Watched
from dbml.worker.zygote_process import ChildLost

log = logging.getLogger("dbml.scorers")

Frame = tuple[dict[str, Any], bytes]
PART_BYTES = 1 << 20
MOST_PROCESSES = 32
IDLE_LOOKS_S = 1.0
PICKLE: Mapping[str, Any] = {"format": "pickle", "policy": None}  # how a model is loaded where nothing is said


class ModelNeeded(Exception):
    """The scorer that was asked does not hold the model's bytes."""


class Scorer:
    """One scorer process, started when first asked and again after it died.

    key: of the one model that it may hold; None while it was only made ahead.  holds: whether it has loaded it.
    """

    def __init__(self, zygote: Zygote, limits: Limits) -> None:
        self._zygote = zygote
        self._limits = limits
        self._child: Child | None = None
        self._watched: list[Idler] = []
        self._verdict: errors.DbmlError | None = None
        self.key: str | None = None
        self.holds = False
        self.size = 0  # of the model's bytes
        self.busy = False
        self._uses = 0
        self._looked_at = 0.0

    @property
    def pid(self) -> int | None:
        """Return the process id, None while there is none."""
        return self._child.pid if self._child is not None and not self._child.is_over else None

    @property
    def memory_mb(self) -> float:
        """Return the memory that it has written, as of the last look."""
        return max((watched.memory_mb for watched in self._watched), default=0.0)

    async def start(self) -> None:
        """Start the process.

        Raises: ScorerLost; LimitExceeded where the disk is full.
        """
        try:
            with room_for("a scorer's directory"):
                child = await self._zygote.fork("scorer", self._limits)
        except (ChildLost, TimeoutError) as lost:
            raise errors.ScorerLost(
                f"no scorer could be started: {lost}", hint="repeat the call; the worker's log says why"
            ) from None
        child.zygote = self._zygote.pid or 0
        self._child = child
        pool = Pool("scorers", replace(self._limits, cpu_seconds=None))
        self._watched = [Idler(child, pool, lambda: None if self.busy else self._uses)]

    def stop(self, error: errors.DbmlError | None = None) -> None:
        """Kill the process; the next request starts another, which holds no model.  error: what a caller who waits gets."""
        if self._child is not None:
            self._child.kill()
        if error is not None:
            log.warning("a scorer was stopped: %s", error)
            if self.busy:
                detail = {key: value for key, value in error.detail.items() if key != "pool"}
                hint = "SELECT scorers, sandbox FROM dbml.worker_status"
                self._verdict = errors.LimitExceeded(str(error), detail=detail, hint=hint)
                return  # whoever waits for it hears of its end
        self._child = None
        self._watched = []
        self.holds, self.size = False, 0

    def watched(self) -> Iterable[Watched]:
        """Return what is to be looked at: while nobody waits for it, now and then."""
        now = time.monotonic()
        if self._child is None or self._child.is_over or (not self.busy and now < self._looked_at + IDLE_LOOKS_S):
            return []
        self._looked_at = now
        return self._watched

    async def exchange(self, frames: list[Frame]) -> Frame:
        """Send frames and wait for the one answer; for one caller at a time.

        A caller that goes away while the process works takes the process with it: nothing else would stop a
        prediction that does not end.
        """
        self._uses += 1
        try:
            child = await self._tell(frames)
            answer, body = await child.receive()
        except (ChildLost, ConnectionError) as lost:
            self.stop()
            raise self._take_verdict() or errors.ScorerLost(
                f"the scorer died while it scored: {lost}",
                hint="the next call starts another; if it dies again, the model does it: try run.load_model in a script",
            ) from None
        except asyncio.CancelledError:
            self.stop()
            raise
        if answer["tag"] == "error":
            raise errors.from_fields(answer)
        return answer, body

    def _take_verdict(self) -> errors.DbmlError | None:
        """Return why the watch stopped the process, once."""
        verdict, self._verdict = self._verdict, None
        return verdict

    async def _tell(self, frames: list[Frame]) -> Child:
        """Send frames to the process; one that died while it had nothing to do is nobody's error."""
        self._verdict = None
        while True:
            if self._child is not None and self._child.is_over:
                self.stop()
            idle = self._child is not None
            if self._child is None:
                await self.start()
            child = self._child
            assert child is not None
            try:
                for head, body in frames:
                    await child.send(head, body)
            except ConnectionError:  # its end is heard of later than its socket closes
                if not idle:
                    raise
                self.stop()
            else:
                return child


class ScorerPool:
    """Deals requests out to scorers: to an idle one that holds the model, where there is one.

    count: requests that are scored at once, roles in turn; a role that has none in work does not wait for the others'.
    most: processes; beyond it, and beyond cache_mb and memory_mb times count, the least recently used one is ended.
    """

    def __init__(self, zygote: Zygote, limits: Limits, count: int, most: int = MOST_PROCESSES) -> None:
        self._zygote = zygote
        self._limits = limits
        self._count = count
        self._most = max(most, count + 2)
        self._turns = Turns(count, self._most - 1)  # the one that is made ahead is busy meanwhile
        self._scorers: list[Scorer] = []  # the least recently used first
        self._ahead: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start a process ahead when its zygote has everything to share."""
        await self._zygote.warm.wait()
        if not self._scorers:
            await self._fork_ahead()

    def stop(self) -> None:
        """Kill all processes."""
        if self._ahead is not None:
            self._ahead.cancel()
        for scorer in self._scorers:
            scorer.stop()

    def pids(self) -> list[int]:
        """Return the ids of the running processes."""
        return [scorer.pid for scorer in self._scorers if scorer.pid is not None]

    def scorers(self) -> list[Scorer]:
        """Return all there are, which are watched like scripts."""
        return list(self._scorers)

    async def describe(
        self, digest: str, upload: IO[bytes] | None, role: str = "", loading: Mapping[str, Any] = PICKLE
    ) -> dict[str, Any]:
        """Return what a model takes and gives: features, n_features, prediction, classes, has_proba.

        upload: the model's bytes from the start, where SQL has sent them; role: whose turn is waited for; loading: the
        model's format and its workspace's policy.
        Raises: ModelNeeded; errors.ModelLoadError; errors.ScorerLost; errors.LimitExceeded.
        """
        self._look_for(digest, upload, loading)
        await self._turns.acquire(role)
        try:
            with self._using(_key(digest, loading)) as scorer:
                return await self._known(scorer, digest, upload, loading)
        finally:
            self._turns.release(role)

    async def score(
        self, digest: str, head: dict[str, Any], body: bytes, upload: IO[bytes] | None = None, role: str = ""
    ) -> Frame:
        """Score one request with a model; errors as `describe`, and errors.PredictionError."""
        loading = {name: head.get(name) or PICKLE[name] for name in PICKLE}
        self._look_for(digest, upload, loading)
        await self._turns.acquire(role)
        try:
            with self._using(_key(digest, loading)) as scorer:
                if upload is not None:
                    await self._known(scorer, digest, upload, loading)
                answer, scores = await scorer.exchange([(head, body)])
                if answer["tag"] == "need":
                    scorer.holds = False
                    raise ModelNeeded(digest)
                return answer, scores
        finally:
            self._turns.release(role)

    def _look_for(self, digest: str, upload: IO[bytes] | None, loading: Mapping[str, Any]) -> None:
        """Ask for the bytes of a model that no process holds before one is taken for it."""
        key = _key(digest, loading)
        if upload is None and not any(scorer.holds and scorer.key == key for scorer in self._scorers):
            raise ModelNeeded(digest)

    @contextlib.contextmanager
    def _using(self, key: str) -> Iterator[Scorer]:
        """Use a process for one model, an idle one that holds it or one that never held another."""
        scorer = self._take(key)
        scorer.busy = True
        try:
            yield scorer
        finally:
            scorer.busy = False
            self._make_room()

    def _take(self, key: str) -> Scorer:
        idle = [scorer for scorer in self._scorers if not scorer.busy]
        held = [scorer for scorer in idle if scorer.key == key]
        if held:
            scorer = max(held, key=lambda scorer: scorer.holds)
            self._scorers.remove(scorer)
        else:
            scorer = next((scorer for scorer in idle if scorer.key is None), None) or Scorer(self._zygote, self._limits)
            if scorer in self._scorers:
                self._scorers.remove(scorer)
            elif len(self._scorers) >= self._most:
                self._end(idle[0])
            scorer.key = key
            if self._ahead is None or self._ahead.done():
                self._ahead = asyncio.create_task(self._fork_ahead())
                self._ahead.add_done_callback(_take_note)
        self._scorers.append(scorer)
        return scorer

    async def _fork_ahead(self) -> None:
        """Start the process for the next model, unless there is one."""
        if any(scorer.key is None for scorer in self._scorers):
            return
        if len(self._scorers) >= self._most:
            idle = [scorer for scorer in self._scorers if not scorer.busy]
            if not idle:
                return
            self._end(idle[0])
        scorer = Scorer(self._zygote, self._limits)
        scorer.busy = True
        self._scorers.append(scorer)
        try:
            await scorer.start()
        except BaseException:
            self._end(scorer)
            raise
        finally:
            scorer.busy = False

    def _make_room(self) -> None:
        """End what was longest unused while all of them together hold too much."""
        most_bytes = self._count * self._limits.cache_mb << 20
        most_mb = None if self._limits.memory_mb is None else self._count * self._limits.memory_mb
        for scorer in list(self._scorers[:-1]):
            if sum(each.size for each in self._scorers) <= most_bytes and (
                most_mb is None or sum(each.memory_mb for each in self._scorers) <= most_mb
            ):
                return
            if not scorer.busy and scorer.key is not None:
                self._end(scorer)

    def _end(self, scorer: Scorer) -> None:
        scorer.stop()
        self._scorers.remove(scorer)

    async def _known(self, scorer: Scorer, digest: str, upload: IO[bytes] | None, loading: Mapping[str, Any]) -> dict[str, Any]:
        answer, _ = await scorer.exchange([({"tag": "describe", "digest": digest, **loading}, b"")])
        if answer["tag"] == "need":
            scorer.holds = False
            if upload is None:
                raise ModelNeeded(digest)
            upload.seek(0)
            try:
                answer = await self._load(scorer, [({"tag": "load", "digest": digest, **loading}, b"")], upload)
            except errors.DbmlError:
                scorer.stop()  # what does not load may have left something all the same
                raise
        scorer.holds = True
        return answer

    async def _load(self, scorer: Scorer, frames: list[Frame], upload: IO[bytes]) -> dict[str, Any]:
        # What the process sends before it has everything is an answer too: it is read when all is sent.
        while part := upload.read(PART_BYTES):
            frames.append(({"tag": "part"}, part))
        frames.append(({"tag": "end"}, b""))
        answer, _ = await scorer.exchange(frames)
        scorer.size = upload.tell()
        return answer


def _key(digest: str, loading: Mapping[str, Any]) -> str:
    """Return what a model is known by: the same bytes as a pickle and as data are two."""
    return f"{digest} {loading['format']}"


def _take_note(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.warning("%s", error)
