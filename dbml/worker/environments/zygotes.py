"""Which environments run now: a zygote and its scorers for each that is in use.

The default environment, the worker's own packages, always runs.  Of the others a worker runs so many at a time; the one
that was longest unused gives way, and one that nobody has used for a while is shut down.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Mapping
from typing import IO, Any

from dbml import errors
from dbml.worker.environments.builder import Builder, Reference
from dbml.worker.processes import Zygote
from dbml.worker.sandbox import Limits
from dbml.worker.scorers import PICKLE, Frame, Scorer, ScorerPool
from dbml.worker.zygote_process import ChildLost

log = logging.getLogger("dbml.environments")

QUIET_S = 1.0  # a query's prediction is between two of its chunks for less than this
PATIENCE_S = 30.0
LOOK_S = 0.05


class EnvironmentNeeded(Exception):
    """The environment that was asked for is not built on this machine; SQL has its lock."""


class Housing:
    """A running environment."""

    def __init__(self, reference: Reference, zygote: Zygote, scorers: ScorerPool) -> None:
        self.reference = reference
        self.zygote = zygote
        self.scorers = scorers
        self.users = 0
        self.used_at = time.monotonic()

    @property
    def idle_s(self) -> float:
        """Return the time since it was last used."""
        return time.monotonic() - self.used_at

    async def start(self) -> None:
        """Start its zygote, where it does not run.

        Raises: errors.EnvironmentBuildFailed.
        """
        try:
            await self.zygote.start()
        except (ChildLost, TimeoutError, OSError) as error:
            raise errors.EnvironmentBuildFailed(
                f"environment {self.reference} does not start: {error}", hint="the worker's log says why"
            ) from None

    async def stop(self) -> None:
        """End its processes."""
        self.scorers.stop()
        await self.zygote.stop()


class Lease:
    """The right to use a running environment until it is released."""

    def __init__(self, zygote: Zygote, housing: Housing | None = None) -> None:
        self.zygote = zygote
        self._housing = housing

    def release(self) -> None:
        """Give it back; may be called again."""
        housing, self._housing = self._housing, None
        if housing is not None:
            housing.users -= 1
            housing.used_at = time.monotonic()


class Zygotes:
    """The zygotes of a worker, by environment.

    most: running beside the default one; idle_s: after which an unused one is shut down.
    """

    def __init__(
        self, default: Zygote, builder: Builder, runtime: str, limits: Limits, scorer_limits: Limits, scorers: int,
        *, most: int, idle_s: float,
    ) -> None:  # fmt: skip
        self.builder = builder
        self._default = default
        self._runtime = runtime
        self._limits = limits
        self._scorer_limits = scorer_limits
        self._scorer_count = scorers
        self._most = most
        self._idle_s = idle_s
        self._housings: dict[str, Housing] = {}
        self._stopping: set[asyncio.Task[None]] = set()
        self._watch: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look after idle environments."""
        self.builder.prepare()
        self._watch = asyncio.create_task(self._shut_down_idle())

    async def stop(self) -> None:
        """End every environment but the default one, which is not ours to end."""
        if self._watch is not None:
            self._watch.cancel()
        await self.builder.stop()
        for key in list(self._housings):
            self._shut_down(key)
        while self._stopping:
            await asyncio.wait(self._stopping)

    def status(self) -> list[dict[str, Any]]:
        """Return what runs: environment, zygote's process, scorers' processes, calls."""
        return [
            {"environment": str(housing.reference), "lock_sha256": housing.reference.lock_sha256, "pid": housing.zygote.pid,
             "scorers": housing.scorers.pids(), "calls": housing.users} for housing in self._housings.values()
        ]  # fmt: skip

    def all_scorers(self) -> list[Scorer]:
        """Return the scorers of every environment that runs beside the default one."""
        return [scorer for housing in self._housings.values() for scorer in housing.scorers.scorers()]

    def pids(self) -> list[int]:
        """Return the processes of all zygotes that run."""
        zygotes = [self._default, *(housing.zygote for housing in self._housings.values())]
        return [zygote.pid for zygote in zygotes if zygote.pid is not None]

    def standby(self) -> int | None:
        """Return the process of the zygote that stands by, where there is one."""
        return self._default.standby

    def check(self, given: Mapping[str, Any] | None) -> None:
        """Make sure that an environment can be entered.

        Raises: EnvironmentNeeded where it must be built first.
        """
        if given is not None and not self.builder.is_built(reference := Reference.of(given)):
            raise EnvironmentNeeded(str(reference))

    async def enter(self, given: Mapping[str, Any] | None) -> Lease:
        """Return the right to use the environment that a request names, None for the default one.

        Raises: EnvironmentNeeded where it must be built first; errors.LimitExceeded where all that may run are in use;
        errors.EnvironmentBuildFailed where it does not start.
        """
        if given is None:
            return Lease(self._default)
        housing = await self._take(Reference.of(given))
        return Lease(housing.zygote, housing)

    def scorers(self, given: Mapping[str, Any]) -> EnvironmentScorers:
        """Return the scorers of an environment, which runs while one of them works."""
        return EnvironmentScorers(self, Reference.of(given))

    @contextlib.asynccontextmanager
    async def using(self, reference: Reference) -> AsyncIterator[Housing]:
        """Use an environment for a while; errors as `enter`."""
        housing = await self._take(reference)
        try:
            yield housing
        finally:
            Lease(housing.zygote, housing).release()

    async def _take(self, reference: Reference) -> Housing:
        key = self.builder.directory(reference).name
        housing = self._housings.get(key)
        if housing is None:
            if not self.builder.is_built(reference):
                raise EnvironmentNeeded(str(reference))
            await self._make_room(key)
            housing = self._housings.get(key)
            if housing is None:
                zygote = Zygote(
                    self._runtime, self._limits, self.builder.interpreter(reference), self.builder.sandbox,
                    cgroups=self._default.cgroups,
                )  # fmt: skip
                housing = Housing(reference, zygote, ScorerPool(zygote, self._scorer_limits, self._scorer_count))
                self._housings[key] = housing
                log.info("environment %s starts", reference)
        housing.users += 1
        try:
            await housing.start()
        except BaseException as error:
            Lease(housing.zygote, housing).release()
            if isinstance(error, errors.EnvironmentBuildFailed) and self._housings.get(key) is housing:
                self._shut_down(key)
            raise
        return housing

    async def _make_room(self, key: str) -> None:
        """Wait until one more may run; the longest unused one gives way.

        Raises: errors.LimitExceeded.
        """
        deadline = time.monotonic() + PATIENCE_S
        while key not in self._housings and len(self._housings) >= self._most:
            unused = {key: housing.idle_s for key, housing in self._housings.items() if not housing.users}
            longest = max(unused, key=lambda key: unused[key], default=None)
            if longest is not None and unused[longest] >= QUIET_S:
                self._shut_down(longest)
                return
            if time.monotonic() > deadline or not self._housings:
                raise errors.LimitExceeded(
                    f"no more than {self._most} environments may run at a time, and all of them are in use",
                    detail={"limit": "environments", "value": self._most},
                    hint="repeat the call later, or start the worker with more: dbml worker --environments N",
                )
            await asyncio.sleep(LOOK_S)

    def _shut_down(self, key: str) -> None:
        housing = self._housings.pop(key)
        log.info("environment %s is shut down", housing.reference)
        stopping = asyncio.create_task(housing.stop())
        self._stopping.add(stopping)
        stopping.add_done_callback(self._stopping.discard)

    async def _shut_down_idle(self) -> None:
        while True:
            await asyncio.sleep(min(self._idle_s / 4, 10.0) or LOOK_S)
            for key in [key for key, housing in self._housings.items() if not housing.users and housing.idle_s > self._idle_s]:
                self._shut_down(key)


class EnvironmentScorers:
    """The scorers of one environment, as `ScorerPool` is used by a call."""

    def __init__(self, zygotes: Zygotes, reference: Reference) -> None:
        self._zygotes = zygotes
        self._reference = reference

    async def describe(
        self, digest: str, upload: IO[bytes] | None, role: str = "", loading: Mapping[str, Any] = PICKLE
    ) -> dict[str, Any]:
        """Describe a model as `ScorerPool.describe`; raises EnvironmentNeeded too."""
        async with self._zygotes.using(self._reference) as housing:
            return await housing.scorers.describe(digest, upload, role, loading)

    async def score(
        self, digest: str, head: dict[str, Any], body: bytes, upload: IO[bytes] | None = None, role: str = ""
    ) -> Frame:
        """Score as `ScorerPool.score`; raises EnvironmentNeeded too."""
        async with self._zygotes.using(self._reference) as housing:
            return await housing.scorers.score(digest, head, body, upload, role)
