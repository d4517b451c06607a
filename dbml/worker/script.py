"""Scripts: compile, run, and say what went wrong in the script's own terms."""

from __future__ import annotations

import keyword
import linecache
import traceback
import types
from collections.abc import Mapping
from typing import Any

from dbml import errors

FILENAME = "<script>"


def run(script: str, variables: Mapping[str, Any]) -> dict[str, Any]:
    """Run a script in a fresh module named __main__; returns its namespace.

    Raises: ScriptSyntaxError, ScriptExit, ScriptError, LimitExceeded, or what dbml itself raised in it.
    """
    module = types.ModuleType("__main__")
    namespace = vars(module)
    namespace.update(variables)
    import sys

    sys.modules["__main__"] = module
    linecache.cache[FILENAME] = (len(script), None, script.splitlines(keepends=True), FILENAME)
    try:
        code = compile(script, FILENAME, "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        raise _syntax_error(error) from None
    try:
        exec(code, namespace)
    except errors.DbmlError as error:
        error._context = _lines(error)
        raise
    except SystemExit as error:
        raise errors.ScriptExit(
            f"the script called sys.exit({'' if error.code is None else repr(error.code)})",
            detail={"code": error.code if isinstance(error.code, int) else None},
            hint="let the script run to its end: what it leaves in OutputDataSet is the result",
            context=_lines(error),
        ) from None
    except MemoryError as error:
        raise errors.LimitExceeded(
            "the script needs more memory than memory_mb allows", detail={"limit": "memory_mb"}, context=_lines(error)
        ) from None
    except BaseException as error:  # a script may raise anything; this is where it ends
        raise errors.ScriptError(
            _text(error), detail={"type": type(error).__qualname__, "line": _line(error)}, context=_lines(error)
        ) from None
    return namespace


def check_name(name: str, what: str) -> None:
    """Refuse a name that cannot be a variable of a script."""
    if not name.isidentifier() or keyword.iskeyword(name):
        raise errors.InvalidArgument(f"{what} must be the name of a Python variable, got {name!r}")
    if name == "run":
        raise errors.InvalidArgument(f"{what} must not be 'run', which is there for run.log and its like")


def _text(error: BaseException) -> str:
    """Return an exception's own text; a KeyError's is the key, so that it gets its type's name."""
    try:
        text = str(error)
    except Exception:
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


def _lines(error: BaseException) -> str:
    """Return the script's own lines of a traceback, and where a library took over, the line in which it failed."""
    frames = _frames(error)
    lines = [f"script line {f.lineno}, in {f.name}: {f.line}" for f in frames if f.filename == FILENAME]
    if frames and frames[-1].filename != FILENAME and not isinstance(error, errors.DbmlError):
        last = frames[-1]
        lines.append(f"{last.filename.rpartition('site-packages/')[2]} line {last.lineno}, in {last.name}: {last.line}")
    return "\n".join(lines)


def _syntax_error(error: SyntaxError | ValueError) -> errors.ScriptSyntaxError:
    if not isinstance(error, SyntaxError):
        return errors.ScriptSyntaxError(str(error))
    context = f"script line {error.lineno}: {(error.text or '').rstrip()}"
    if error.text and error.offset:
        indent = len(context) - len((error.text or "").rstrip()) + error.offset - 1
        context += "\n" + " " * max(0, indent) + "^"
    return errors.ScriptSyntaxError(error.msg or "invalid syntax", detail={"line": error.lineno}, context=context)
