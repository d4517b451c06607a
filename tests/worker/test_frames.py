"""Frames: there and back, and what is no frame."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading

import pytest

from dbml.worker.frames import LARGEST_HEAD, FrameError, pack, read_frame, read_frame_async


@pytest.mark.parametrize("body", [b"", b"x", bytes(range(256)) * 4000])
def test_there_and_back(body: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        head = {"tag": "a", "ü": [1, None, 1.5, {"x": "\u2028"}]}
        sending = threading.Thread(target=ours.sendall, args=(pack(head, body) * 2,))
        sending.start()
        assert read_frame(theirs) == (head, body)
        assert read_frame(theirs) == (head, body)
        sending.join()
        ours.close()
        with pytest.raises(EOFError):
            read_frame(theirs)


def test_half_a_frame_is_an_end() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(pack({"tag": "a"}, b"12345")[:-1])
        ours.close()
        with pytest.raises(EOFError):
            read_frame(theirs)


def read(content: bytes) -> object:
    async def work() -> object:
        reader = asyncio.StreamReader()
        reader.feed_data(content)
        reader.feed_eof()
        return await read_frame_async(reader)

    return asyncio.run(work())


def test_asynchronously() -> None:
    assert read(pack({"tag": "a"}, b"body")) == ({"tag": "a"}, b"body")
    for short in (b"", b"\x00", pack({"tag": "a"}, b"body")[:-1]):
        with pytest.raises(EOFError):
            read(short)


@pytest.mark.parametrize("head", [b"", b"no json", b"[1]", b'{"no": "tag"}', b'{"tag": 3}', b"[" * 100_000, b"\xff"])
def test_what_is_no_head_is_refused(head: bytes) -> None:
    with pytest.raises(FrameError):
        read(struct.pack("!II", len(head), 0) + head)


def test_what_is_too_large_is_refused_before_it_is_read() -> None:
    with pytest.raises(FrameError, match="too large"):
        read(struct.pack("!II", LARGEST_HEAD + 1, 0))
    with pytest.raises(FrameError, match="too large"):
        pack({"tag": "x" * LARGEST_HEAD})


def test_half_a_surrogate_pair_does_not_break_the_frame() -> None:
    assert read(pack({"tag": "a", "text": "x\ud800y"})) == ({"tag": "a", "text": "x?y"}, b"")
