"""The satellite: one process for one script, from the first row in to the last row out.

Reads the call and its rows from the router, runs the script, and says what comes of it.  What it writes waits
until the router reads, and the router reads as its caller asks: so memory stays bounded on the way.
"""

from __future__ import annotations

import base64
import contextlib
import io
import math
import os
import resource
import select
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from typing import Any

from dbml import columns, errors
from dbml.worker import script
from dbml.worker.frames import pack, read_frame
from dbml.worker.run import Run
from dbml.worker.sandbox import Limits

LONGEST_NOTICE = 1 << 16
NOTICES_AT_MOST = 1 << 20
ROWS_A_FRAME = 2000
IDLE_S = 0.03  # a satellite that waits longer than this rehearses


class Peer:
    """The router's end: frames out, one at a time, from whichever thread."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._lock = threading.Lock()
        self._left = NOTICES_AT_MOST

    def say(self, head: dict[str, Any], body: bytes = b"") -> None:
        """Send a frame."""
        with self._lock:
            self._sock.sendall(pack(head, body))

    def hear(self) -> tuple[dict[str, Any], bytes]:
        """Wait for a frame."""
        return read_frame(self._sock)

    def notice(self, text: bytes) -> None:
        """Send printed text, up to a limit a call."""
        if self._left <= 0:
            return
        if len(text) > self._left:
            text = text[: self._left] + b"\n(more was printed: a script's output is cut at 1 MB)"
            self._left = 0
        self._left -= len(text)
        for start in range(0, len(text), LONGEST_NOTICE):
            self.say({"tag": "notice"}, text[start : start + LONGEST_NOTICE])


class Printed(io.TextIOBase):
    """sys.stdout and sys.stderr of a script: whole lines become notices."""

    encoding = "utf-8"

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._pending = ""

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, text: str) -> int:
        """Take text; it is sent when it ends with a whole line, so that one print is one notice."""
        self._pending += text
        if text.endswith("\n") or len(self._pending) > LONGEST_NOTICE:
            self.send()
        return len(text)

    def send(self) -> None:
        """Send what is pending."""
        text, self._pending = self._pending, ""
        if text:
            self._peer.notice(text.encode("utf-8", "replace"))


@contextlib.contextmanager
def _printing(peer: Peer) -> Iterator[None]:
    """Turn what the script prints into notices: through sys.stdout, and through descriptors 1 and 2."""
    read_end, write_end = os.pipe()
    for number in (1, 2):
        os.dup2(write_end, number)
    os.close(write_end)
    drain = threading.Thread(target=_drain, args=(read_end, peer), daemon=True)
    drain.start()
    printed = Printed(peer)
    sys.stdout = sys.stderr = printed
    try:
        yield
    finally:
        printed.send()
        null = os.open(os.devnull, os.O_WRONLY)
        for number in (1, 2):
            os.dup2(null, number)
        drain.join(timeout=0.5)  # a process that the script left behind may hold the pipe open
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__


def _drain(read_end: int, peer: Peer) -> None:
    with contextlib.suppress(OSError):
        while text := os.read(read_end, LONGEST_NOTICE):
            peer.notice(text)


def _nobody() -> tuple[dict[str, Any], bytes]:
    raise EOFError


def rehearse() -> None:
    """Do once what every call does.

    In the zygote it fills the libraries' caches; in a satellite that waits for its call it touches the memory that
    it shares with the zygote, so that the copying is done before anyone waits for it.
    """
    sent = [columns.Column("a", "bigint", "int8"), columns.Column("b", "double precision", "float8")]
    builder = columns.FrameBuilder([*sent, columns.Column("c", "text", "text")])
    builder.append(b"\n" + b"00" * 8 + b"\n" + b"00" * 8 + b"\n00000001\n78", 1)
    given = builder.frame()
    namespace = script.run("out = given.assign(d=given.a * 2 + given.b)", {"given": given, "run": Run({}, print, _nobody)})
    frame = columns.as_frame(namespace["out"])
    if frame is not None:
        list(columns.encode_frame(frame, None, 10))
        list(columns.encode_json_rows(frame, 10))
    columns.as_frame({"c": [1]})


def serve(sock: socket.socket, limits: Limits) -> None:
    """Serve one call, then return: the process ends."""
    called, _, _ = select.select([sock.fileno()], [], [], IDLE_S)
    if not called:
        rehearse()
    peer = Peer(sock)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    try:
        call, _ = peer.hear()
        _converse(peer, call, limits)
    except errors.DbmlError as error:
        peer.say({"tag": "error", **error.fields()})
    except MemoryError:
        fields = errors.LimitExceeded(
            f"the script's data need more memory than memory_mb = {limits.memory_mb} allows",
            detail={"limit": "memory_mb", "value": limits.memory_mb},
        ).fields()
        peer.say({"tag": "error", **fields})
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the caller is gone
    except Exception as error:  # a fault of dbml's own, which nobody should have to guess
        peer.say(
            {
                "tag": "error",
                "sqlstate": "XX000",
                "message": f"dbml failed: {type(error).__name__}: {error}",
                "detail": None,
                "hint": "this is a fault of dbml: please report it with the context",
                "context": traceback.format_exc(),
            }
        )


def _converse(peer: Peer, call: Mapping[str, Any], limits: Limits) -> None:
    builders = []
    variables: dict[str, Any] = {}
    for given in call["inputs"]:
        script.check_name(given["name"], "an input's name")
        names = [column["name"] for column in given["columns"]]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise errors.InvalidArgument(
                f'the input "{given["name"]}" has the column "{twice[0]}" more than once',
                hint="give each column a name of its own",
            )
        builders.append(columns.FrameBuilder([columns.Column(c["name"], c["type"], c["kind"]) for c in given["columns"]]))
    for name in call["params"]:
        script.check_name(name, "a parameter's name")
    script.check_name(call["output_name"], "output_name")
    rows_in = 0
    while True:
        head, body = peer.hear()
        if head["tag"] != "rows":
            break
        rows_in += head["n"]
        builders[head["input"]].append(body, head["n"])
    for given, builder in zip(call["inputs"], builders, strict=True):
        variables[given["name"]] = builder.frame()
    builders.clear()
    variables.update(call["params"])
    variables["run"] = Run(call, peer.say, peer.hear)
    with _printing(peer):
        try:
            namespace = script.run(call["script"], variables)
        except errors.LimitExceeded as error:
            if error.detail.get("limit") != "memory_mb":
                raise
            raise errors.LimitExceeded(
                f"the script needs more memory than memory_mb = {limits.memory_mb} allows",
                detail={"limit": "memory_mb", "value": limits.memory_mb}, context=error.context,
            ) from None  # fmt: skip
    variables.clear()
    rows_out = 0
    params: dict[str, Any] = {}
    if call["result"] == "params":
        params = {name: _parameter(name, namespace.get(name)) for name in call["params"]}
    else:
        rows_out = _answer(peer, call, namespace.get(call["output_name"]))
    used = resource.getrusage(resource.RUSAGE_SELF)
    peer.say(
        {
            "tag": "done",
            "params": params,
            "rows_in": rows_in,
            "rows_out": rows_out,
            "peak_memory_mb": used.ru_maxrss / 1024,
            "cpu_seconds": used.ru_utime + used.ru_stime,
        }
    )


def _answer(peer: Peer, call: Mapping[str, Any], value: Any) -> int:
    """Send the result, chunk by chunk; returns the number of rows."""
    frame = columns.as_frame(value)
    if frame is None:
        return 0
    if call["result"] == "json":
        chunks = columns.encode_json_rows(frame, ROWS_A_FRAME)
    else:
        expected = [columns.Column(c["name"], c["type"], c["kind"]) for c in call["expected"]]
        chunks = columns.encode_frame(frame, expected, max(16, ROWS_A_FRAME * 10 // max(10, len(expected))))
    for chunk in chunks:
        sizes = [len(literal) for literal in chunk.literals]
        peer.say(
            {"tag": "frame", "n": chunk.n, "names": chunk.names, "types": chunk.types, "sizes": sizes}, b"".join(chunk.literals)
        )
    return len(frame)


def _parameter(name: str, value: Any) -> Any:
    """Turn a parameter's final value into JSON: numpy scalars into numbers, bytes into base64 text."""
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, float) and not math.isfinite(value):
        return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[repr(float(value))]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, Mapping):
        return {str(key): _parameter(f"{name}.{key}", cell) for key, cell in value.items()}
    if isinstance(value, list | tuple | set):
        return [_parameter(name, cell) for cell in value]
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        return _parameter(name, value.item())
    if hasattr(value, "tolist"):
        return _parameter(name, value.tolist())
    if hasattr(value, "isoformat"):
        return value.isoformat()
    raise errors.UnsupportedType(
        f'the parameter "{name}" holds a {type(value).__name__}, which JSON cannot carry',
        detail={"parameter": name, "type": type(value).__name__},
        hint="pickle.dumps(value) is carried, as base64 text; a data frame returns by run_script",
    )
