"""A client that costs little: a process of its own that asks the same over and over, on so many connections."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httptools


class _Connection(asyncio.Protocol):
    """Asks again as soon as it is answered, until the time is over; on a new connection where the server closes the old one."""

    def __init__(self, port: int, message: bytes, until: float, done: asyncio.Future[None], times: list[float]) -> None:
        self._port, self._message, self._until, self._done, self._times = port, message, until, done, times

    async def open(self, began: float | None = None) -> None:
        """Connect, and ask; began: when, where connecting is part of it."""
        self._began, self._first, self._answered = began or time.perf_counter(), b"", False
        self._parser = httptools.HttpResponseParser(self)
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_connection(lambda: self, "127.0.0.1", self._port)
        self._transport.write(self._message)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, part: bytes) -> None:
        self._first = self._first or part

    def on_message_complete(self) -> None:
        now = time.perf_counter()
        self._times.append(now - self._began)
        self._answered = True
        if self._parser.get_status_code() != 200:
            self._done.set_exception(RuntimeError(f"{self._parser.get_status_code()}: {self._first[:500]!r}"))
            self._transport.close()
        elif now >= self._until:
            self._done.set_result(None)
            self._transport.close()
        elif self._parser.should_keep_alive():
            asyncio.get_running_loop().call_soon(self._again)

    def _again(self) -> None:
        if self._transport.is_closing():
            return
        self._began, self._first, self._answered = time.perf_counter(), b"", False
        self._parser = httptools.HttpResponseParser(self)
        self._transport.write(self._message)

    def connection_lost(self, error: Exception | None) -> None:
        if self._done.done():
            return
        if self._answered:  # a server that keeps none: the next one costs connecting too
            self._task = asyncio.ensure_future(self.open(time.perf_counter()))
        else:
            self._done.set_exception(error or ConnectionResetError("the server closed the connection"))


async def _run(port: int, message: bytes, connections: int, seconds: float) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    times: list[float] = []
    began = time.perf_counter()
    ends = []
    for _ in range(connections):
        done: asyncio.Future[None] = loop.create_future()
        ends.append(done)
        await _Connection(port, message, began + seconds, done, times).open()
    await asyncio.gather(*ends)
    took = time.perf_counter() - began
    times.sort()
    return {"rate": len(times) / took, "p50_ms": times[len(times) // 2] * 1000, "p99_ms": times[int(len(times) * 0.99)] * 1000}


def ask(port: int, path: str, body: bytes, kind: str, *, connections: int, seconds: float, folder: Path) -> dict[str, float]:
    """Ask for some seconds from a process of its own; returns the answers a second and their times.

    Raises: RuntimeError with what the client said, where an answer is not 200.
    """
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    file = folder / "request"
    file.write_bytes(head.encode() + body)
    words = [sys.executable, "-m", __name__, str(port), str(file), str(connections), str(seconds)]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    found: dict[str, float] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    to, what, many, long = sys.argv[1:]
    import uvloop

    print(json.dumps(uvloop.run(_run(int(to), Path(what).read_bytes(), int(many), float(long)))))
