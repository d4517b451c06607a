"""Turns: who may go on now, so that a role that asks often, or for long, does not keep the others waiting."""

from __future__ import annotations

import asyncio
from collections import Counter, deque


class Turns:
    """So many turns at once: first come first served within a role, and one of each role after the other.

    Beyond them a role that has none gets one at once, while fewer than most are taken: what a role's turns do may take for
    ever, and no other role waits for it.
    """

    def __init__(self, count: int, most: int) -> None:
        self._count = count
        self._most = most
        self._taken: Counter[str] = Counter()  # by role
        self._busy = 0
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}  # by role, the one whose turn is next in front

    async def acquire(self, role: str) -> None:
        """Wait for the role's turn; whoever has it must release it."""
        if self._may_go(role) and role not in self._waiting:
            self._take(role)
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(role, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it was called in the same moment
                self.release(role)
            raise

    def release(self, role: str) -> None:
        """Let the next role's first have it."""
        self._busy -= 1
        self._taken[role] -= 1
        if not self._taken[role]:
            del self._taken[role]
        for other in list(self._waiting):
            if self._may_go(other) and self._call(other):
                return

    def _may_go(self, role: str) -> bool:
        return self._busy < (self._most if not self._taken[role] else self._count)

    def _take(self, role: str) -> None:
        self._busy += 1
        self._taken[role] += 1

    def _call(self, role: str) -> bool:
        """Give a turn to the role's first who still waits; False where nobody does."""
        queue = self._waiting.pop(role)
        while queue:
            turn = queue.popleft()
            if not turn.done():  # else whoever waited is gone
                if queue:
                    self._waiting[role] = queue  # behind the others
                self._take(role)
                turn.set_result(None)
                return True
        return False
