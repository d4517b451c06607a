"""The watch: holds against a script, or a model, what all its processes take together; the kernel holds it against each alone.

RLIMIT_DATA, RLIMIT_CPU and RLIMIT_FSIZE are a process' own, RLIMIT_NPROC is the account's and nothing to root.  So four
times a second the trees of the running satellites are looked at, in a thread, and a script that is over a limit of its
pool is stopped.  A single process meets its own limit first, and can say where in the script that was.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable
from typing import Protocol

from dbml import errors
from dbml.worker.pools import Pool
from dbml.worker.processes import Child
from dbml.worker.sandbox.limits import INTERPRETER_MB
from dbml.worker.usage import directory_bytes, is_full, own_kb, usage_of_tree, written_kb

log = logging.getLogger("dbml.watch")

LOOK_S = 0.2
CPU_GRACE_S = 1.0  # a satellite has prepared itself before its call, and is to speak first
IDLE_CPU_S, IDLE_LOOK_S = 2.0, 60.0  # processor time of a model that nobody asks, and within which time
SMALLEST_PART = 0.05  # of the time that a large directory's files may be counted


class Watched:
    """One satellite, from its call on; or a scorer, then what is the process: "the model"."""

    def __init__(self, child: Child, pool: Pool, language: str, what: str = "the script") -> None:
        self._what = what
        self.memory_mb = 0.0  # that its processes have written, each for itself, as of the last look
        self.cpu_seconds = 0.0
        self._pid = child.pid
        self._files = child.files
        self._scratch = f"/proc/{child.pid}/root{child.scratch}"  # where it is a file system of its own
        self._pool = pool
        self._zygote = child.zygote
        self._leaf = child.leaf
        self._beside_kb, self._beside = INTERPRETER_MB.get(language, 0) << 10, int(language in INTERPRETER_MB)
        self._count_files_at = 0.0

    def look(self) -> errors.LimitExceeded | None:
        """Return the limit that is exceeded now; reads files, for milliseconds."""
        limits, pool = self._pool.limits, self._pool
        if self._leaf is not None and self._leaf.oom_kills:
            return over_memory(pool, self._what)
        taken = usage_of_tree(self._pid)
        self.memory_mb = max(0.0, taken.memory_mb - written_kb(self._zygote) / 1024)
        self.cpu_seconds = taken.cpu_seconds
        if limits.cpu_seconds is not None and taken.cpu_seconds > limits.cpu_seconds + CPU_GRACE_S:
            return pool.exceeded("cpu_seconds", f"{self._what} used more processor time than {{}} allows")
        # Of threads those of linear algebra are not the script's own.
        if limits.processes is not None and taken.tasks - 1 - self._beside - limits.threads > limits.processes:
            return pool.exceeded("processes", f"{self._what} has more processes and threads than {{}} allows", tasks=taken.tasks)
        if limits.memory_mb is not None and self._leaf is None:
            inherited_kb = written_kb(self._zygote) + self._beside_kb
            if taken.memory_mb * 1024 - inherited_kb > limits.memory_mb << 10:
                written = own_kb(self._pid, self._zygote) - self._beside_kb
                if written > limits.memory_mb << 10:
                    return over_memory(pool, self._what, together_mb=written >> 10, processes=taken.processes)
        return self._look_at_files()

    def _look_at_files(self) -> errors.LimitExceeded | None:
        began = time.monotonic()
        if self._files is None:
            return (
                self._pool.exceeded("scratch_mb", f"{self._what}'s files need all that {{}} allows")
                if is_full(self._scratch)
                else None
            )
        if began < self._count_files_at:
            return None
        most = self._pool.limits.scratch_mb << 20
        size = directory_bytes(self._files, most)
        self._count_files_at = time.monotonic() + (time.monotonic() - began) / SMALLEST_PART
        if size > most:
            return self._pool.exceeded("scratch_mb", f"{self._what}'s files are larger than {{}} allows")
        return None


class Idler(Watched):
    """One scorer: a model that nobody asks has nothing to compute.

    uses: how often it was asked, None while it is asked.
    """

    def __init__(self, child: Child, pool: Pool, uses: Callable[[], int | None]) -> None:
        super().__init__(child, pool, "python", "the model")
        self._uses = uses
        self._since: tuple[int, float, float] | None = None  # asked so often, when that was seen, its time until then

    def look(self) -> errors.LimitExceeded | None:
        """Return the limit that is exceeded now, or that a model computes while nobody asks it."""
        before = self._uses()
        found = super().look()
        now, uses = time.monotonic(), self._uses()
        if uses is None or uses != before:
            self._since = None
        elif self._since is None or self._since[0] != uses or now - self._since[1] > IDLE_LOOK_S:
            self._since = (uses, now, self.cpu_seconds)
        elif found is None and self.cpu_seconds - self._since[2] > IDLE_CPU_S:
            return errors.LimitExceeded(
                f"the model computes while nobody asks it, more than {IDLE_CPU_S:g} s",
                detail={"limit": "idle_cpu_seconds", "value": IDLE_CPU_S},
            )
        return found


def over_memory(pool: Pool, what: str = "the script", **detail: int) -> errors.LimitExceeded:
    """Make the error for a script or a model whose processes need too much memory."""
    return pool.exceeded("memory_mb", f"{what} needs more memory than {{}} allows", **detail)


class Subject(Protocol):
    """A script that runs, or a scorer."""

    def watched(self) -> Iterable[Watched]:
        """Return its satellites."""

    def stop(self, error: errors.DbmlError) -> None:
        """Stop it; its caller gets the error."""


class Watch:
    """Looks after the scripts and the scorers of a worker."""

    def __init__(self, subjects: Callable[[], Iterable[Subject]]) -> None:
        self._subjects = subjects
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.create_task(self._go_round())

    async def stop(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _go_round(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            for subject in list(self._subjects()):
                satellites = list(subject.watched())
                if not satellites:
                    continue
                try:
                    found = await asyncio.to_thread(_look_at, satellites)
                except Exception:  # what cannot be seen is not held against anybody, and the others are looked at
                    log.exception("a process could not be watched")
                    continue
                if found is not None:
                    subject.stop(found)


def _look_at(satellites: list[Watched]) -> errors.LimitExceeded | None:
    return next((found for satellite in satellites if (found := satellite.look()) is not None), None)
