"""The sandbox: what a process that runs a stranger's Python may use.

`enter` is the one place where a child is cut off.  Now: its own session and scratch directory, a clean environment,
no descriptors but its socket, resource limits, and death with its parent.  Namespaces, Landlock and seccomp belong here.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_prctl = ctypes.CDLL(None, use_errno=True).prctl  # looked up before the fork


@dataclass(frozen=True)
class Limits:
    """Limits of one child process.

    memory_mb: data it may have beyond what it was forked with; scratch_mb: largest file; output_mb: largest result;
    cache_mb: bytes of models that a scorer keeps. None: no limit.
    """

    memory_mb: int | None = 4096
    cpu_seconds: int | None = None
    processes: int | None = None
    open_files: int = 1024
    scratch_mb: int = 1024
    output_mb: int = 1024
    cache_mb: int = 512

    def as_json(self) -> dict[str, Any]:
        """Return the limits as a JSON object."""
        return asdict(self)


def enter(limits: Limits, scratch: str) -> None:
    """Cut this process, freshly forked, off from what is not its own."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    _prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    os.umask(0o077)
    os.chdir(scratch)
    os.environ.clear()
    os.environ.update(
        {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": scratch, "TMPDIR": scratch, "MPLCONFIGDIR": scratch}
    )
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _limit(resource.RLIMIT_NOFILE, limits.open_files)
    _limit(resource.RLIMIT_FSIZE, limits.scratch_mb << 20)
    if limits.memory_mb is not None:
        _limit(resource.RLIMIT_DATA, (limits.memory_mb << 20) + _data_bytes())
    if limits.cpu_seconds is not None:
        _limit(resource.RLIMIT_CPU, limits.cpu_seconds)
    if limits.processes is not None:
        _limit(resource.RLIMIT_NPROC, limits.processes)


def _limit(what: int, value: int) -> None:
    _, hard = resource.getrlimit(what)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(what, (value, value))


def _data_bytes() -> int:
    """Return this process' data now, in bytes: what it was forked with is not counted against its limit."""
    with Path("/proc/self/statm").open(encoding="ascii") as statm:
        return int(statm.read().split()[5]) * resource.getpagesize()
