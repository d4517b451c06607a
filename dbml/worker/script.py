"""Python scripts: compile, run, and say what went wrong in the script's own terms."""

from __future__ import annotations

import errno
import io
import keyword
import linecache
import os
import socket
import sys
import traceback
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dbml import errors
from dbml.columns import Column
from dbml.worker.sandbox import Limits, use_reserve
from dbml.worker.space import FULL, no_room

FILENAME = "<script>"
MOST_LINES = 20  # of a context: the first and the last half are shown
NO_WAY = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN)
REFUSED = (errno.EPERM, errno.EACCES, errno.ECONNREFUSED, errno.EAFNOSUPPORT)  # to a socket


class PythonScript:
    """Python, as the language of a satellite: each run is a fresh module named __main__."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._code: types.CodeType | None = None
        self._namespace: dict[str, Any] = {}

    def check_name(self, name: str, what: str) -> None:
        """Refuse a name that cannot be a variable of a script."""
        if not name.isidentifier() or keyword.iskeyword(name):
            raise errors.InvalidArgument(f"{what} must be the name of a Python variable, got {name!r}")
        if name in ("run", "__builtins__", "__name__"):
            raise errors.InvalidArgument(f"{what} must not be {name!r}, which is there already")

    def load(self, script: str) -> None:
        """Compile the script.

        Raises: ScriptSyntaxError.
        """
        linecache.cache[FILENAME] = (len(script), None, script.splitlines(keepends=True), FILENAME)
        try:
            self._code = compile(script, FILENAME, "exec", dont_inherit=True)
        except (SyntaxError, ValueError) as error:
            raise _syntax_error(error) from None
        except (RecursionError, MemoryError):  # the compiler has either for this
            raise errors.ScriptSyntaxError("the script is nested too deeply to be compiled") from None

    def run(self, variables: Mapping[str, Any], columns: Mapping[str, Sequence[Column]]) -> None:
        """Run the script.

        Raises: ScriptExit, ScriptError, LimitExceeded, or what dbml itself raised in it.
        """
        assert self._code is not None
        module = types.ModuleType("__main__")
        self._namespace = vars(module)
        self._namespace.update(variables)
        sys.modules["__main__"] = module
        try:
            exec(self._code, self._namespace)
        except BaseException as error:  # a script may raise anything; this is where it ends
            if isinstance(error, MemoryError):
                use_reserve()
            raise explain(error, self._limits) from None

    def result(self, name: str) -> Any:
        """Return what the last run left under a name."""
        return self._namespace.get(name)

    def parameter(self, name: str) -> Any:
        """Return the value of a parameter at the end of the last run."""
        return self._namespace.get(name)

    def figures(self) -> Iterator[tuple[str, bytes]]:
        """Yield matplotlib's open figures that run.log_image has not kept, by their label or number, and close them."""
        if "matplotlib.pyplot" not in sys.modules:
            return
        pyplot: Any = sys.modules["matplotlib.pyplot"]
        for number in pyplot.get_fignums():
            figure = pyplot.figure(number)
            if not getattr(figure, "dbml_kept", False):
                drawn = io.BytesIO()
                figure.savefig(drawn, format="png")
                label = str(figure.get_label())
                yield (label if label and label.isprintable() and len(label) <= 200 else f"figure {number}"), drawn.getvalue()
            pyplot.close(figure)

    def close(self) -> None:
        """Do nothing: the process ends with its script."""


def explain(error: BaseException, limits: Limits) -> errors.DbmlError:
    """Return the error that a caller sees for what a script raised."""
    context = _lines(error)
    if isinstance(error, errors.DbmlError):
        fields = error.fields()
        return errors.from_fields(fields | {"context": context or fields["context"]})
    if isinstance(error, SystemExit):
        return errors.ScriptExit(
            f"the script called sys.exit({'' if error.code is None else repr(error.code)})",
            detail={"code": error.code if isinstance(error.code, int) else None, "line": _line(error)},
            hint="let the script run to its end: what it leaves in OutputDataSet is the result",
            context=context,
        )
    if isinstance(error, MemoryError):
        return out_of_memory(limits, context)
    limit = _limit_of(error)
    if limit is not None:
        value = limits.as_json()[limit]
        return errors.LimitExceeded(
            f"the script needs more than {limit} = {value} allows: {text_of(error)}",
            detail={"limit": limit, "value": value, "line": _line(error)}, context=context,
        )  # fmt: skip
    if isinstance(error, OSError) and error.errno in FULL:
        full = no_room("what the script writes")
        return errors.LimitExceeded(full.message, detail={**full.detail, "line": _line(error)}, hint=full.hint, context=context)
    detail = {"type": type(error).__qualname__, "line": _line(error)}
    hint = _hint(error)
    if not limits.network and _wants_network(error):
        detail |= {"limit": "network", "value": False}
        hint = "SELECT name, network, granted_to FROM dbml.pools"
    return errors.ScriptError(text_of(error), detail=detail, hint=hint, context=context)


def _hint(error: BaseException) -> str | None:
    """Return how to come by a package that is not there; a module of one that is there is the script's own mistake."""
    if not isinstance(error, ModuleNotFoundError) or not isinstance(error.name, str):
        return None
    package = error.name.partition(".")[0]
    if not package or package in sys.modules:
        return None
    return f"SELECT dbml.create_environment('mine', '{package}'), then environment => 'mine' in the call"


def _wants_network(error: BaseException | None) -> bool:
    """Tell whether an exception, or one that it comes from, is of who finds no network."""
    for _ in range(10):
        if isinstance(error, OSError):
            frames = traceback.extract_tb(error.__traceback__)
            by_socket = bool(frames) and ("socket" in frames[-1].filename or "socket" in (frames[-1].line or ""))
            if isinstance(error, socket.gaierror) or error.errno in NO_WAY or (error.errno in REFUSED and by_socket):
                return True
        if error is None:
            return False
        error = error.__cause__ or error.__context__
    return False


def _limit_of(error: BaseException) -> str | None:
    """Return the limit that the kernel has held against the script, by the error that it gives for it."""
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        return "processes"
    if not isinstance(error, OSError):
        return None
    if error.errno == errno.EAGAIN and _may_not_fork(error):
        return "processes"
    if error.errno in FULL:  # of a file system of the script's own it is the limit, else the disk is full
        return "scratch_mb" if os.path.ismount(os.environ.get("TMPDIR", "")) else None
    return {errno.EFBIG: "scratch_mb", errno.EMFILE: "open_files"}.get(error.errno or 0)


def _may_not_fork(error: BaseException) -> bool:
    """Tell whether it was a fork that failed: the same error comes from a pipe that is not ready."""
    frames = traceback.extract_tb(error.__traceback__)
    last = f"{frames[-1].name} {frames[-1].line}" if frames else ""
    return "fork" in last or "spawn" in last


def out_of_memory(limits: Limits, context: str | None = None) -> errors.LimitExceeded:
    """Make the error for a script that needs more memory than it may have."""
    return errors.LimitExceeded(
        f"the script needs more memory than memory_mb = {limits.memory_mb} allows",
        detail={"limit": "memory_mb", "value": limits.memory_mb}, context=context,
    )  # fmt: skip


def sendable(error: errors.DbmlError) -> dict[str, str | None]:
    """Return an error's fields as they may travel: PostgreSQL's text has no character zero."""
    return {key: None if text is None else text.replace("\x00", "\ufffd") for key, text in error.fields().items()}


def text_of(error: BaseException) -> str:
    """Return an exception's own text, or its type's name; a KeyError's text is only a key, so it gets both."""
    try:
        text = str(error)
    except BaseException:  # the script's own __str__
        text = ""
    if not text:
        return type(error).__qualname__
    return f"KeyError: {text}" if isinstance(error, KeyError) else text


def _frames(error: BaseException) -> list[traceback.FrameSummary]:
    frames = list(traceback.extract_tb(error.__traceback__))
    while frames and frames[0].filename != FILENAME:
        frames.pop(0)
    return frames


def _line(error: BaseException) -> int | None:
    own = [frame.lineno for frame in _frames(error) if frame.filename == FILENAME]
    return own[-1] if own else None


def _lines(error: BaseException) -> str | None:
    """Return the script's own lines of a traceback, and where a library took over, the line in which it failed."""
    frames = _frames(error)
    lines = [f"script line {f.lineno}, in {f.name}: {f.line}" for f in frames if f.filename == FILENAME]
    if len(lines) > MOST_LINES:
        half = MOST_LINES // 2
        lines[half:-half] = [f"… {len(lines) - MOST_LINES} more …"]
    if frames and frames[-1].filename != FILENAME and not isinstance(error, errors.DbmlError):
        last = frames[-1]
        lines.append(f"{last.filename.rpartition('site-packages/')[2]} line {last.lineno}, in {last.name}: {last.line}")
    cause = error.__cause__
    if cause is not None:
        line = _line(cause)
        lines.append(f"caused by {type(cause).__qualname__}: {text_of(cause)}" + (f" (script line {line})" if line else ""))
    return "\n".join(lines) or None


def _syntax_error(error: SyntaxError | ValueError) -> errors.ScriptSyntaxError:
    if not isinstance(error, SyntaxError):
        return errors.ScriptSyntaxError(str(error))
    line = (error.text or "").rstrip()
    context = f"script line {error.lineno}: {line}"
    if line and error.offset:
        context += "\n" + " " * (len(context) - len(line) + error.offset - 1) + "^"
    return errors.ScriptSyntaxError(error.msg or "invalid syntax", detail={"line": error.lineno}, context=context)
