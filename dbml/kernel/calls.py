"""System calls that Python 3.11 lacks: namespaces, mounts, capabilities, process attributes.

Each raises OSError with the kernel's own reason.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REC, MS_PRIVATE = 0x4000, 0x40000

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_SECCOMP = 22
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4

_CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


def prctl(option: int, argument: int = 0, second: int = 0) -> None:
    """Set an attribute of this process."""
    passed = (ctypes.c_ulong(number) for number in (argument, second, 0, 0))
    _check(_libc.prctl(option, *passed), "prctl")


def unshare(flags: int) -> None:
    """Leave namespaces for new ones; of CLONE_NEWPID, the next child is the first of them."""
    _check(_libc.unshare(flags), "unshare")


def join(descriptor: int, kind: int) -> None:
    """Enter a namespace that a descriptor names."""
    _check(_libc.setns(descriptor, kind), "setns")


def mount(kind: str | None, target: str, flags: int, options: str = "") -> None:
    """Mount a file system that has no source, or change the flags of a mount."""
    name = kind.encode() if kind else None
    _check(_libc.mount(name, target.encode(), name, ctypes.c_ulong(flags), options.encode()), f"mount {target}")


def become_nobody_else(uid: int, gid: int) -> None:
    """In a new user namespace, be the one account there is: the one that this process had outside."""
    Path("/proc/self/setgroups").write_text("deny", "ascii")
    Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1", "ascii")
    Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1", "ascii")


def drop_capabilities() -> None:
    """Give up every capability for good, of programs run later too."""
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text("ascii"))
    status = Path("/proc/self/status").read_text("utf-8").splitlines()
    effective = next(int(line[7:], 16) for line in status if line.startswith("CapEff:"))
    if effective:
        for capability in range(last + 1):
            _libc.prctl(PR_CAPBSET_DROP, ctypes.c_ulong(capability), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0))
    _libc.prctl(PR_CAP_AMBIENT, ctypes.c_ulong(PR_CAP_AMBIENT_CLEAR_ALL), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0))
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    _check(_libc.capset(header, (ctypes.c_uint32 * 6)()), "capset")


def become(uid: int, gid: int) -> None:
    """Be another account from here on, of no other group."""
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    prctl(PR_SET_DUMPABLE, 1)  # else /proc/self stays root's


def syscall(number: int, *arguments: int | ctypes.Array[ctypes.c_char] | None) -> int:
    """Make a system call that the C library has no function for."""
    passed = [argument if not isinstance(argument, int) else ctypes.c_long(argument) for argument in arguments]
    return _check(_libc.syscall(ctypes.c_long(number), *passed), f"syscall {number}")


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result
