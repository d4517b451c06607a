"""Compiled files of what a zygote imports: what an installer has left out is made once."""

from __future__ import annotations

import asyncio
import dataclasses
import importlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dbml.worker.environments import bytecode
from dbml.worker.zygote_process import Interpreter, default_sandbox


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory of installed packages, of one that a zygote imports, which its installer has not compiled."""
    folder = tmp_path / "site-packages"
    package = folder / "skops"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "io.py").write_text("dumps = 1\n")
    for path in (tmp_path, *tmp_path.parents):
        if path.stat().st_mode & 0o005 != 0o005 and path.owner() == Path(tmp_path).owner():
            path.chmod(path.stat().st_mode | 0o005)  # the sandbox looks with another account
    monkeypatch.syspath_prepend(str(folder))
    importlib.invalidate_caches()
    for name in [name for name in sys.modules if name.partition(".")[0] == "skops"]:
        monkeypatch.delitem(sys.modules, name)
    yield folder
    importlib.invalidate_caches()


def complete(folder: Path, runtime: Path) -> None:
    own = Interpreter.own()
    interpreter = dataclasses.replace(own, path=f"{folder}:{own.path}", files=(*own.files, str(folder)))
    runtime.mkdir()
    asyncio.run(bytecode.complete(interpreter, default_sandbox(), runtime))


def test_what_is_not_compiled_is_compiled_once(packages: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert bytecode.is_missing(("skops",)) and not bytecode.is_missing(("no_such_package",))
    complete(packages, tmp_path / "runtime")
    assert {path.name.partition(".")[0] for path in packages.rglob("*.pyc")} == {"__init__", "io"}
    assert not bytecode.is_missing(("skops",)) and not [*(tmp_path / "runtime").glob("imports-*")]
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_where_nothing_can_be_written_the_log_says_what_to_do(
    packages: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (packages / "skops" / "__pycache__").write_text("no directory")
    complete(packages, tmp_path / "runtime")
    assert bytecode.is_missing(("skops",))
    (said,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert "some seconds more" in said and "python -m compileall" in said and "__pycache__" in said


def test_a_package_that_is_broken_stops_nobody(packages: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (packages / "skops" / "io.py").write_text("raise RuntimeError('not on this machine')")
    complete(packages, tmp_path / "runtime")
    (said,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert "not on this machine" in said and bytecode.is_missing(("skops",))
