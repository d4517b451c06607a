"""The inspector: a process that reads one model's bytes and says what is in them, and never makes anything of them.

It is forked for one model, so that no model that was loaded before has a say in what is told of this one.
"""

from __future__ import annotations

import hashlib
import json
import socket
import warnings
from typing import Any

from dbml import errors
from dbml.formats.contents import contents_of
from dbml.worker.frames import Frame, pack, read_frame
from dbml.worker.sandbox import Limits, use_reserve
from dbml.worker.script import sendable


def inspect(sock: socket.socket, limits: Limits) -> Frame:
    """Take a model's bytes, part by part, and return the answer to send: its contents, or an error."""
    head, _ = read_frame(sock)
    parts = []
    while True:
        said, body = read_frame(sock)
        if said["tag"] == "end":
            break
        parts.append(body)
    try:
        content = b"".join(parts)
        parts.clear()
        return {"tag": "contents"}, json.dumps(_inspect(content, head)).encode()
    except errors.DbmlError as error:
        failure = error
    except MemoryError:
        use_reserve()
        failure = errors.LimitExceeded(
            f"to read the model takes more memory than memory_mb = {limits.memory_mb} allows",
            detail={"limit": "memory_mb", "value": limits.memory_mb},
        )
    except Exception as error:  # the edge where the request ends
        failure = errors.ModelLoadError(f"the model's bytes cannot be read: {type(error).__name__}: {str(error)[:300]}")
    return {"tag": "error", **sendable(failure)}, b""


def _inspect(content: bytes, head: dict[str, Any]) -> list[dict[str, Any]]:
    if hashlib.sha256(content).hexdigest() != head["digest"]:
        raise errors.ModelLoadError("the model's bytes do not match their digest", detail={"digest": head["digest"]})
    return contents_of(content, head["format"])


def serve(sock: socket.socket, limits: Limits) -> None:
    """Answer the router's one question."""
    warnings.simplefilter("ignore")  # nobody would read them
    try:
        sock.sendall(pack(*inspect(sock, limits)))
        read_frame(sock)  # the router closes when it has the answer
    except (EOFError, ConnectionError):
        return
