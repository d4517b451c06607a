"""Namespaces: to a child its own processes, mounts, accounts, IPC and network are all there is.

The zygote is the first process of a user and a process namespace of its own, in which it may make namespaces and mount.
A child keeps none of that: it leaves for a user namespace in which it is nobody.
"""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

from dbml.kernel import calls as kernel
from dbml.kernel.calls import (
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_PRIVATE,
    MS_REC,
)

FILES_PER_MB = 256  # of a scratch directory; a file takes memory of the kernel's too
SHARED_MEMORY = "/dev/shm"  # noqa: S108 - of a file system that is made for one process
KINDS = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
_FIRST_PROCESS = ("/bin/sleep", "infinity")


def settle() -> None:
    """Make this process the first of namespaces of its own; returns in a child, which this process waits for."""
    uid, gid = os.getuid(), os.getgid()
    kernel.unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID)
    kernel.become_nobody_else(uid, gid)
    child = os.fork()
    if child:
        os.closerange(3, 1 << 16)  # what the child has open is its own: when it ends, the router hears it
        _, status = os.waitpid(child, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    kernel.mount(None, "/", MS_REC | MS_PRIVATE)
    kernel.mount("proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    kernel.mount("tmpfs", SHARED_MEMORY, MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700,size=16m")  # joblib tries it when imported


def identities() -> dict[str, str]:
    """Return which namespace of each kind this process is in."""
    found = {}
    for kind in KINDS:
        with contextlib.suppress(OSError):
            found[kind] = str(Path(f"/proc/self/ns/{kind}").readlink())
    return found


class Births:
    """Gives each child of the zygote a process namespace of its own.

    Its first process only sleeps: a first process is spared the signals that it does not handle, which a script must not be.
    With it everything in the namespace ends.
    """

    def __init__(self) -> None:
        self._own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)

    def prepare(self) -> int:
        """Let the next fork be in a new namespace; returns the id of its first process."""
        kernel.join(self._own, CLONE_NEWPID)
        kernel.unshare(CLONE_NEWPID)
        null = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in (0, 1, 2)]
        return os.posix_spawn(_FIRST_PROCESS[0], _FIRST_PROCESS, {}, file_actions=null)

    def rest(self) -> None:
        """Let the next thread be one of ours: none can be started where the next fork goes elsewhere."""
        kernel.join(self._own, CLONE_NEWPID)


def enter(scratch: str, scratch_mb: int, *, network: bool) -> None:
    """Leave the zygote's namespaces for some of this process' own, with an empty scratch directory."""
    uid, gid = os.getuid(), os.getgid()
    kernel.prctl(kernel.PR_SET_DUMPABLE, 1)  # else /proc/self is not its own
    kernel.unshare(CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP | (0 if network else CLONE_NEWNET))
    options = f"mode=0700,size={scratch_mb}m,nr_inodes={max(64, scratch_mb * FILES_PER_MB)}"
    kernel.mount("proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    kernel.mount("tmpfs", scratch, MS_NOSUID | MS_NODEV, options)
    kernel.mount("tmpfs", SHARED_MEMORY, MS_NOSUID | MS_NODEV | MS_NOEXEC, options)
    kernel.unshare(CLONE_NEWUSER)
    kernel.become_nobody_else(uid, gid)
