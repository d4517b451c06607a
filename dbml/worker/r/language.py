"""R scripts: one R process a satellite, started ahead of its call, which takes requests over a pipe.

    Python -> R  load, run, result, parameter, figures; value or error, the answer to a verb
    R -> Python  value, error, refused (it cannot be carried), quit; verb, while the script runs

What R prints comes through a third pipe, which is emptied whenever R is waited for, and goes where Python prints.
"""

from __future__ import annotations

import codecs
import io
import math
import os
import re
import resource
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

import numpy as np
import pandas as pd

from dbml import columns, errors
from dbml.columns import Column
from dbml.worker.printed import LONGEST_NOTICE
from dbml.worker.r import wire
from dbml.worker.run import Run
from dbml.worker.sandbox import Limits
from dbml.worker.sandbox.limits import INTERPRETER_MB
from dbml.worker.script import MOST_LINES, out_of_memory

PROGRAM = Path(__file__).with_name("program.R")
OPTIONS = ("--no-echo", "--no-restore", "--no-save", "--no-site-file", "--no-init-file")
# As -f, which reads as a console does, it would take 0.15 s.
START = "eval(parse(commandArgs(TRUE)[4],keep.source=FALSE))"
QUIET_MS = 2  # after which what R has printed so far is a notice: it writes one print in several pieces
PIPE_BYTES = 1 << 20
F_SETPIPE_SZ = 1031

_NAME = re.compile(r"(?:[^\W\d_]|\.(?!\d))[\w.]*")
_RESERVED: Final = frozenset(
    {
        "if", "else", "repeat", "while", "function", "for", "next", "break", "TRUE", "FALSE", "NULL", "Inf", "NaN", "NA",
        "NA_integer_", "NA_real_", "NA_complex_", "NA_character_", "in", "...",
    }
)  # fmt: skip
_NO_MEMORY = re.compile(
    r"cannot allocate (?:vector|memory|buffer)|memory exhausted|Cannot allocate memory|negative length vectors"
)
# By what R says of a limit that the kernel has held against it, where it says so and goes on.
_LIMITS: Final = {
    "processes": re.compile(r"unable to fork|cannot fork|(?:fork|cannot popen).*Resource temporarily unavailable"),
    "scratch_mb": re.compile(r"No space left on device|File too large|Disk quota exceeded"),
}
_SYNTAX = re.compile(r"\S*?:(\d+):(\d+): (.*)")


def _limited(limits: Limits) -> list[str]:
    """Return how a command begins that has not the memory that we were forked with: what R takes, and the script may."""
    if limits.memory_mb is None:
        return []
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    kb = (INTERPRETER_MB["r"] + limits.memory_mb) << 10
    return ["/bin/sh", "-c", f'ulimit -S -d {kb if most == resource.RLIM_INFINITY else min(kb, most >> 10)}; exec "$@"', "sh"]


class RScript:
    """R, as the language of a satellite: each run finds an empty global environment."""

    def __init__(self, limits: Limits) -> None:
        program = shutil.which("R", path=os.environ.get("PATH"))
        if program is None:
            raise errors.LanguageMissing(
                "R is not installed where the worker runs",
                detail={"language": "r"}, hint="apt-get install r-base-core, then restart the worker",
            )  # fmt: skip
        self._limits = limits
        self._lines: list[str] = []
        self._listed: set[str] = set()  # parameters that came as lists, and go as lists
        self._run: Run | None = None
        self._raised: list[errors.DbmlError] = []  # by verbs, in this run
        self._ready = False
        self._said = ""  # before it was ready
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._called = os.memfd_create("called")  # as long as it is empty, R rehearses
        their_in, self._in = os.pipe()
        self._out, their_out = os.pipe()
        self._printed, their_print = os.pipe()
        for number in (self._in, self._out, self._printed):
            os.set_blocking(number, False)
        descriptors = (their_in, their_out, self._called)
        command = [program, *OPTIONS, "-e", START, "--args", *map(str, descriptors), str(PROGRAM)]
        self._process = subprocess.Popen(
            [*_limited(limits), *command], stdin=subprocess.DEVNULL, stdout=their_print, stderr=their_print, pass_fds=descriptors,
            env={"LANG": "C.UTF-8", **os.environ, "LANGUAGE": "en", "TZ": "UTC"},
        )  # fmt: skip
        for number in (their_in, their_out, their_print):
            os.close(number)
        self._ended = os.pidfd_open(self._process.pid)
        _rehearse()  # while R starts

    @property
    def pid(self) -> int:
        """Return the id of the R process."""
        return self._process.pid

    def check_name(self, name: str, what: str) -> None:
        """Refuse a name that cannot be a variable of a script."""
        if not _NAME.fullmatch(name) or name in _RESERVED:
            raise errors.InvalidArgument(f"{what} must be the name of an R variable, got {name!r}")
        if name == "run":
            raise errors.InvalidArgument(f"{what} must not be {name!r}, which is there already")

    def load(self, script: str) -> None:
        """Let R parse the script.

        Raises: ScriptSyntaxError.
        """
        self._await_start()
        self._lines = re.split(r"\r\n|\r|\n", script)
        try:
            self._ask("load", lambda writer: writer.character(self._lines))
        except errors.ScriptError as error:
            raise self._syntax_error(error.message) from None

    def run(self, variables: Mapping[str, Any], columns: Mapping[str, Sequence[Column]]) -> None:
        """Run the script.

        Raises: ScriptExit, ScriptError, ScriptCrashed, LimitExceeded, UnsupportedType, or what dbml itself raised in it.
        """
        given = {name: value for name, value in variables.items() if name not in ("run", "state")}
        self._run = variables.get("run")
        self._raised = []
        self._listed = {name for name, value in given.items() if isinstance(value, list)}

        def arguments(writer: wire.Writer) -> None:
            if given:
                writer.names(list(given))
            writer.items(len(given))
            for name, value in given.items():
                if isinstance(value, pd.DataFrame):
                    writer.frame(value, columns[name])
                else:
                    writer.value(value, name)
            writer.value(None if self._run is None else _known(self._run), "run")
            writer.logical(["state" in variables])

        outputs = self._ask("run", arguments, 3)
        self._check_files()
        if self._run is not None and isinstance(outputs, wire.Items):
            named = outputs.names or [""] * len(outputs.items)
            self._run.outputs.update({name: None if made is None else wire.to_frame(made)
                                      for name, made in zip(named, outputs.items, strict=True)})  # fmt: skip

    def _check_files(self) -> None:
        """Refuse files that are cut off: R writes on, and says nothing, where no room is left."""
        found = os.statvfs(os.environ["HOME"])
        value = self._limits.scratch_mb
        if found.f_bavail == 0 and found.f_blocks * found.f_frsize <= value << 20:
            raise errors.LimitExceeded(
                f"the script needs more than scratch_mb = {value} allows: no space is left for its files",
                detail={"limit": "scratch_mb", "value": value},
            )

    def result(self, name: str) -> pd.DataFrame | None:
        """Return what the last run left under a name."""
        found = self._ask("result", lambda writer: writer.character([name]))
        return None if found is None else wire.to_frame(found)

    def parameter(self, name: str) -> Any:
        """Return the value of a parameter at the end of the last run.

        Raises: UnsupportedType.
        """
        found = self._ask("parameter", lambda writer: writer.character([name]))
        if name in self._listed and isinstance(found, wire.Vector):
            return wire.to_list(found, name)
        return wire.to_python(found, name)

    def figures(self) -> Iterator[tuple[str, bytes]]:
        """Yield the pages that the last run plotted to the default device, as PNG."""
        found = self._ask("figures", lambda writer: None, 0)
        for number, png in enumerate(found.items, 1):
            yield f"figure {number}", png

    def close(self) -> None:
        """End the R process."""
        self._end()

    # ------------------------------------------------------------ the conversation

    def _end(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
            self._process.wait()
        for number in (self._in, self._out, self._printed, self._ended, self._called):
            if number >= 0:
                os.close(number)
        self._in = self._out = self._printed = self._ended = self._called = -1

    def _await_start(self) -> None:
        """Wait until R is ready, and hold against it only the memory and the time that it takes from now on."""
        if self._ready:
            return
        os.write(self._called, b"1")
        try:
            self._receive()
        except errors.ScriptCrashed as error:
            said = self._said.strip()
            if _LIMITS["processes"].search(said):
                value = self._limits.processes
                raise errors.LimitExceeded(
                    f"R needs more than processes = {value} allows, to start", detail={"limit": "processes", "value": value}
                ) from None
            raise errors.ScriptCrashed(f"R did not start: {said or error.message}", detail=error.detail) from None
        self._ready = True
        process = Path(f"/proc/{self.pid}")
        try:
            pages = int((process / "statm").read_text("ascii").split()[5])
            ticks = sum(map(int, (process / "stat").read_text("ascii").rpartition(")")[2].split()[11:13]))
        except PermissionError:  # under Landlock alone no process sees another: the limits that R has begun with hold
            return
        if self._limits.memory_mb is not None:
            self._limit(resource.RLIMIT_DATA, pages * resource.getpagesize() + (self._limits.memory_mb << 20))
        if self._limits.cpu_seconds is not None:
            self._limit(resource.RLIMIT_CPU, math.ceil(ticks / os.sysconf("SC_CLK_TCK")) + self._limits.cpu_seconds)

    def _limit(self, what: int, value: int) -> None:
        """Set a limit of the R process, as far as its own hard limit allows."""
        _, most = resource.prlimit(self.pid, what)
        resource.prlimit(self.pid, what, (value if most == resource.RLIM_INFINITY else min(value, most), most))

    def _ask(self, request: str, arguments: Any, count: int = 1) -> Any:
        """Send a request and return the value that R answers; serve the script's verbs in between."""
        self._send(request, arguments, count)
        while True:
            kind, *rest = self._receive()
            if kind == "value":
                return rest[0]
            if kind == "verb":
                self._serve_verb(wire.to_python(rest[0], "a verb"), rest[1])
            else:
                self._fail(kind, rest)

    def _fail(self, kind: str, rest: list[Any]) -> NoReturn:
        """Raise what R has told."""
        if kind == "refused":
            message, name, type_, hint = (wire.to_python(part, kind) for part in rest)
            column = re.fullmatch(r'column "(.*)"', name, re.DOTALL)
            detail = {"column": column[1]} if column else {"name": name}
            raise errors.UnsupportedType(message, detail={**detail, "type": type_}, hint=hint)
        if kind == "quit":
            self._exited(wire.to_list(rest[0], kind))
        lines = wire.to_list(rest.pop(2), kind)
        message, class_, call, number = (wire.to_python(part, kind) for part in rest)
        context = self._context(lines, call)
        if number is not None:
            fields = self._raised[int(number)].fields()
            raise errors.from_fields(fields | {"context": context or fields["context"]})
        if _NO_MEMORY.search(message):
            raise out_of_memory(self._limits, context)
        limit = next((name for name, said in _LIMITS.items() if said.search(message)), None)
        if limit is not None:
            value = self._limits.as_json()[limit]
            raise errors.LimitExceeded(
                f"the script needs more than {limit} = {value} allows: {message}",
                detail={"limit": limit, "value": value, "line": lines[-1] if lines else None}, context=context,
            )  # fmt: skip
        detail = {"type": class_, "line": lines[-1] if lines else None}
        raise errors.ScriptError(message or class_, detail=detail, context=context)

    def _context(self, numbers: list[int], call: str | None) -> str | None:
        lines = [f"script line {number}: {self._line(number).strip()}" for number in numbers]
        if len(lines) > MOST_LINES:
            half = MOST_LINES // 2
            lines[half:-half] = [f"… {len(lines) - MOST_LINES} more …"]
        if call and not (lines and call.partition("(")[0] in lines[-1]):
            lines.append(f"in {call[:200]}")
        return "\n".join(lines) or None

    def _line(self, number: int) -> str:
        return self._lines[number - 1] if 0 < number <= len(self._lines) else ""

    def _syntax_error(self, message: str) -> errors.ScriptSyntaxError:
        first = message.partition("\n")[0]
        found = _SYNTAX.match(first)
        if found is None:
            return errors.ScriptSyntaxError(message)
        number, column, text = int(found[1]), int(found[2]), found[3]
        if number > len(self._lines) or column == 0:  # it is the end that is unexpected
            number = max(n for n in range(min(number, len(self._lines)) + 1) if n == 0 or self._line(n).strip()) or 1
            column = len(self._line(number)) + 1
        context = f"script line {number}: "
        context += self._line(number) + "\n" + " " * (len(context) + column - 1) + "^"
        return errors.ScriptSyntaxError(text, detail={"line": number}, context=context)

    def _exited(self, lines: list[int]) -> NoReturn:
        code = self._wait_for_end()
        raise errors.ScriptExit(
            f"the script called quit(status = {code})",
            detail={"code": code, "line": lines[-1] if lines else None},
            hint="let the script run to its end: what it leaves in OutputDataSet is the result",
            context=self._context(lines, None),
        )

    def _died(self) -> NoReturn:
        """Raise what the end of the process means."""
        code = self._wait_for_end()
        limits = self._limits.as_json()
        if code == -signal.SIGXCPU:
            raise errors.LimitExceeded(
                f"the script used more processor time than cpu_seconds = {limits['cpu_seconds']} allows",
                detail={"limit": "cpu_seconds", "value": limits["cpu_seconds"]},
            )
        if code == -signal.SIGXFSZ:
            raise errors.LimitExceeded(
                f"the script wrote a larger file than scratch_mb = {limits['scratch_mb']} allows",
                detail={"limit": "scratch_mb", "value": limits["scratch_mb"]},
            )
        if code >= 0:
            raise errors.ScriptCrashed(f"R ended with exit code {code} without finishing", detail={"code": code})
        try:
            name = f" ({signal.Signals(-code).name})"
        except ValueError:
            name = ""
        raise errors.ScriptCrashed(f"R was killed by signal {-code}{name}", detail={"signal": -code})

    def _wait_for_end(self) -> int:
        while not select.select([self._ended], [], [], 0)[0]:
            if select.select([self._ended, self._printed], [], [], 1)[0] == [self._printed] and not self._print():
                break
        code = self._process.wait()
        self._print()
        return code

    # ------------------------------------------------------------ bytes

    def _send(self, request: str, arguments: Any, count: int) -> None:
        writer = wire.Writer()
        writer.items(1 + count)
        writer.character([request])
        arguments(writer)
        self._write(writer.parts)

    def _write(self, parts: list[Any]) -> None:
        small: list[Any] = []
        for part in [*parts, None]:
            if part is not None and len(part) < PIPE_BYTES:
                small.append(part)
                continue
            self._write_all(b"".join(small))
            small = []
            if part is not None:
                self._write_all(part)

    def _write_all(self, content: Any) -> None:
        view = memoryview(content)
        while view:
            self._wait(writing=True)
            try:
                view = view[os.write(self._in, view) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                self._died()

    def _receive(self) -> list[Any]:
        """Wait for a message: its kind and its values."""
        message = wire.read_value(self._read)
        return [wire.to_python(message.items[0], "a message"), *message.items[1:]]

    def _read(self, n: int) -> bytes:
        content = bytearray(n)
        view = memoryview(content)
        while view:
            self._wait()
            try:
                got = os.readv(self._out, [view])
            except BlockingIOError:
                continue
            if not got:
                self._died()
            view = view[got:]
        return bytes(content)

    def _wait(self, *, writing: bool = False) -> None:
        """Wait until R can be read from, or written to; pass on what it prints meanwhile.

        Raises: what the end of R means.
        """
        poll = select.poll()
        poll.register(self._in if writing else self._out, select.POLLOUT if writing else select.POLLIN)
        poll.register(self._printed, select.POLLIN)
        poll.register(self._ended, select.POLLIN)
        while True:
            ready = {number for number, _ in poll.poll()}
            if self._printed in ready and not self._print():
                poll.unregister(self._printed)
            if (self._in if writing else self._out) in ready:
                return
            if self._ended in ready:
                self._died()

    def _print(self) -> bool:
        """Pass on what R has printed, once it pauses or has an answer; False at its end."""
        content = bytearray()
        more = True
        while len(content) < LONGEST_NOTICE:
            try:
                got = os.read(self._printed, LONGEST_NOTICE)
            except BlockingIOError:
                ready, _, _ = select.select([self._printed, self._out], [], [], QUIET_MS / 1000)
                if self._printed not in ready:
                    break
                continue
            if not got:
                more = False
                break
            content += got
        text = self._decoder.decode(content)
        if not self._ready:
            self._said += text
        elif text:
            sys.stdout.write(text)
        return more

    # ------------------------------------------------------------ verbs

    def _serve_verb(self, verb: str, given: wire.Items) -> None:
        writer = wire.Writer()
        try:
            value = self._do_verb(verb, dict(zip(given.names or (), given.items, strict=True)))
            writer.items(2)
            writer.character(["value"])
            writer.value(value, verb)
        except (MemoryError, EOFError, ConnectionError):
            raise
        except Exception as error:  # whatever a verb raises is the script's to catch
            number = None
            if isinstance(error, errors.DbmlError):
                number = len(self._raised)
                self._raised.append(error)
            writer = wire.Writer()
            writer.items(5)
            writer.character(["error"])
            writer.character([str(error) or type(error).__name__])
            writer.character([type(error).__name__])
            writer.character([error.sqlstate if isinstance(error, errors.DbmlError) else None])
            writer.value(number, verb)
        self._write(writer.parts)

    def _do_verb(self, verb: str, parts: dict[str, Any]) -> Any:
        run = self._run
        if run is None:
            raise errors.InvalidArgument("there is no run")
        given = {name: wire.to_python(part, name) for name, part in parts.items()}
        match verb:
            case "log":
                run.log(given["name"], given["value"], _whole(given.get("step")))
            case "log_list":
                run.log_list(given["name"], _listed(given["values"]))
            case "log_row":
                values = given["values"]
                if not isinstance(values, dict) or "" in values:
                    hint = 'run$log_row("errors", mae = 0.1, rmse = 0.2)'
                    raise errors.InvalidArgument("the values of a row must have names", hint=hint)
                for column, value in values.items():
                    run.log(f"{given['name']}.{column}", value)
            case "log_table":
                run.log_table(given["name"], given["value"])
            case "load_model":
                return run.load_bytes(given["name"])
            case "register_model":
                content = given.pop("content")
                return run.register_bytes(given.pop("name"), content, format="rds", **given)
            case "get_metrics":
                return run.get_metrics(given.get("name"))
            case "upload_file":
                run.upload_file(given["name"], given["path"])
            case "log_image":
                run.log_image(given["name"], given["path"])
            case "tag":
                run.tag(given["name"], given["value"])
            case "progress":
                run.progress(given["done"], given.get("total"))
            case _:
                raise errors.InvalidArgument(f"run has no verb {verb!r}")
        return None


def _rehearse() -> None:
    """Do once what every call does, so that memory shared with the zygote is copied before anyone waits for it."""
    listed = [Column("", "integer", "int4"), Column("", "double precision", "float8"), Column("", "text", "text")]
    text = pd.Series([""], dtype=pd.StringDtype("pyarrow", na_value=np.nan))
    writer = wire.Writer()
    writer.frame(pd.concat([pd.Series([1]), pd.Series([0.5]), text], axis=1), listed)
    found = wire.read_value(io.BytesIO(b"".join(writer.parts)).read)
    for _ in columns.encode_frame(wire.to_frame(found), listed, 1):
        pass


def _known(run: Run) -> dict[str, Any]:
    return {"id": run.id, "workspace": run.workspace, "experiment": run.experiment, "user": run.user}


def _whole(step: Any) -> Any:
    """Return a step as an integer where R has it as a double."""
    return int(step) if isinstance(step, float) and step.is_integer() else step


def _listed(values: Any) -> list[Any]:
    if isinstance(values, dict):
        return list(values.values())
    return values if isinstance(values, list) else [values]
