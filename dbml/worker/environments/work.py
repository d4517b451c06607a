"""Work that takes a while and tells how it goes, to everyone who waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")
Say = Callable[[str], None]


class Work(Generic[T]):
    """One piece of work, in a task of its own; it is cancelled when the last who followed it has left."""

    def __init__(self, do: Callable[[Say], Awaitable[T]]) -> None:
        self._said: list[str] = []
        self._followers: set[Follower[T]] = set()
        self.task = asyncio.create_task(self._do(do))
        self.task.add_done_callback(_take_note)

    async def _do(self, do: Callable[[Say], Awaitable[T]]) -> T:
        try:
            return await do(self._say)
        finally:
            for follower in self._followers:
                follower.queue.put_nowait(None)

    def _say(self, line: str) -> None:
        self._said.append(line)
        for follower in self._followers:
            follower.queue.put_nowait(line)

    def follow(self) -> Follower[T]:
        """Return what hears everything that was said and will be."""
        follower = Follower(self)
        for line in self._said:
            follower.queue.put_nowait(line)
        if self.task.done():
            follower.queue.put_nowait(None)
        self._followers.add(follower)
        return follower

    def leave(self, follower: Follower[T]) -> None:
        """Take note that one follower has no interest any more."""
        self._followers.discard(follower)
        if not self._followers and not self.task.done():
            self.task.cancel()


class Follower(Generic[T]):
    """One who waits for a piece of work."""

    def __init__(self, work: Work[T]) -> None:
        self._work = work
        self.queue: asyncio.Queue[str | None] = asyncio.Queue()

    async def lines(self) -> list[str]:
        """Wait until something new is said and return all of it; nothing means that the work is over."""
        first = await self.queue.get()
        said = []
        while first is not None:
            said.append(first)
            if self.queue.empty():
                return said
            first = self.queue.get_nowait()
        if said:
            self.queue.put_nowait(None)  # the end is told on its own
        return said

    async def result(self) -> T:
        """Wait for what came of it; errors are the work's own."""
        return await asyncio.shield(self._work.task)

    def leave(self) -> None:
        """Follow no longer; the work ends where nobody follows."""
        self._work.leave(self)


def _take_note(task: asyncio.Task[Any]) -> None:
    """Keep asyncio from reporting an error that those who follow are told."""
    if not task.cancelled():
        task.exception()
