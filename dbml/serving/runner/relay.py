"""A relay of TCP connections: the service's own port, and behind it whichever container serves, so that none is refused.

It knows nothing of HTTP.  A connection stays with the container that it was opened to; one that arrives while there is none
waits for the next.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable

CHUNK = 1 << 18
WAIT_S = 60.0  # that a connection waits for a container
PAUSE_S = 0.05

Address = tuple[str, int]


class Relay:
    """Takes connections from a listening socket, in a thread, and hands them to where `point` says."""

    def __init__(self, held: socket.socket) -> None:
        self._held = held
        self._behind: Callable[[], Address | None] = lambda: None
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def point(self, behind: Callable[[], Address | None]) -> None:
        """Send new connections to the address that a call returns, which may change as long as they wait."""
        self._behind = behind

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._server = self._loop.run_until_complete(asyncio.start_server(self._take, sock=self._held, limit=CHUNK, backlog=2048))
        try:
            self._loop.run_forever()
        finally:
            self._server.close()
            for task in self._tasks:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*self._tasks, return_exceptions=True))
            self._loop.close()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            opened = await self._open()
            if opened is not None:
                behind_reader, behind_writer = opened
                there = asyncio.create_task(_copy(reader, behind_writer))
                try:
                    await _copy(behind_reader, writer)  # a client that is done may still wait for its answer
                finally:
                    there.cancel()
                    await asyncio.gather(there, return_exceptions=True)
                    behind_writer.close()
        except OSError:
            pass  # either side has gone
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        until = self._loop.time() + WAIT_S
        while self._loop.time() < until:
            address = self._behind()
            if address is not None:
                with contextlib.suppress(OSError):
                    return await asyncio.open_connection(*address, limit=CHUNK)
            await asyncio.sleep(PAUSE_S)
        return None

    def close(self) -> None:
        """Take no more connections, and end those that are open."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """Copy until the source ends, and say so to the sink."""
    try:
        while part := await source.read(CHUNK):
            sink.write(part)
            await sink.drain()
    finally:
        with contextlib.suppress(OSError, RuntimeError):
            sink.write_eof()
