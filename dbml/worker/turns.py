"""Turns: a lock for which roles wait in turn, so that one that asks often does not keep the others waiting."""

from __future__ import annotations

import asyncio
from collections import deque


class FairLock:
    """A lock: first come first served within a role, and one of each role after the other."""

    def __init__(self) -> None:
        self._locked = False
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}  # by role, the one whose turn is next in front

    def locked(self) -> bool:
        """Tell whether somebody holds it."""
        return self._locked

    async def acquire(self, role: str) -> None:
        """Wait for the role's turn; whoever has it must release it."""
        if not self._locked:
            self._locked = True
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(role, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it was called in the same moment
                self.release()
            raise

    def release(self) -> None:
        """Let the next role's first have it."""
        while self._waiting:
            role = next(iter(self._waiting))
            queue = self._waiting.pop(role)
            turn = queue.popleft()
            if queue:
                self._waiting[role] = queue  # behind the others
            if not turn.done():  # else whoever waited is gone
                turn.set_result(None)
                return
        self._locked = False
