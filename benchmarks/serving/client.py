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
    """Asks again as soon as it is answered, until the time is over."""

    def __init__(self, message: bytes, until: float, done: asyncio.Future[None], times: list[float]) -> None:
        self._message, self._until, self._done, self._times = message, until, done, times
        self._first = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._began = time.perf_counter()
        self._transport.write(self._message)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, part: bytes) -> None:
        self._first = self._first or part

    def on_message_complete(self) -> None:
        now = time.perf_counter()
        self._times.append(now - self._began)
        if self._parser.get_status_code() != 200:
            self._done.set_exception(RuntimeError(f"{self._parser.get_status_code()}: {self._first[:500]!r}"))
            self._transport.close()
        elif now < self._until:
            asyncio.get_running_loop().call_soon(self._ask)
        else:
            self._transport.close()
            self._done.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(error or ConnectionResetError("the server closed the connection"))


async def _run(port: int, message: bytes, connections: int, seconds: float) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    times: list[float] = []
    began = time.perf_counter()
    ends = []
    for _ in range(connections):
        done: asyncio.Future[None] = loop.create_future()
        ends.append(done)
        await loop.create_connection(lambda done=done: _Connection(message, began + seconds, done, times), "127.0.0.1", port)  # type: ignore[misc]
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
