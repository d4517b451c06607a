"""Compiled files of what a zygote imports: some installers leave them to the first import, which may not write here.

Without them a zygote takes three times as long until it has imported everything, and so does whoever waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import logging
import os
import signal
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from dbml.worker.sandbox import bubblewrap, environment
from dbml.worker.sandbox.layers import Sandbox
from dbml.worker.spawn import spawn
from dbml.worker.zygote_process import Interpreter

log = logging.getLogger("dbml.bytecode")

PACKAGES = ("numpy", "pandas", "pyarrow", "scipy", "sklearn", "matplotlib")  # of which an import takes long
_COMPILE = """
import importlib.util, json, os, py_compile, sys
failed = []
for file in json.load(sys.stdin):
    if not os.path.exists(importlib.util.cache_from_source(file)):
        try:
            py_compile.compile(file, quiet=2)
        except OSError as error:
            failed.append(str(error))
print(json.dumps(failed))
"""


class RehearsalFailed(Exception):
    """The packages cannot be imported; the text is what was said."""


def is_missing(packages: Iterable[str] = PACKAGES) -> bool:
    """Tell whether an installed package has a source without a compiled file; imports nothing."""
    for name in packages:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.cached is not None and not Path(spec.cached).exists():
            return True
    return False


async def rehearse(interpreter: Interpreter, sandbox: Sandbox, runtime: Path) -> list[str]:
    """Import what a zygote will import, where it will live; returns the source files of it.

    runtime: a directory in which one is made for what importing writes.

    Raises: RehearsalFailed.
    """
    with tempfile.TemporaryDirectory(prefix="imports-", dir=runtime) as cache:
        sandbox.own(cache)
        sites = [] if interpreter.site is None else [interpreter.site]
        command = sandbox.command(
            interpreter.command(), "dbml.worker.rehearsal", sites, interpreter.files, Path(cache), network=False
        )
        seen = bubblewrap.CACHE if sandbox.layer == "bubblewrap" else cache
        variables = {**environment(seen, 1), "PYTHONPATH": interpreter.path, "PYTHONDONTWRITEBYTECODE": "1"}
        status, said, complained = await _run(command, variables, b"")
    if status != 0:
        raise RehearsalFailed(complained.decode("utf-8", "replace").strip())
    return _strings(said)


async def compile_files(interpreter: Interpreter, files: Sequence[str], home: Path) -> list[str]:
    """Compile the sources that are not yet, which runs no package's code; returns why some cannot be written."""
    command = (interpreter.python, "-I", "-S", "-c", _COMPILE)
    _, said, _ = await _run(command, environment(str(home), 1), json.dumps(list(files)).encode())
    return _strings(said)


async def complete(interpreter: Interpreter, sandbox: Sandbox, runtime: Path) -> None:
    """Compile what the worker's own zygote imports, for the next one; where that cannot be, the log says what to do."""
    log.info("the installed packages are not compiled: that is done once, beside the work")
    try:
        files = [file for file in await rehearse(interpreter, sandbox, runtime) if file.startswith(interpreter.files)]
        failed = await compile_files(interpreter, files, runtime)
    except (RehearsalFailed, OSError) as error:
        failed = str(error).splitlines()[-1:]
    if failed:
        log.warning(
            "the installed packages are not compiled, so that each start takes some seconds more (%s): "
            "run python -m compileall as whoever has installed them", failed[0],
        )  # fmt: skip


def _strings(said: bytes) -> list[str]:
    """Read what a process printed, which a package may have printed instead."""
    try:
        found = json.loads(said)
    except ValueError:
        return []
    return [each for each in found if isinstance(each, str)] if isinstance(found, list) else []


async def _run(command: Sequence[str], variables: Mapping[str, str], given: bytes) -> tuple[int, bytes, bytes]:
    """Run a command to its end; cancelled, it is killed with all that it started."""
    pipe = asyncio.subprocess.PIPE
    process = await spawn(
        *command, cwd="/", env=variables, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True, tied=True
    )
    try:
        said, complained = await process.communicate(given)
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await asyncio.shield(process.wait())
    return process.returncode or 0, said, complained
