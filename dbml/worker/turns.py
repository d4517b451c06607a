"""Turns: a lock for which roles wait in turn, so that one that asks often does not keep the others waiting."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator


class FairLock:
    """A lock: first come first served within a role, and one of each role after the other."""

    def __init__(self) -> None:
        self._locked = False
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}  # by role, the one whose turn is next in front

    def locked(self) -> bool:
        """Tell whether somebody holds it."""
        return self._locked

    @contextlib.asynccontextmanager
    async def held(self, role: str) -> AsyncIterator[None]:
        """Hold it for a role."""
        await self.acquire(role)
        try:
            yield
        finally:
            self.release()

    async def acquire(self, role: str) -> None:
        """Wait for the role's turn."""
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
            else:
                queue = self._waiting[role]
                queue.remove(turn)
                if not queue:
                    del self._waiting[role]
            raise

    def release(self) -> None:
        """Let the next role's first have it."""
        if not self._waiting:
            self._locked = False
            return
        role, queue = next(iter(self._waiting.items()))
        turn = queue.popleft()
        del self._waiting[role]
        if queue:
            self._waiting[role] = queue  # behind the others
        turn.set_result(None)
