"""What a script's error becomes: the script's own text and lines, and no line of the machinery."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from dbml import errors
from dbml.worker import script
from dbml.worker.sandbox import Limits


@pytest.fixture(autouse=True)
def _main() -> Iterator[None]:
    main = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = main


def run(text: str, **variables: Any) -> dict[str, Any]:
    python = script.PythonScript(Limits())
    python.load(text)
    python.run(variables, {})
    return vars(sys.modules["__main__"])


def fail(text: str, cls: type[errors.DbmlError] = errors.ScriptError) -> errors.DbmlError:
    with pytest.raises(cls) as caught:
        run(text)
    assert type(caught.value) is cls
    return caught.value


def test_a_script_is_a_module_named_main() -> None:
    made = run("import pickle\nclass A: pass\nname = __name__\nsame = pickle.loads(pickle.dumps(A())).__class__ is A")
    assert made["name"] == "__main__" and made["same"]
    assert run("y = x + 1", x=2)["y"] == 3


def test_no_future_of_ours_leaks_into_it() -> None:
    assert run("def f(x: 1 + 1): pass\nnote = f.__annotations__['x']")["note"] == 2


def test_lines_of_the_script_and_the_innermost_of_a_library() -> None:
    error = fail("import json\ndef read(text):\n    return json.loads(text)\n\nread('nope')\n")
    lines = (error.context or "").splitlines()
    assert lines[:2] == ["script line 5, in <module>: read('nope')", "script line 3, in read: return json.loads(text)"]
    assert len(lines) == 3 and "json/decoder.py line" in lines[2]
    assert error.detail == {"type": "JSONDecodeError", "line": 3}
    assert error.message.startswith("Expecting value")


def test_a_package_that_is_not_there_has_a_way_to_come_by_it() -> None:
    assert "dbml.create_environment('mine', 'no_such_package')" in (fail("import no_such_package.part").hint or "")
    assert fail("import json.no_such_module").hint is None
    assert fail("raise ModuleNotFoundError('mine')").hint is None
    assert fail("raise ModuleNotFoundError('mine', name=5)").hint is None


@pytest.mark.parametrize(
    ("text", "message", "type_"),
    [
        ("1/0", "division by zero", "ZeroDivisionError"),
        ("raise ValueError", "ValueError", "ValueError"),
        ("raise KeyError('a')", "KeyError: 'a'", "KeyError"),
        ("class E(Exception):\n    def __str__(self): raise RuntimeError\nraise E", "E", "E"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt", "KeyboardInterrupt"),
        ("raise ExceptionGroup('two', [ValueError(1), OSError(2)])", "two (2 sub-exceptions)", "ExceptionGroup"),
    ],
)
def test_messages(text: str, message: str, type_: str) -> None:
    error = fail(text)
    assert (error.message, error.detail["type"]) == (message, type_)


def test_the_cause_is_told() -> None:
    error = fail("try:\n    1/0\nexcept ZeroDivisionError as e:\n    raise ValueError('outer') from e")
    assert error.message == "outer"
    assert (error.context or "").endswith("caused by ZeroDivisionError: division by zero (script line 2)")


def test_a_long_traceback_is_shortened() -> None:
    error = fail("def f(n):\n    return f(n + 1)\nf(0)")
    assert error.detail["type"] == "RecursionError"
    assert 20 <= len((error.context or "").splitlines()) <= 22 and "more …" in (error.context or "")


@pytest.mark.parametrize(
    ("text", "line"), [("x = 1\ny = = 2", 2), ("if True:\nx = 1", 2), ("x = 'a", 1), ("return 3", 1), ("x = (", 1)]
)
def test_a_syntax_error_shows_its_line(text: str, line: int) -> None:
    error = fail(text, errors.ScriptSyntaxError)
    assert error.detail == {"line": line}
    first, *caret = (error.context or "").splitlines()
    assert first.startswith(f"script line {line}: ") and (not caret or caret[0].strip() == "^")


def test_the_caret_stands_under_the_fault() -> None:
    first, caret = (fail("x = = 2", errors.ScriptSyntaxError).context or "").splitlines()
    assert first[caret.index("^") :] == "= 2"


def test_null_characters_and_depth_do_not_break_the_compiler() -> None:
    fail("x = 1\x00", errors.ScriptSyntaxError)
    fail("x = " + "(" * 300 + ")" * 300, errors.ScriptSyntaxError)
    fail("x = " + "-" * 200_000 + "1", errors.ScriptSyntaxError)


@pytest.mark.parametrize(("code", "shown"), [("", ""), ("0", "0"), ("3", "3"), ("'bad'", "'bad'")])
def test_exit_is_an_error_of_its_own(code: str, shown: str) -> None:
    error = fail(f"import sys\nsys.exit({code})", errors.ScriptExit)
    assert error.message == f"the script called sys.exit({shown})"
    assert error.context == f"script line 2, in <module>: sys.exit({code})"


def test_memory_and_files_name_their_limit() -> None:
    error = fail("raise MemoryError", errors.LimitExceeded)
    assert "memory_mb = 4096" in error.message and error.detail == {"limit": "memory_mb", "value": 4096}
    error = fail("import errno\nraise OSError(errno.EFBIG, 'File too large')", errors.LimitExceeded)
    assert "scratch_mb = 1024" in error.message


def test_an_error_of_dbml_keeps_its_class_and_gains_the_lines() -> None:
    error = fail("from dbml import errors\nraise errors.ModelNotFound('no', hint='h')", errors.ModelNotFound)
    assert (error.message, error.hint) == ("no", "h") and "script line 2" in (error.context or "")


def test_what_travels_has_no_character_zero() -> None:
    assert script.sendable(errors.ScriptError("a\x00b"))["message"] == "a\ufffdb"


@pytest.mark.parametrize("name", ["not ok", "1a", "class", "", "run", "a-b", "__builtins__"])
def test_names_that_cannot_be_variables(name: str) -> None:
    with pytest.raises(errors.InvalidArgument):
        script.PythonScript(Limits()).check_name(name, "a parameter's name")
    script.PythonScript(Limits()).check_name("größe", "a parameter's name")
