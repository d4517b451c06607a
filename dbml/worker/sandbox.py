"""The sandbox: what a process that runs a stranger's Python may use.

`enter` is the one place where a child is cut off.  Now: its own scratch directory, a clean environment, no
descriptors but its socket, resource limits, and death with its parent.  Namespaces, Landlock and seccomp belong here.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import resource
import signal
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

SOCKET = 3  # the descriptor through which a child talks with the router
CPU_GRACE_S = 5  # from SIGXCPU, which the script's own error follows, to SIGKILL
RESERVE_BYTES = 64 << 20  # what a child that has used up its memory may use to say so
BALLAST_BYTES = 8 << 20  # never touched
LAST_DESCRIPTOR = 1 << 20

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36

_ballast: list[mmap.mmap] = []

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Limits:
    """Limits of one child process; None is no limit.

    memory_mb: memory it may write, beyond what it was forked with; cpu_seconds: of a satellite, a scorer has none;
    processes: beyond those that the machine has when it starts, not held against root; scratch_mb: largest file;
    output_mb: largest result; cache_mb: bytes of models that a scorer keeps; threads: of linear algebra and OpenMP.
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


def conceal() -> None:
    """Keep this process' memory, environment and descriptors from other processes of the same user, root excepted."""
    _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def adopt() -> None:
    """Become the parent of descendants whose own parent has died, so that none gets lost."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def environment(scratch: str, threads: int) -> dict[str, str]:
    """Return the whole environment of a process of ours: no variable of the router's own."""
    count = str(threads)
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": scratch, "TMPDIR": scratch, "MPLBACKEND": "agg",
        "OMP_NUM_THREADS": count, "OPENBLAS_NUM_THREADS": count, "MKL_NUM_THREADS": count, "ARROW_IO_THREADS": "1",
    }  # fmt: skip


def enter(limits: Limits, scratch: str, sock: int, parent: int) -> None:
    """Cut this process, freshly forked by parent, off from what is not its own; its socket is SOCKET from now on."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
    conceal()
    adopt()
    os.setsid()
    _keep_only(sock)
    os.umask(0o077)
    os.chdir(scratch)
    os.environ.clear()
    os.environ.update(environment(scratch, limits.threads), MPLCONFIGDIR=scratch)
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
        _limit(resource.RLIMIT_NPROC, _tasks() + limits.processes)


def use_reserve() -> None:
    """Let a process that has used up its memory have the reserve, to say so."""
    _ballast.clear()  # without it not even the call below finds memory
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))


def _keep_only(sock: int) -> None:
    """Close every descriptor but the socket; standard input, output and error are /dev/null."""
    if sock != SOCKET:
        os.dup2(sock, SOCKET, inheritable=False)
    os.set_inheritable(SOCKET, False)
    os.closerange(SOCKET + 1, LAST_DESCRIPTOR)
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    os.close(null)


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
