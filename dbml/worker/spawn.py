"""The router's own child processes, and those that come to it because their parents have died.

What a script has started belongs to its satellite, then to the zygote, which ends it.  When the zygote is killed, it
comes to the router, the next of its ancestors that adopts; so whatever is a child of ours and was not started by us
is a script's, and its script is over.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from dbml.worker.sandbox import adopt

PATIENCE_S = 2.0
LOOK_S = 0.02
BURY_S = 2.0
# PR_SET_PDEATHSIG, which lasts through exec; a parent that has died before is seen.
_TIED = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9, 0, 0, 0);"
    " os.getppid() == int(sys.argv[1]) or os._exit(1); os.execvpe(sys.argv[2], sys.argv[2:], os.environ)"
)

_known: set[int] = set()
_starting = 0
_adopting = False


def adopt_strays() -> None:
    """Become the parent of processes that have lost theirs; every child of this process is started by `spawn` from now on."""
    global _adopting
    adopt()
    _adopting = True


async def spawn(*command: str, tied: bool = False, **options: Any) -> asyncio.subprocess.Process:
    """Start a process, as `asyncio.create_subprocess_exec` does; tied: it is killed when we die."""
    global _starting
    if tied:
        command = (sys.executable, "-I", "-S", "-c", _TIED, str(os.getpid()), *command)
    _starting += 1
    try:
        process = await asyncio.create_subprocess_exec(*command, **options)
        _known.add(process.pid)
    finally:
        _starting -= 1
    return process


async def end_strays() -> None:
    """Kill and bury the children that we have not started, and what comes to us when they are dead.

    Does nothing in a process that did not `adopt_strays`: its children may be others'.
    """
    if not _adopting:
        return
    deadline = time.monotonic() + PATIENCE_S
    quiet = 0
    while quiet < 3 and time.monotonic() < deadline:
        strays = [] if _starting else _strays()
        for pid in strays:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        quiet = 0 if strays or _starting else quiet + 1
        await asyncio.sleep(LOOK_S)


async def bury_strays() -> None:
    """Bury, for ever, those among our adopted children that have ended by themselves; as `end_strays` else."""
    while _adopting:
        await asyncio.sleep(BURY_S)
        for pid in [] if _starting else _strays():
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def _strays() -> list[int]:
    found: set[int] = set()
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            found |= set(map(int, (thread / "children").read_text("ascii").split()))
    _known.intersection_update(found)
    return sorted(found - _known)
