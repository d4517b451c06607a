"""Scorers: the processes that keep loaded models, shared by every connection.

A scorer answers one request at a time, of the roles that wait for it one after the other.  Models are known by the
SHA-256 of their bytes, so nothing has to be invalidated: another version has another digest, and SQL, which looked the
version up in the caller's snapshot, sends the bytes along when a scorer answers that it needs them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import IO, Any

from dbml import errors
from dbml.worker.processes import Child, ChildLost, Zygote
from dbml.worker.sandbox import Limits
from dbml.worker.space import room_for
from dbml.worker.turns import FairLock

log = logging.getLogger("dbml.scorers")

Frame = tuple[dict[str, Any], bytes]
PART_BYTES = 1 << 20
PICKLE: Mapping[str, Any] = {"format": "pickle", "policy": None}  # how a model is loaded where nothing is said


class ModelNeeded(Exception):
    """The scorer that was asked does not hold the model's bytes."""


class Scorer:
    """One scorer process, started when first asked and again after it died."""

    def __init__(self, zygote: Zygote, limits: Limits) -> None:
        self._zygote = zygote
        self._limits = limits
        self._child: Child | None = None
        self.lock = FairLock()
        self.known: dict[str, dict[str, Any]] = {}  # digest -> what the model takes and gives

    @property
    def pid(self) -> int | None:
        """Return the process id, None while there is none."""
        return self._child.pid if self._child is not None else None

    async def start(self) -> None:
        """Start the process.

        Raises: ScorerLost; LimitExceeded where the disk is full.
        """
        try:
            with room_for("a scorer's directory"):
                self._child = await self._zygote.fork("scorer", self._limits)
        except (ChildLost, TimeoutError) as lost:
            raise errors.ScorerLost(
                f"no scorer could be started: {lost}", hint="repeat the call; the worker's log says why"
            ) from None

    def stop(self) -> None:
        """Kill the process; the next request starts another, which knows no model."""
        if self._child is not None:
            self._child.kill()
        self._child = None
        self.known.clear()

    async def exchange(self, frames: list[Frame]) -> Frame:
        """Send frames and wait for the one answer; the caller holds the lock.

        A caller that goes away while the process works takes the process with it: nothing else would stop a
        prediction that does not end.
        """
        try:
            child = await self._tell(frames)
            answer, body = await child.receive()
        except (ChildLost, ConnectionError) as lost:
            self.stop()
            raise errors.ScorerLost(
                f"the scorer died while it scored: {lost}",
                hint="the next call starts another; if it dies again, the model does it: try run.load_model in a script",
            ) from None
        except asyncio.CancelledError:
            self.stop()
            raise
        if answer["tag"] == "error":
            raise errors.from_fields(answer)
        return answer, body

    async def _tell(self, frames: list[Frame]) -> Child:
        """Send frames to the process; one that died while it had nothing to do is nobody's error."""
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
    """Deals requests out to scorers: to an idle one that holds the model, where there is one."""

    def __init__(self, zygote: Zygote, limits: Limits, count: int) -> None:
        self._zygote = zygote
        self._scorers = [Scorer(zygote, limits) for _ in range(count)]

    async def start(self) -> None:
        """Start the first process when its zygote has everything to share; the others start when they are needed."""
        await self._zygote.warm.wait()
        first = self._scorers[0]
        await first.lock.acquire("")
        try:
            if first.pid is None:
                await first.start()
        finally:
            first.lock.release()

    def stop(self) -> None:
        """Kill all processes."""
        for scorer in self._scorers:
            scorer.stop()

    def pids(self) -> list[int]:
        """Return the ids of the running processes."""
        return [scorer.pid for scorer in self._scorers if scorer.pid is not None]

    def choose(self, digest: str) -> Scorer:
        """Choose a scorer for a model."""
        holding = [scorer for scorer in self._scorers if digest in scorer.known]
        for scorer in (*holding, *self._scorers):
            if not scorer.lock.locked():
                return scorer
        return holding[0] if holding else self._scorers[int(digest[:8], 16) % len(self._scorers)]

    async def describe(
        self, digest: str, upload: IO[bytes] | None, role: str = "", loading: Mapping[str, Any] = PICKLE
    ) -> dict[str, Any]:
        """Return what a model takes and gives: features, n_features, prediction, classes, has_proba.

        upload: the model's bytes from the start, where SQL has sent them; role: whose turn is waited for; loading: the
        model's format and its workspace's policy.
        Raises: ModelNeeded; errors.ModelLoadError; errors.ScorerLost.
        """
        scorer = self.choose(digest)
        await scorer.lock.acquire(role)
        try:
            return await self._known(scorer, digest, upload, loading)
        finally:
            scorer.lock.release()

    async def score(
        self, digest: str, head: dict[str, Any], body: bytes, upload: IO[bytes] | None = None, role: str = ""
    ) -> Frame:
        """Score one request with a model; errors as `describe`, and errors.PredictionError."""
        scorer = self.choose(digest)
        await scorer.lock.acquire(role)
        try:
            if upload is not None:
                await self._known(scorer, digest, upload, {name: head.get(name) or PICKLE[name] for name in PICKLE})
            answer, scores = await scorer.exchange([(head, body)])
            if answer["tag"] == "need":
                scorer.known.pop(digest, None)
                raise ModelNeeded(digest)
            return answer, scores
        finally:
            scorer.lock.release()

    async def _known(self, scorer: Scorer, digest: str, upload: IO[bytes] | None, loading: Mapping[str, Any]) -> dict[str, Any]:
        answer, _ = await scorer.exchange([({"tag": "describe", "digest": digest, **loading}, b"")])
        if answer["tag"] == "need":
            scorer.known.pop(digest, None)
            if upload is None:
                raise ModelNeeded(digest)
            upload.seek(0)
            frames: list[Frame] = [({"tag": "load", "digest": digest, **loading}, b"")]
            # The frames are sent one by one below; a model's bytes are in the spool, not in memory.
            answer = await self._load(scorer, frames, upload)
        scorer.known[digest] = answer
        return answer

    async def _load(self, scorer: Scorer, frames: list[Frame], upload: IO[bytes]) -> dict[str, Any]:
        while part := upload.read(PART_BYTES):
            frames.append(({"tag": "part"}, part))
        frames.append(({"tag": "end"}, b""))
        answer, _ = await scorer.exchange(frames)
        return answer
