"""The satellite: one process for one script, from the first row in to the last row out.

Reads the call and its rows from the router, runs the script, and says what comes of it.  What it writes waits
until the router reads, and the router reads as its caller asks: so memory stays bounded on the way.
"""

from __future__ import annotations

import base64
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
from decimal import Decimal
from types import FrameType
from typing import Any

from dbml import columns, errors
from dbml.worker import script
from dbml.worker.frames import LARGEST_BODY, Frame, pack, read_frame
from dbml.worker.printed import capture, uninterrupted
from dbml.worker.run import Run
from dbml.worker.sandbox import Limits, use_reserve

CHUNK_BYTES = 200_000
FIRST_CELLS = 10_000
FIRST_ROWS_UNSIZED = 16
MOST_ROWS = 20_000
IDLE_S = 0.03  # a satellite that waits longer than this for its call rehearses


class Peer:
    """The router's end: whole frames, from whichever thread, and from this process alone."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._lock = threading.Lock()
        self.running = False  # the call is whole: the router waits for what comes of it
        self._pid = os.getpid()

    def say(self, head: dict[str, Any], body: bytes = b"") -> None:
        """Send a frame; waits while the router does not read.

        Raises: InvalidArgument in a process that the script has forked.
        """
        frame = pack(head, body)
        self._check_process()
        with uninterrupted(), self._lock:
            self._sock.sendall(frame)

    def hear(self) -> Frame:
        """Wait for a frame."""
        self._check_process()
        with uninterrupted():
            head, body = read_frame(self._sock)
        self.running = self.running or head["tag"] == "run"
        return head, body

    def notice(self, text: bytes) -> None:
        """Send printed text."""
        self.say({"tag": "notice"}, text)

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise errors.InvalidArgument(
                "run must be used by the script's own process, not by one that it has forked",
                hint="return values from the forked process, and log them in the script",
            )


def serve(sock: socket.socket, limits: Limits) -> None:
    """Serve one call, then return: the process ends."""
    called, _, _ = select.select([sock.fileno()], [], [], IDLE_S)
    if not called:
        rehearse()
    peer = Peer(sock)
    try:
        try:
            _converse(peer, limits)
        except errors.DbmlError as error:
            peer.say({"tag": "error", **script.sendable(error)})
        except MemoryError:
            use_reserve()
            peer.say({"tag": "error", **script.sendable(script.out_of_memory(limits))})
        except (EOFError, ConnectionError):
            raise
        except Exception as error:  # the edge where the process ends
            internal = errors.DbmlError(
                f"dbml failed: {type(error).__name__}: {error}",
                hint="this is a fault of dbml: please report it with the context", context=traceback.format_exc(),
            )  # fmt: skip
            peer.say({"tag": "error", **script.sendable(internal), "sqlstate": "XX000"})
        while not peer.running:  # a socket closed on what its peer still sends would take the answer with it
            peer.hear()
    except (EOFError, ConnectionError):
        return  # the router is gone, or has had enough


def _converse(peer: Peer, limits: Limits) -> None:
    call, _ = peer.hear()
    inputs = call["inputs"]
    _check_names(call)
    builders = [columns.FrameBuilder(_columns(given["columns"])) for given in inputs]
    rows_in = 0
    while True:
        head, body = peer.hear()
        if head["tag"] == "run":
            break
        rows_in += head["n"]
        builders[head["input"]].append(body, head["n"])
    variables: dict[str, Any] = {given["name"]: builder.frame() for given, builder in zip(inputs, builders, strict=True)}
    del builders, body
    variables.update(call["params"])
    variables["run"] = Run(call, peer.say, peer.hear)
    if limits.cpu_seconds is not None:
        signal.signal(signal.SIGXCPU, _out_of_time(limits.cpu_seconds))
    own = os.getpid()
    with capture(peer.notice):
        try:
            namespace = script.run(call["script"], variables, limits)
        except errors.DbmlError as error:
            if os.getpid() != own:
                print(error.context, f"{type(error).__name__}: {error}", sep="\n", file=sys.stderr, flush=True)
                os._exit(1)
            raise
        if os.getpid() != own:  # forked by the script, and come to the script's end
            os._exit(0)
    variables.clear()
    rows_out = 0
    params: dict[str, Any] = {}
    if call["result"] == "params":
        params = {name: _parameter(name, namespace.get(name)) for name in call["params"]}
    else:
        rows_out = _answer(peer, call, namespace.get(call["output_name"]), limits)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    spent = {"peak_memory_mb": usage.ru_maxrss / 1024, "cpu_seconds": usage.ru_utime + usage.ru_stime}
    peer.say({"tag": "done", "params": params, "rows_in": rows_in, "rows_out": rows_out, **spent})


def _check_names(call: Mapping[str, Any]) -> None:
    for given in call["inputs"]:
        script.check_name(given["name"], "an input's name")
        names = [column["name"] for column in given["columns"]]
        twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
        if twice:
            raise errors.InvalidArgument(
                f'the input "{given["name"]}" has the column "{twice[0]}" more than once',
                detail={"input": given["name"], "columns": twice}, hint="give each column a name of its own",
            )  # fmt: skip
    for name in call["params"]:
        script.check_name(name, "a parameter's name")
        if any(given["name"] == name for given in call["inputs"]):
            raise errors.InvalidArgument(f'"{name}" must not be both an input and a parameter')
    script.check_name(call["output_name"], "output_name")


def _columns(given: list[dict[str, str]]) -> list[columns.Column]:
    return [columns.Column(column["name"], column["type"], column["kind"]) for column in given]


def _out_of_time(cpu_seconds: int) -> Any:
    def raise_(number: int, frame: FrameType | None) -> None:
        raise errors.LimitExceeded(
            f"the script used more processor time than cpu_seconds = {cpu_seconds} allows",
            detail={"limit": "cpu_seconds", "value": cpu_seconds},
        )

    return raise_


def _answer(peer: Peer, call: Mapping[str, Any], value: Any, limits: Limits) -> int:
    """Send the result, chunk by chunk; returns the number of rows.

    Raises: ColumnListMismatch, UnsupportedType; ScriptError where the value's own code fails; LimitExceeded.
    """
    sent_bytes = 0
    rows = 0
    try:
        for chunk in _chunks(call, value):
            sizes = [len(literal) for literal in chunk.literals]
            sent_bytes += sum(sizes)
            if sent_bytes > limits.output_mb << 20:
                raise _too_large(
                    f"the result is larger than output_mb = {limits.output_mb} allows", "output_mb", limits.output_mb
                )
            if sum(sizes) > LARGEST_BODY:
                raise _too_large(f"a row of the result is larger than {LARGEST_BODY >> 20} MB", "row_mb", LARGEST_BODY >> 20)
            rows += chunk.n
            head = {"tag": "frame", "n": chunk.n, "names": chunk.names, "types": chunk.types, "sizes": sizes}
            peer.say(head, b"".join(chunk.literals))
    except (errors.DbmlError, MemoryError, ConnectionError):
        raise
    except Exception as error:  # whatever the script left: its own classes' code runs here
        raise errors.ScriptError(
            f"{call['output_name']} cannot be read: {script.text_of(error)}",
            detail={"type": type(error).__qualname__, "line": None},
        ) from None
    return rows


def _chunks(call: Mapping[str, Any], value: Any) -> Iterator[columns.Chunk]:
    """Yield a result in chunks near CHUNK_BYTES: the size of each tells the number of rows of the next."""
    frame = columns.as_frame(value)
    if frame is None:
        return
    expected = None if call["result"] == "json" else _columns(call["expected"])
    if (expected is not None and len(expected) != frame.shape[1]) or len(frame) == 0:
        for _ in columns.encode_frame(frame, expected, 1):  # which refuses it, by its own hint
            pass
        return
    sized = all(dtype.kind in "biufmM" for dtype in frame.dtypes)
    n = max(1, min(2000, FIRST_CELLS // frame.shape[1]))
    if not sized:
        n = min(n, FIRST_ROWS_UNSIZED)
    start = 0
    while start < len(frame):
        part = frame.iloc[start : start + n]
        start += n
        made = columns.encode_json_rows(part, n) if expected is None else columns.encode_frame(part, expected, n)
        size = 0
        for chunk in made:
            size += sum(map(len, chunk.literals))
            yield chunk
        n = max(1, min(MOST_ROWS, 8 * n, n * CHUNK_BYTES // max(1, size)))


def _too_large(message: str, limit: str, value: int) -> errors.LimitExceeded:
    return errors.LimitExceeded(message, detail={"limit": limit, "value": value}, hint="return fewer rows or columns")


def _parameter(name: str, value: Any) -> Any:
    """Turn a parameter's final value into JSON: numpy scalars into numbers, bytes into base64 text.

    Raises: UnsupportedType.
    """
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, float):
        return (
            float(value) if math.isfinite(value) else {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[repr(float(value))]
        )
    if isinstance(value, int):
        return int(value)
    if isinstance(value, Decimal):
        return float(value) if value.is_finite() and Decimal(float(value)) == value else str(value)
    if isinstance(value, Mapping):
        return {str(key): _parameter(f"{name}.{key}", cell) for key, cell in value.items()}
    if isinstance(value, list | tuple):
        return [_parameter(name, cell) for cell in value]
    if callable(getattr(value, "tolist", None)) and not isinstance(value, type):
        plain = value.tolist()
        if type(plain) is not type(value):
            return _parameter(name, plain)
    if callable(getattr(value, "isoformat", None)):
        return str(value.isoformat())
    raise errors.UnsupportedType(
        f'the parameter "{name}" holds a {type(value).__name__}, which JSON cannot carry',
        detail={"parameter": name, "type": type(value).__name__},
        hint="pickle.dumps(value) is carried, as base64 text; a data frame returns by run_script",
    )


def rehearse() -> None:
    """Do once what every call does.

    In the zygote it fills the libraries' caches, and must start no thread; in a satellite that waits for its call it
    touches the memory that it shares with the zygote, so that the copying is done before anyone waits for it.
    """
    given = [columns.Column(kind, kind, kind) for kind in ("int8", "float8", "text")]
    builder = columns.FrameBuilder(given)
    builder.append(b"\n" + b"00" * 8 + b"\n" + b"00" * 8 + b"\n00000001\n78", 1)
    variables: dict[str, Any] = {"x": builder.frame(), "run": Run({}, print, _nobody)}
    main = sys.modules["__main__"]
    made = script.run("y = x.assign(z=x.int8 * 2)", variables, Limits())
    sys.modules["__main__"] = main
    listed = [vars(column) for column in (*given, columns.Column("z", "bigint", "int8"))]
    for result, value in (("table", made["y"]), ("json", made["y"]), ("table", {"a": [1], "b": [1.5], "c": ["d"], "e": [2]})):
        for chunk in _chunks({"result": result, "expected": listed}, value):
            pack({"tag": "frame"}, b"".join(chunk.literals))


def _nobody() -> Frame:
    raise EOFError
