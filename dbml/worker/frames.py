"""Frames: how router, satellites and scorers talk over a socket pair.

    frame = length of head, length of body (4 bytes each, network order), head (a JSON object), body (bytes)

A head has a "tag".  This module knows neither tags nor processes.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from typing import Any

_HEADER = struct.Struct("!II")
LARGEST_HEAD = 1 << 28
LARGEST_BODY = 1 << 30
LARGEST_HEARD = 1 << 26  # head of what a child says: read whole, and parsed, by who must not run out of memory

Frame = tuple[dict[str, Any], bytes]


class FrameError(Exception):
    """The peer sent something that is no frame."""


def pack(head: dict[str, Any], body: bytes = b"") -> bytes:
    """Make a frame; half of a surrogate pair, which UTF-8 does not have, becomes a question mark.

    Raises: FrameError beyond LARGEST_HEAD or LARGEST_BODY.
    """
    text = json.dumps(head, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")
    _check(len(text), len(body))
    return b"".join((_HEADER.pack(len(text), len(body)), text, body))


def read_frame(sock: socket.socket) -> Frame:
    """Read a frame from a blocking socket.

    Raises: EOFError where the peer has closed; FrameError.
    """
    head_size, body_size = _HEADER.unpack(_read(sock, _HEADER.size))
    _check(head_size, body_size)
    payload = _read(sock, head_size + body_size)
    return _parse(payload[:head_size]), bytes(payload[head_size:])


async def read_frame_async(reader: asyncio.StreamReader, largest_body: int = LARGEST_BODY) -> Frame:
    """Read a frame that a child has sent; errors as `read_frame`, and FrameError beyond LARGEST_HEARD or largest_body."""
    try:
        head_size, body_size = _HEADER.unpack(await reader.readexactly(_HEADER.size))
        _check(head_size, body_size, LARGEST_HEARD, largest_body)
        head = await reader.readexactly(head_size)
        body = await reader.readexactly(body_size)
    except asyncio.IncompleteReadError as error:
        raise EOFError("the peer has closed") from error
    return _parse(head), body


def _check(head_size: int, body_size: int, largest_head: int = LARGEST_HEAD, largest_body: int = LARGEST_BODY) -> None:
    if head_size > largest_head or body_size > largest_body:
        raise FrameError(f"a frame of {head_size} + {body_size} bytes is too large")


def _parse(text: bytes | bytearray) -> dict[str, Any]:
    try:
        head = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FrameError(f"the head of a frame must be JSON: {error}") from None
    if not isinstance(head, dict) or not isinstance(head.get("tag"), str):
        raise FrameError("the head of a frame must be an object with a tag")
    return head


def _read(sock: socket.socket, size: int) -> bytearray:
    buffer = bytearray(size)
    view = memoryview(buffer)
    got = 0
    while got < size:
        count = sock.recv_into(view[got:])
        if count == 0:
            raise EOFError("the peer has closed")
        got += count
    return buffer
