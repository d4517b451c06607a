"""The other process of a service with two versions: where it is, and HTTP to ask it, over connections that are kept."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LOOK_S = 0.05  # a change of the file is seen within this
IDLE = 8  # connections that are kept

Pair = tuple[bytes, bytes]


class PeerLost(Exception):
    """The other process does not answer: it is not there, or went away."""


@dataclass(frozen=True)
class Answer:
    """What the other process answered."""

    status: int
    headers: Sequence[Pair]
    body: bytes


@dataclass(frozen=True)
class Wanted:
    """What a peer file says.

    address: a Unix socket.  models: by which names it is asked.  percent: of the requests that it answers; shadow: a copy of
    each request goes there.  generation: of the version that it serves.
    """

    address: str
    generation: int
    models: tuple[str, ...]
    percent: float = 0.0
    shadow: bool = False


class PeerFile:
    """A file that says whether there is a peer, read again when it changes; no file or an empty one: there is none.

    One that cannot be read as such is being written: there is no peer until it can.

    dialer: who connects to it, where this process may not (`confined.errand`).
    """

    def __init__(self, path: Path, dialer: socket.socket | None = None) -> None:
        self._path = path
        self.dialer = dialer
        self._looked = float("-inf")
        self._changed: tuple[int, int] | None = None
        self._wanted: Wanted | None = None

    def read(self) -> Wanted | None:
        """Return what the file says; the same object as long as it does not change."""
        now = time.monotonic()
        if now - self._looked < LOOK_S:
            return self._wanted
        self._looked = now
        try:
            stat = self._path.stat()
            if (stat.st_mtime_ns, stat.st_ino) != self._changed:
                self._wanted = _wanted(self._path.read_bytes())
                self._changed = (stat.st_mtime_ns, stat.st_ino)
        except (OSError, ValueError, KeyError, TypeError):
            self._changed, self._wanted = None, None
        return self._wanted


def _wanted(content: bytes) -> Wanted | None:
    said: dict[str, Any] | None = json.loads(content or b"null")
    if not said:
        return None
    return Wanted(
        str(said["address"]), int(said["generation"]), tuple(said["models"]), float(said.get("percent", 0)),
        bool(said.get("shadow")),
    )  # fmt: skip


class Peer:
    """Asks the process at a Unix socket."""

    def __init__(self, address: str, dialer: socket.socket | None = None) -> None:
        self._address = address
        self._dialer = dialer
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask(self, verb: bytes, target: bytes, headers: Sequence[Pair], body: bytes, timeout_s: float) -> Answer:
        """Send a request and return the answer.

        Raises: PeerLost, where it is not there, breaks off, or takes longer.
        """
        import httptools  # of uvicorn[standard]; without a peer nobody needs it

        lines = [b"%s %s HTTP/1.1\r\nhost: peer\r\ncontent-length: %d\r\n" % (verb, target, len(body))]
        lines += [b"%s: %s\r\n" % pair for pair in headers]
        message = b"".join([*lines, b"\r\n", body])
        try:
            async with asyncio.timeout(timeout_s):
                while self._idle:
                    # One that was kept may have been closed in the meantime; then a new one is tried.
                    kept = self._idle.pop()
                    try:
                        return await self._exchange(*kept, message)
                    except (OSError, PeerLost):
                        continue
                return await self._exchange(*await self._open(), message)
        except (OSError, TimeoutError, httptools.HttpParserError) as error:
            raise PeerLost(f"{type(error).__name__}: {error}") from error

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._dialer is None:
            return await asyncio.open_unix_connection(self._address)
        self._dialer.send(b"?")
        said, descriptors, _, _ = socket.recv_fds(self._dialer, 1, 1)
        if said != b"+":
            raise PeerLost("it is not there")
        return await asyncio.open_unix_connection(sock=socket.socket(fileno=descriptors[0]))

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, message: bytes) -> Answer:
        import httptools

        heard = _Heard()
        parser = httptools.HttpResponseParser(heard)
        keep = False
        try:
            writer.write(message)
            while not heard.whole:
                part = await reader.read(1 << 18)
                if not part:
                    raise PeerLost("it broke off")
                parser.feed_data(part)
            keep = parser.should_keep_alive() and len(self._idle) < IDLE
            return Answer(parser.get_status_code(), heard.headers, b"".join(heard.parts))
        finally:
            if keep:
                self._idle.append((reader, writer))
            else:
                writer.close()

    def close(self) -> None:
        """Let go of the connections that are kept."""
        while self._idle:
            self._idle.pop()[1].close()


class _Heard:
    """What the parser calls."""

    def __init__(self) -> None:
        self.headers: list[Pair] = []
        self.parts: list[bytes] = []
        self.whole = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_body(self, part: bytes) -> None:
        self.parts.append(part)

    def on_message_complete(self) -> None:
        self.whole = True
