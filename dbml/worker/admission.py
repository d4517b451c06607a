"""Admission: how many scripts run at once, and how many may wait.

First come, first served.  A call that comes from a backend which has a script already, because an input query of that
script calls another, does not wait: the outer one would wait for it for ever.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque

from dbml import errors


class Admission:
    """Counts the scripts of one worker.

    running: most that run at once; scripts: most that run or wait.
    """

    def __init__(self, running: int, scripts: int) -> None:
        self.most_running = running
        self.most_scripts = scripts
        self._inside: Counter[int] = Counter()  # by backend
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def running(self) -> int:
        """Return how many run."""
        return self._inside.total()

    @property
    def waiting(self) -> int:
        """Return how many wait."""
        return len(self._waiting)

    def ask(self, backend: int) -> asyncio.Future[None] | None:
        """Let a script of a backend in, or return what is done when its turn has come.

        Raises: errors.TooManyScripts.
        """
        if not self._inside[backend]:
            if self.running + self.waiting >= self.most_scripts:
                raise errors.TooManyScripts(
                    f"too many scripts: max_scripts = {self.most_scripts} run or wait already",
                    detail={
                        "limit": "max_scripts", "value": self.most_scripts, "running": self.running, "waiting": self.waiting,
                    },
                    hint="repeat the call later, or start the worker with a larger --max-scripts",
                )  # fmt: skip
            if self.running >= self.most_running:
                turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._waiting.append((backend, turn))
                return turn
        self._inside[backend] += 1
        return None

    def leave(self, backend: int, turn: asyncio.Future[None] | None) -> None:
        """Take note that a script has ended, or waits no longer; turn: what `ask` returned."""
        if turn is not None and not turn.done():
            self._waiting.remove((backend, turn))
            return
        self._inside[backend] -= 1
        self._inside += Counter()  # forgets those at zero
        while self._waiting and self.running < self.most_running:
            next_, called = self._waiting.popleft()
            self._inside[next_] += 1
            called.set_result(None)
