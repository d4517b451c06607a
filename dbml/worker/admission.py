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

    def check(self, backend: int) -> bool:
        """Tell whether a script of a backend would have to wait.

        Raises: errors.TooManyScripts.
        """
        if self._inside[backend]:
            return False
        if self.running + self.waiting >= self.most_scripts:
            raise errors.TooManyScripts(
                f"too many scripts: max_scripts = {self.most_scripts} run or wait already",
                detail={"limit": "max_scripts", "value": self.most_scripts, "running": self.running, "waiting": self.waiting},
                hint="repeat the call later, or start the worker with a larger --max-scripts",
            )
        return self.running >= self.most_running or bool(self._waiting)

    async def enter(self, backend: int) -> None:
        """Wait for the turn of a script; errors as `check`."""
        if not self.check(backend):
            self._inside[backend] += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((backend, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._waiting.remove((backend, turn))
            else:  # its turn came while it went away
                self.leave(backend)
            raise

    def leave(self, backend: int) -> None:
        """Take note that a script has ended."""
        self._inside[backend] -= 1
        self._inside += Counter()  # forgets those at zero
        while self._waiting and self.running < self.most_running:
            next_, turn = self._waiting.popleft()
            self._inside[next_] += 1
            turn.set_result(None)
