"""Frames: how router, satellites and scorers talk over a socket pair.

frame = length of head, length of body (4 bytes each, network order), head (a JSON object), body (bytes)
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

Frame = tuple[dict[str, Any], bytes]


class FrameError(Exception):
    """The peer sent something that is no frame."""


def pack(head: dict[str, Any], body: bytes = b"") -> bytes:
    """Make a frame."""
    text = json.dumps(head, separators=(",", ":")).encode()
    return b"".join((_HEADER.pack(len(text), len(body)), text, body))


def _check(head_size: int, body_size: int) -> None:
    if head_size > LARGEST_HEAD or body_size > LARGEST_BODY:
        raise FrameError(f"a frame of {head_size} + {body_size} bytes is too large")


def read_frame(sock: socket.socket) -> Frame:
    """Read a frame from a blocking socket.

    Raises: EOFError where the peer has closed; FrameError.
    """
    head_size, body_size = _HEADER.unpack(_read(sock, _HEADER.size))
    _check(head_size, body_size)
    payload = _read(sock, head_size + body_size)
    return json.loads(payload[:head_size]), bytes(payload[head_size:])


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


async def read_frame_async(reader: asyncio.StreamReader) -> Frame:
    """Read a frame from a stream; errors as `read_frame`."""
    try:
        head_size, body_size = _HEADER.unpack(await reader.readexactly(_HEADER.size))
        _check(head_size, body_size)
        payload = await reader.readexactly(head_size + body_size)
    except asyncio.IncompleteReadError as error:
        raise EOFError("the peer has closed") from error
    return json.loads(payload[:head_size]), payload[head_size:]
