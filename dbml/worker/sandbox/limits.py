"""Limits: how much of the machine one process of a script or a scorer may use, as far as rlimits hold it."""

from __future__ import annotations

import mmap
import os
import resource
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

CPU_GRACE_S = 5  # from SIGXCPU, which the script's own error follows, to SIGKILL
RESERVE_BYTES = 64 << 20  # what a child that has used up its memory may use to say so
BALLAST_BYTES = 8 << 20  # never touched
# What a language's interpreter may take for itself, where it is a process beside the satellite.
INTERPRETER_MB: Final = {"r": 192}

_ballast: list[mmap.mmap] = []


@dataclass(frozen=True)
class Limits:
    """Limits of one child process; None is no limit.

    memory_mb: memory it may write, beyond what it was forked with; cpu_seconds: of a satellite, a scorer has none;
    processes: with its threads, not held against root; scratch_mb: of its scratch directory, and largest file;
    output_mb: largest result; cache_mb: bytes of models that a scorer keeps; threads: of linear algebra and OpenMP;
    network: whether it may use the network.
    """

    memory_mb: int | None = 4096
    cpu_seconds: int | None = None
    processes: int | None = 256
    open_files: int = 1024
    scratch_mb: int = 1024
    output_mb: int = 1024
    cache_mb: int = 512
    threads: int = min(2, os.cpu_count() or 1)
    network: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return the limits as a JSON object."""
        return asdict(self)


def apply(limits: Limits, *, own_account: bool) -> None:
    """Set this process' rlimits.

    own_account: the kernel counts its processes apart from the machine's, as in a user namespace of its own.
    """
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, limits.open_files)
    _limit(resource.RLIMIT_FSIZE, limits.scratch_mb << 20)
    if limits.memory_mb is not None:
        # Addresses without pages: the limit counts both alike, and a child that never needs them pays nothing.
        _ballast.append(mmap.mmap(-1, BALLAST_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        # Not RLIMIT_AS: libraries reserve far more addresses than they use, and a reserve of addresses harms nobody.
        _limit(resource.RLIMIT_DATA, _data_bytes() + (limits.memory_mb << 20), RESERVE_BYTES)
    if limits.cpu_seconds is not None:
        _limit(resource.RLIMIT_CPU, limits.cpu_seconds, CPU_GRACE_S)
    if limits.processes is not None and os.getuid() != 0:
        _limit(resource.RLIMIT_NPROC, limits.processes if own_account else _tasks() + limits.processes)


def use_reserve() -> None:
    """Let a process that has used up its memory have the reserve, to say so."""
    _ballast.clear()  # without it not even the call below finds memory
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))


def _limit(what: int, value: int, grace: int = 0) -> None:
    """Set a limit, and a hard one that is higher by grace, as far as this process may."""
    _, most = resource.getrlimit(what)
    hard = value + grace if most == resource.RLIM_INFINITY else min(value + grace, most)
    resource.setrlimit(what, (min(value, hard), hard))


def _data_bytes() -> int:
    """Return what RLIMIT_DATA counts now: what a process was forked with is not held against it."""
    return int(Path("/proc/self/statm").read_text("ascii").split()[5]) * resource.getpagesize()


def _tasks() -> int:
    """Return the number of processes and threads on the machine: RLIMIT_NPROC counts all of the user's."""
    return int(Path("/proc/loadavg").read_text("ascii").split()[3].partition("/")[2])
