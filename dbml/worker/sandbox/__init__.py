"""The sandbox: what a process that runs a stranger's Python may see, use and reach.

Two layers can be the floor that everything else stands on; `layers` chooses one when the worker starts.

    bubblewrap  The zygote lives in a view of the machine made by bubblewrap: the environment, read-only, and no network.
                Each child of it has namespaces of its own: processes, mounts, users, IPC, network; its scratch directory
                is a file system of its own, of limited size.
    landlock    For kernels and containers that allow no namespaces: Landlock rules for files, TCP and signals, and a
                wider system call filter in place of the namespaces.

In either, a child has no capabilities, cannot gain any, runs under a system call filter (`seccomp`) and rlimits
(`limits`), holds no descriptor but its socket, has a clean environment, and dies with its zygote.  `enter` is the one
place where a child is cut off; `zygote` is what the zygote itself does before it imports anything.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from dbml.kernel import calls as kernel
from dbml.kernel import landlock, seccomp
from dbml.worker.sandbox import namespaces
from dbml.worker.sandbox.limits import CPU_GRACE_S, Limits, apply, use_reserve

__all__ = ["CPU_GRACE_S", "SOCKET", "Cell", "Limits", "adopt", "conceal", "enter", "environment", "settle", "use_reserve"]

SOCKET = 3  # the descriptor through which a child talks with the router
LAST_DESCRIPTOR = 1 << 20

Layer = Literal["bubblewrap", "landlock", "none"]


@dataclass(frozen=True)
class Cell:
    """What a zygote is told of the sandbox it is to live in and to put its children in.

    user: the account to become, where the worker is root.  readable: the files of the environment and of the system, where
    nothing else hides the others.  scratch: the path that a child's scratch directory has for itself, None where that is
    the router's.
    """

    layer: Layer
    user: tuple[int, int] | None = None
    readable: Sequence[str] = ()
    scratch: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return asdict(self)

    @classmethod
    def of(cls, given: dict[str, Any]) -> Cell:
        """Read what `as_json` wrote."""
        user = given.pop("user")
        return cls(user=user and (user[0], user[1]), **given)


def conceal() -> None:
    """Keep this process' memory, environment and descriptors from other processes of the same user, root excepted."""
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)


def adopt() -> None:
    """Become the parent of descendants whose own parent has died, so that none gets lost."""
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)


def environment(scratch: str, threads: int) -> dict[str, str]:
    """Return the whole environment of a process of ours: no variable of the router's own."""
    count = str(threads)
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": scratch, "TMPDIR": scratch, "MPLBACKEND": "agg",
        # Sets and dicts of texts have the same order each time; nobody's data but the script's own could make them slow.
        "PYTHONHASHSEED": "0",
        "OMP_NUM_THREADS": count, "OPENBLAS_NUM_THREADS": count, "MKL_NUM_THREADS": count, "ARROW_IO_THREADS": "1",
    }  # fmt: skip


def settle(cell: Cell) -> None:
    """Put a zygote into its cell, before it imports anything; may return in another process than it was called in."""
    if cell.layer == "bubblewrap" and cell.user is not None:
        kernel.mount("proc", "/proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
    if cell.user is not None:
        kernel.become(*cell.user)
    if cell.layer == "bubblewrap":
        namespaces.settle()


def enter(cell: Cell, limits: Limits, scratch: str, sock: int, parent: int) -> str:
    """Cut this process, freshly forked by parent, off from what is not its own; its socket is SOCKET from now on.

    Returns the path of its scratch directory.
    """
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    if cell.layer != "bubblewrap" and os.getppid() != parent:  # there the parent's end is the end of its namespace
        os._exit(1)
    adopt()
    os.setsid()
    _keep_only(sock)
    os.umask(0o077)
    if cell.scratch is not None:
        scratch = cell.scratch
    if cell.layer == "bubblewrap":
        namespaces.enter(scratch, limits.scratch_mb, network=limits.network)
    os.chdir(scratch)
    os.environ.clear()
    os.environ.update(environment(scratch, limits.threads), MPLCONFIGDIR=scratch)
    apply(limits, own_account=cell.layer == "bubblewrap")
    if cell.layer == "none":
        conceal()
        return scratch
    kernel.drop_capabilities()
    if cell.layer == "landlock":
        conceal()  # in namespaces nobody is there to look
        readable = [*cell.readable, f"/proc/{os.getpid()}"]
        landlock.restrict(readable, [scratch, "/dev/null", "/dev/zero", "/dev/full"], network=limits.network)
    elif landlock.version():
        landlock.restrict(["/"], [scratch, "/dev"], network=limits.network)
    signals = landlock.version() >= landlock.SIGNALS_SINCE
    seccomp.install(seccomp.program(network=limits.network, alone=cell.layer == "landlock", signals=signals))
    return scratch


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
