"""Admission: how many scripts run at once, who is next, and how many may wait.

Fair between roles: where there is room, the role that runs the fewest processes is next, and of its scripts the first
of the pool in which it runs the fewest; among equals, who was served longest ago.  So a role with one script does not
wait behind the sixty of another.  A role that holds more than its share of the places gives up its newest waiting script
where another role finds none left.

A call that comes from a backend which has a script already, because an input query of that script calls another, does
not wait: the outer one would wait for it for ever.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass

from dbml import errors

MOST_NESTED = 16  # calls of one backend, each in an input query of the one before


@dataclass(frozen=True)
class Applicant:
    """Who wants to run a script: a backend, its role, the pool with its concurrency (None is no limit), and processes."""

    backend: int
    role: str = ""
    pool: str = "default"
    concurrency: int | None = None
    processes: int = 1


class Turn:
    """The place of one script.

    called: done when it may run, failed when it may not after all; None where it did not have to wait.
    processes: how many it may have, known when it may run.
    """

    def __init__(self, applicant: Applicant) -> None:
        self.applicant = applicant
        self.called: asyncio.Future[None] | None = None
        self.processes = 0
        self.inside = False
        self.since = time.monotonic()

    @property
    def key(self) -> tuple[str, str]:
        """Return its queue: role and pool."""
        return self.applicant.role, self.applicant.pool


class Admission:
    """Counts the scripts of one worker.

    running: most that run at once; of_role: most of one role; scripts: most that run or wait; share: of them, what a
    role may hold where others want in.
    """

    def __init__(self, running: int, scripts: int, *, of_role: int | None = None, share: float = 0.5) -> None:
        self.most_running = running
        self.most_scripts = scripts
        self.most_of_role = of_role
        self._fair_scripts = max(1, int(scripts * share))
        self._backends: Counter[int] = Counter()  # scripts inside, by backend
        self._scripts: Counter[tuple[str, str]] = Counter()  # inside, by role and pool
        self._processes: Counter[tuple[str, str]] = Counter()  # of those
        self._queues: dict[tuple[str, str], deque[Turn]] = {}
        self._served: dict[str | tuple[str, str], int] = {}  # role, or role and pool -> when it was called last, counted
        self._calls = 0
        self._concurrency: dict[str, int | None] = {}  # by pool, as the latest call has it

    @property
    def running(self) -> int:
        """Return how many run."""
        return self._scripts.total()

    @property
    def waiting(self) -> int:
        """Return how many wait."""
        return sum(map(len, self._queues.values()))

    def by_pool(self) -> dict[str, tuple[int, int]]:
        """Return how many run and wait in each pool that is in use."""
        running: Counter[str] = Counter()
        waiting: Counter[str] = Counter()
        for (_, pool), count in self._scripts.items():
            running[pool] += count
        for (_, pool), queue in self._queues.items():
            waiting[pool] += len(queue)
        return {pool: (running[pool], waiting[pool]) for pool in sorted({*running, *waiting})}

    def ask(self, applicant: Applicant) -> Turn:
        """Let a script in, or give it a place in the queue.

        Raises: errors.TooManyScripts.
        """
        turn = Turn(applicant)
        nested = self._backends[applicant.backend]
        if nested:
            if nested >= MOST_NESTED:
                raise errors.TooManyScripts(
                    f"too many scripts: {MOST_NESTED} calls are nested in each other's input queries already",
                    detail={"limit": "nested", "value": MOST_NESTED, "pool": applicant.pool},
                    hint="keep the result of an inner call in a temporary table, and read that",
                )
            self._let_in(turn)
            return turn
        if self.running + self.waiting >= self.most_scripts and not self._make_room(applicant.role):
            raise self._full(applicant)
        self._concurrency[applicant.pool] = applicant.concurrency
        self._queues.setdefault(turn.key, deque()).append(turn)
        self._call_next()
        if not turn.inside:
            turn.called = asyncio.get_running_loop().create_future()
        return turn

    def leave(self, turn: Turn) -> None:
        """Take note that a script has ended, or waits no longer; may be called again."""
        if turn.inside:
            turn.inside = False
            self._backends[turn.applicant.backend] -= 1
            self._scripts[turn.key] -= 1
            self._processes[turn.key] -= turn.processes
            # Forget those at zero.
            self._backends, self._scripts, self._processes = +self._backends, +self._scripts, +self._processes
        elif turn in (queue := self._queues.get(turn.key, deque())):
            self._unqueue(queue, turn)
        self._call_next()
        used = {pool for _, pool in (*self._scripts, *self._queues)}
        self._concurrency = {pool: most for pool, most in self._concurrency.items() if pool in used}
        if not self._queues:
            self._served.clear()

    def positions(self) -> dict[Turn, int]:
        """Return the order, from 1, in which those who wait would be called if one place after the other became free."""
        heads = {key: deque(queue) for key, queue in self._queues.items()}
        processes, served, calls = Counter(self._processes), dict(self._served), self._calls
        order: dict[Turn, int] = {}
        while heads:
            key = min(heads, key=lambda key: _rank(heads[key][0], processes, served))
            turn = heads[key].popleft()
            if not heads[key]:
                del heads[key]
            processes[key] += 1
            calls += 1
            served[turn.applicant.role] = served[key] = calls
            order[turn] = len(order) + 1
        return order

    # -- who is next ---------------------------------------------------------------------------------------------

    def _call_next(self) -> None:
        """Call those who wait, as long as there is room for one."""
        while self._queues and self.running < self.most_running:
            able = [queue[0] for queue in self._queues.values() if self._has_room(queue[0])]
            if not able:
                return
            turn = min(able, key=lambda turn: _rank(turn, self._processes, self._served))
            self._unqueue(self._queues[turn.key], turn)
            self._calls += 1
            self._served[turn.applicant.role] = self._served[turn.key] = self._calls
            self._let_in(turn)
            if turn.called is not None:
                turn.called.set_result(None)

    def _has_room(self, turn: Turn) -> bool:
        role, pool = turn.key
        if self.most_of_role is not None:
            of_role = sum(count for (other, _), count in self._scripts.items() if other == role)
            if of_role >= self.most_of_role:
                return False
        most = self._concurrency.get(pool)
        return most is None or self._in_pool(pool) < most

    def _in_pool(self, pool: str) -> int:
        return sum(count for (_, other), count in self._processes.items() if other == pool)

    def _let_in(self, turn: Turn) -> None:
        wanted, most = turn.applicant.processes, turn.applicant.concurrency
        # As many as are free, not as many as it would like: it would wait for ever behind smaller ones.
        turn.processes = wanted if most is None else max(1, min(wanted, most - self._in_pool(turn.applicant.pool)))
        turn.inside = True
        self._backends[turn.applicant.backend] += 1
        self._scripts[turn.key] += 1
        self._processes[turn.key] += turn.processes

    def _unqueue(self, queue: deque[Turn], turn: Turn) -> None:
        queue.remove(turn)
        if not queue:
            del self._queues[turn.key]

    # -- who is refused ------------------------------------------------------------------------------------------

    def _make_room(self, role: str) -> bool:
        """Take a place from the role that holds more than its share, if there is one, for a role that does not."""
        held: Counter[str] = Counter()
        for (other, _), count in self._scripts.items():
            held[other] += count
        for (other, _), queue in self._queues.items():
            held[other] += len(queue)
        if held[role] >= self._fair_scripts:
            return False
        for greedy, count in held.most_common():
            if greedy == role or count <= self._fair_scripts:
                continue
            waiting = [queue[-1] for (other, _), queue in self._queues.items() if other == greedy]
            if waiting:
                newest = max(waiting, key=lambda turn: turn.since)
                self._unqueue(self._queues[newest.key], newest)
                assert newest.called is not None
                newest.called.set_exception(self._full(newest.applicant))
                return True
        return False

    def _full(self, applicant: Applicant) -> errors.TooManyScripts:
        return errors.TooManyScripts(
            f"too many scripts: max_scripts = {self.most_scripts} run or wait already",
            detail={
                "limit": "max_scripts", "value": self.most_scripts, "running": self.running, "waiting": self.waiting,
                "pool": applicant.pool,
            },
            hint="repeat the call later, or start the worker with a larger --max-scripts",
        )  # fmt: skip


def _rank(
    turn: Turn, processes: Counter[tuple[str, str]], served: Mapping[str | tuple[str, str], int]
) -> tuple[int, int, int, int, float]:
    """Return what orders those who wait: the least comes first."""
    role = turn.applicant.role
    of_role = sum(count for (other, _), count in processes.items() if other == role)
    return of_role, served.get(role, 0), processes[turn.key], served.get(turn.key, 0), turn.since
