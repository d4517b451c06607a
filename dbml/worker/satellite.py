"""The satellite: one process for one script, from the first row in to the last row out.

Reads the call and its rows from the router, runs the script, once or once for each piece of its input, and says what
comes of it.  What it writes waits until the router reads, and the router reads as its caller asks: so memory stays
bounded on the way.

    router -> satellite  call, snapshot (a part of its archive), rows, close (the pieces that were sent are whole), run (that
                         was all)
    satellite -> router  notice, metric, tags, progress, child, end_child, artifact, register, load, ask, group (begins),
                         frame, output, took (a message about pieces is dealt with), closed (so are all before it), done or error
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import os
import random
import resource
import select
import signal
import socket
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Any

import numpy as np
import pandas as pd

from dbml import columns, current_run, errors
from dbml.worker import language, script
from dbml.worker.answer import Answer, parameter
from dbml.worker.frames import Frame, pack, read_frame
from dbml.worker.pieces import Piece, Pieces
from dbml.worker.printed import PRINTED_AT_MOST, capture, uninterrupted
from dbml.worker.run import Run
from dbml.worker.sandbox import Limits, use_reserve
from dbml.worker.submitted_script import MOST_PRINTED, SubmittedScript

INPUT = frozenset({"rows", "snapshot", "close", "run"})
PASSING = frozenset({"notice", "metric", "tags", "properties", "params", "progress", "child", "end_child"})  # may come later
IDLE_S = 0.03  # a satellite that waits longer than this for its call rehearses


class Peer:
    """The router's end: whole frames, from whichever thread, and from this process alone."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._lock = threading.Lock()
        self._exchange = threading.RLock()
        self._is_alone = False  # an exchange is under way
        self._later: deque[bytes] = deque()  # what was said beside it
        self._unheard: deque[Frame] = deque()  # came while the script waited for an answer
        self.running = False  # the call is whole: the router waits for what comes of it
        self._pid = os.getpid()

    def say(self, head: dict[str, Any], body: bytes = b"") -> None:
        """Send a frame; waits while the router does not read.

        Raises: InvalidArgument in a process that the script has forked.
        """
        frame = pack(head, body)
        self._check_process()
        if head["tag"] in PASSING:
            self._send(frame)
        else:
            with self._exchange:
                self._send(frame)

    def _send(self, frame: bytes) -> None:
        with uninterrupted(), self._lock:
            if self._is_alone:
                self._later.append(frame)
            else:
                self._sock.sendall(frame)

    @contextlib.contextmanager
    def alone(self) -> Iterator[Callable[..., None]]:
        """Give what says the frames of an exchange, such as a file and its parts; what other threads say comes after it."""

        def say(head: dict[str, Any], body: bytes = b"") -> None:
            frame = pack(head, body)
            self._check_process()
            with uninterrupted(), self._lock:
                self._sock.sendall(frame)

        with self._exchange:
            try:
                with self._lock:
                    self._is_alone = True
                yield say
            finally:
                with uninterrupted(), self._lock:
                    self._is_alone = False
                    while self._later:
                        self._sock.sendall(self._later.popleft())

    def hear(self) -> Frame:
        """Wait for a frame."""
        return self._unheard.popleft() if self._unheard else self._read()

    def hear_answer(self) -> Frame:
        """Wait for the answer to what the script asked; more input may come before it."""
        while (frame := self._read())[0]["tag"] in INPUT:
            self._unheard.append(frame)
        return frame

    def _read(self) -> Frame:
        self._check_process()
        with uninterrupted():
            head, body = read_frame(self._sock)
        self.running = self.running or head["tag"] == "run"
        return head, body

    def waits(self) -> bool:
        """Tell whether nothing has come that could be heard at once."""
        return not self._unheard and not select.select([self._sock], [], [], 0)[0]

    def notice(self, text: bytes) -> None:
        """Send printed text."""
        self.say({"tag": "notice"}, text)

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise errors.InvalidArgument(
                "run must be used by the script's own process, not by one that it has forked",
                hint="return values from the forked process, and log them in the script",
            )


def serve(sock: socket.socket, limits: Limits, spoken: str = "python") -> None:
    """Serve one call, in one language, then return: the process ends."""
    peer = Peer(sock)
    try:
        try:
            tongue = language.find(spoken, limits)
            called, _, _ = select.select([sock.fileno()], [], [], IDLE_S)
            if not called and spoken == "python":
                rehearse()
            call, _ = peer.hear()
            Conversation(peer, call, tongue, limits).hold()
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


class Conversation:
    """One call: what has come of its input, and what goes out."""

    def __init__(self, peer: Peer, call: Mapping[str, Any], tongue: language.Language, limits: Limits) -> None:
        self._peer = peer
        self._call = call
        self._language = tongue
        self._limits = limits
        self._columns = {given["name"]: _columns(given["columns"]) for given in call["inputs"]}
        self._names = list(self._columns)
        self._split: Mapping[str, Any] | None = call.get("split")
        self._builders = {name: columns.FrameBuilder(listed) for name, listed in self._columns.items()}
        self._whole: dict[str, pd.DataFrame] = {}
        self._run = Run(call, peer.say, peer.hear_answer, peer.alone)
        current_run.enter(self._run)
        self._submitted = SubmittedScript(limits, call["params"], self._run) if call.get("submitted") else None
        if self._submitted is not None:
            self._language = self._submitted
        _check_names(call, self._language)
        expected = None if call.get("expected") is None else _columns(call["expected"])
        name = call["output_name"]
        self._answer = Answer(peer.say, name, limits, expected=expected, as_json=call["result"] == "json")
        self._outputs: dict[str, Answer] = {}
        self._rows_in = 0
        self._last = True
        self._state: dict[str, Any] = {}

    def hold(self) -> None:
        """Hold the conversation to its end."""
        with contextlib.ExitStack() as stack:
            stack.callback(self._language.close)
            if self._split is None:
                self._hear_rows()
                self._begin(stack)
                self._once({})
            else:
                self._hear_pieces(stack)
            params: dict[str, Any] = {}
            if self._call["result"] == "params" and self._last:
                params = {name: parameter(name, self._language.parameter(name)) for name in self._call["params"]}
        self._answer.flush()
        for output in self._outputs.values():
            output.flush()
        if self._call["result"] == "plot":
            self._say_plot()
        own, below = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
        spent = {
            "peak_memory_mb": max(own.ru_maxrss, below.ru_maxrss) / 1024,
            "cpu_seconds": own.ru_utime + own.ru_stime + below.ru_utime + below.ru_stime,
        }
        counts = {"rows_in": self._rows_in, "rows_out": self._answer.rows, "last": self._last}
        self._peer.say({"tag": "done", "params": params, **counts, **spent})

    def _hear_rows(self) -> None:
        while True:
            head, body = self._peer.hear()
            if head["tag"] == "run":
                return
            if head["tag"] == "snapshot" and self._submitted is not None:
                self._submitted.add(body)
            else:
                self._take(head, body)

    def _take(self, head: Mapping[str, Any], body: bytes) -> None:
        self._rows_in += head["n"]
        self._builders[self._names[head["input"]]].append(body, head["n"])

    def _begin(self, stack: contextlib.ExitStack) -> None:
        """Read the script, and turn from here on what is printed into notices."""
        split = self._split and self._split["input"]
        self._whole = {name: builder.frame() for name, builder in self._builders.items() if name != split}
        self._builders.clear()
        if self._limits.cpu_seconds is not None:
            signal.signal(signal.SIGXCPU, _out_of_time(self._limits.cpu_seconds))
        stack.enter_context(capture(self._peer.notice, PRINTED_AT_MOST if self._submitted is None else MOST_PRINTED))
        self._language.load(self._call["script"])

    def _hear_pieces(self, stack: contextlib.ExitStack) -> None:
        """Run the script for each piece as soon as it is whole."""
        assert self._split is not None
        pieces = Pieces(self._columns[self._split["input"]], self._split.get("keys") or ())
        begun = False
        while True:
            if self._peer.waits():
                self._answer.flush()
            head, body = self._peer.hear()
            if head["tag"] == "rows" and "first" not in head:
                self._take(head, body)
                continue
            if not begun:
                begun = True
                self._begin(stack)
            if head["tag"] == "rows":
                self._rows_in += pieces.append(body, head["n"], head["first"], head["last"])
                self._each(pieces.complete(False), last=False)
                self._peer.say({"tag": "took"})
            elif head["tag"] == "close":
                self._each(pieces.complete(True), last=False)
                self._answer.flush()
                self._peer.say({"tag": "closed"})
            else:
                whole = pieces.complete(True)
                if head["once"]:
                    whole = iter([pieces.empty()])
                self._last = head["last"]
                self._each(whole, last=self._last)
                return

    def _each(self, whole: Iterator[Piece], *, last: bool) -> None:
        assert self._split is not None
        name, by = self._split["input"], self._split["by"]
        ahead = next(whole, None)
        while ahead is not None:
            piece, ahead = ahead, next(whole, None)
            given: dict[str, Any] = {name: piece.frame}
            if by == "partition":
                self._peer.say({"tag": "group", "key": _key_text(piece.values)})
                given |= {key: value for key, value in piece.values.items() if key.isidentifier()}
                try:
                    self._once(given, piece, piece.number)
                except errors.DbmlError as error:
                    raise _in_group(error, piece.values) from None
            elif by == "read":
                self._once(
                    given | {"first_chunk": piece.number == 0, "last_chunk": last and ahead is None, "state": self._state},
                    number=piece.number,
                )
            else:
                self._once(given, number=piece.number)

    def _once(self, given: dict[str, Any], group: Piece | None = None, number: int = 0) -> None:
        """Run the script, and take what it leaves; number: of the piece."""
        call = self._call
        variables: dict[str, Any] = dict(self._whole)
        params = call["params"]
        if self._split is not None:
            variables = {name: frame.copy(deep=False) for name, frame in self._whole.items()}
            params = copy.deepcopy(params)
        variables.update(params, run=self._run, **given)
        if self._split is None:
            self._whole = {}
        _seed(self._call.get("seed"), number)
        own = os.getpid()
        try:
            self._language.run(variables, self._columns)
        except errors.DbmlError as error:
            if os.getpid() != own:
                print(error.context, f"{type(error).__name__}: {error}", sep="\n", file=sys.stderr, flush=True)
                os._exit(1)
            raise
        if os.getpid() != own:  # forked by the script, and come to the script's end
            os._exit(0)
        del variables, given
        self._draw(group)
        for name, value in self._run.take_outputs().items():
            self._output(name, value, group)
        if call["result"] == "keep":
            self._output(call["output_name"], self._language.result(call["output_name"]), group)
        elif call["result"] in ("table", "json"):
            self._add(self._answer, call["output_name"], self._language.result(call["output_name"]), group)

    def _add(self, answer: Answer, name: str, value: Any, group: Piece | None) -> None:
        try:
            answer.add(value, None if group is None else group.keys)
        except (errors.DbmlError, MemoryError, ConnectionError):
            raise
        except Exception as error:  # whatever the script left: its own classes' code runs here
            raise errors.ScriptError(
                f"{name} cannot be read: {script.text_of(error)}", detail={"type": type(error).__qualname__, "line": None}
            ) from None

    def _output(self, name: str, value: Any, group: Piece | None) -> None:
        if name not in self._outputs:
            head = {"tag": "output", "name": name}
            self._outputs[name] = Answer(self._peer.say, f'the output "{name}"', self._limits, head=head)
        self._add(self._outputs[name], f'the output "{name}"', value, group)

    def _say_plot(self) -> None:
        if self._run.first_image is None:
            hint = {"python": "matplotlib.pyplot.plot(...) opens one", "r": "plot(...) draws one"}[
                self._call.get("language", "python")
            ]
            raise errors.InvalidArgument("the script left no figure open", hint=hint)
        body = self._run.first_image.hex().encode()
        self._peer.say({"tag": "frame", "n": 1, "names": ["plot"], "types": ["bytea"], "sizes": [len(body)]}, body)

    def _draw(self, group: Piece | None) -> None:
        """Keep the figures that the script left open."""
        suffix = "" if group is None else " " + _key_text(group.values)
        try:
            for name, png in self._language.figures():
                self._run.keep_image(f"{name}{suffix}"[:255], io.BytesIO(png))
        except (errors.DbmlError, MemoryError, ConnectionError):
            raise
        except Exception as error:  # drawing runs what the script has put into the figure
            raise script.explain(error, self._limits) from None


def _check_names(call: Mapping[str, Any], tongue: language.Language) -> None:
    names = [given["name"] for given in call["inputs"]]
    for given in call["inputs"]:
        tongue.check_name(given["name"], "an input's name")
        listed = [column["name"] for column in given["columns"]]
        twice = sorted({name for name in listed if listed.count(name) > 1}) if len(set(listed)) < len(listed) else []
        if twice:
            raise errors.InvalidArgument(
                f'the input "{given["name"]}" has the column "{twice[0]}" more than once',
                detail={"input": given["name"], "columns": twice}, hint="give each column a name of its own",
            )  # fmt: skip
    for name in call["params"]:
        tongue.check_name(name, "a parameter's name")
        if name in names:
            raise errors.InvalidArgument(f'"{name}" must not be both an input and a parameter')
    tongue.check_name(call["output_name"], "output_name")
    split = call.get("split")
    if split is None:
        return
    taken = {*names, *call["params"], "run"}
    given_too = ("first_chunk", "last_chunk", "state") if split["by"] == "read" else split.get("keys") or ()
    for name in given_too:
        if name in taken:
            raise errors.InvalidArgument(
                f'"{name}" is a variable that {"rows_per_read" if split["by"] == "read" else "partition_by"} sets,'
                " and must not be an input or a parameter",
                hint=f'SELECT "{name}" AS another_name' if split["by"] == "partition" else "rename the parameter",
            )  # fmt: skip


def _columns(given: list[dict[str, str]]) -> list[columns.Column]:
    return [columns.Column(column["name"], column["type"], column["kind"]) for column in given]


def _key_text(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {json.dumps(value, default=str, ensure_ascii=False)}" for name, value in values.items())


def _in_group(error: errors.DbmlError, values: Mapping[str, Any]) -> errors.DbmlError:
    """Return an error that names the group that it came in."""
    fields = error.fields()
    detail = json.loads(fields["detail"]) if fields["detail"] else {}
    detail["group"] = json.loads(json.dumps(values, default=str))
    text = f"group {_key_text(values)}: {fields['message']}"
    return errors.from_fields({**fields, "message": text, "detail": json.dumps(detail, ensure_ascii=False)})


def _seed(seed: int | None, piece: int) -> None:
    """Set random and numpy.random: each piece of a call has numbers of its own, whichever process it is dealt to."""
    if seed is not None:
        random.seed(seed + piece)
        np.random.seed((seed + piece) % (1 << 32))  # what scikit-learn draws from by default


def _out_of_time(cpu_seconds: int) -> Any:
    def raise_(number: int, frame: FrameType | None) -> None:
        raise errors.LimitExceeded(
            f"the script used more processor time than cpu_seconds = {cpu_seconds} allows",
            detail={"limit": "cpu_seconds", "value": cpu_seconds},
        )

    return raise_


def rehearse() -> None:
    """Do once what every call does.

    In the zygote it fills the libraries' caches, and must start no thread; in a satellite that waits for its call it
    touches the memory that it shares with the zygote, so that the copying is done before anyone waits for it.
    """
    given = [columns.Column(kind, kind, kind) for kind in ("int8", "float8", "text")]
    builder = columns.FrameBuilder(given)
    builder.append(b"\n" + b"00" * 8 + b"\n" + b"00" * 8 + b"\n00000001\n78", 1)
    main = sys.modules["__main__"]
    python = script.PythonScript(Limits())
    python.load("y = x.assign(z=x.int8 * 2)")
    python.run({"x": builder.frame(), "run": Run({}, print, _nobody)}, {"x": given})
    sys.modules["__main__"] = main
    listed = [*given, columns.Column("z", "bigint", "int8")]
    table = {"a": [1], "b": [1.5], "c": ["d"], "e": [2]}
    for value, as_json in ((python.result("y"), False), (python.result("y"), True), (table, False)):
        answer = Answer(_silent, "y", Limits(), expected=None if as_json else listed, as_json=as_json)
        answer.add(value)
        answer.flush()
    next(python.figures(), None)


def _silent(head: dict[str, Any], body: bytes = b"") -> None:
    pack(head, body)


def _nobody() -> Frame:
    raise EOFError
