"""The system call filter: what a script's process may not ask of the kernel, whatever its rights.

Refused is what changes the machine, looks into other processes, makes namespaces, or leaves the tree of processes in which
a script's are counted; ordinary computing meets none of it.
Where there are no namespaces the filter stands in for them: no sockets but pairs, signals and limits for oneself alone,
and the attributes of files, which Landlock leaves to the owner, stay as they are.

Source: Linux, include/uapi/linux/{filter,seccomp,audit}.h; numbers from arch/x86/entry/syscalls/syscall_64.tbl and
include/uapi/asm-generic/unistd.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import socket
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dbml.kernel.calls import PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, prctl

_LOAD, _IF_EQUAL, _IF_AT_LEAST, _IF_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_X32 = 0x40000000
_MODE_FILTER = 2
_NEW_NAMESPACE = 0x7E020000  # CLONE_NEW*, of clone(2)
_FOR_THE_PARENT = 0x8000  # CLONE_PARENT: a sister, not a child
_TERMINAL_INPUT = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX


@dataclass(frozen=True)
class _Machine:
    audit: int
    numbers: Mapping[str, int]


_NEW = {  # numbers that are the same everywhere
    "pidfd_send_signal": 424, "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "open_tree": 428,
    "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433, "clone3": 435, "pidfd_getfd": 438,
    "process_madvise": 440, "mount_setattr": 442, "quotactl_fd": 443, "memfd_secret": 447, "process_mrelease": 448,
    "fchmodat2": 452, "statmount": 457, "listmount": 458, "setxattrat": 463, "removexattrat": 466, "open_tree_attr": 467,
}  # fmt: skip
_MACHINES = {
    "x86_64": _Machine(0xC000003E, _NEW | {
        "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312, "mount": 165, "umount2": 166,
        "pivot_root": 155, "chroot": 161, "unshare": 272, "setns": 308, "bpf": 321, "perf_event_open": 298, "userfaultfd": 323,
        "keyctl": 250, "add_key": 248, "request_key": 249, "init_module": 175, "finit_module": 313, "delete_module": 176,
        "kexec_load": 246, "kexec_file_load": 320, "reboot": 169, "swapon": 167, "swapoff": 168, "acct": 163, "quotactl": 179,
        "settimeofday": 164, "clock_settime": 227, "adjtimex": 159, "clock_adjtime": 305, "sethostname": 170,
        "setdomainname": 171, "open_by_handle_at": 304, "name_to_handle_at": 303, "iopl": 172, "ioperm": 173, "vhangup": 153,
        "syslog": 103, "lookup_dcookie": 212, "fanotify_init": 300, "migrate_pages": 256, "move_pages": 279, "modify_ldt": 154,
        "uselib": 134, "nfsservctl": 180, "clone": 56, "ioctl": 16, "socket": 41, "socketpair": 53, "connect": 42, "kill": 62,
        "tkill": 200, "tgkill": 234, "rt_sigqueueinfo": 129, "rt_tgsigqueueinfo": 297, "prlimit64": 302, "setpriority": 141,
        "sched_setaffinity": 203, "sched_setscheduler": 144, "sched_setparam": 142, "sched_setattr": 314, "ioprio_set": 251,
        "chmod": 90, "fchmod": 91, "fchmodat": 268, "chown": 92, "fchown": 93, "lchown": 94, "fchownat": 260, "utime": 132,
        "utimes": 235, "futimesat": 261, "utimensat": 280, "setxattr": 188, "lsetxattr": 189, "fsetxattr": 190,
        "removexattr": 197, "lremovexattr": 198, "fremovexattr": 199, "truncate": 76, "shmget": 29, "semget": 64, "msgget": 68,
        "mq_open": 240, "prctl": 157,
    }),
    "aarch64": _Machine(0xC00000B7, _NEW | {
        "ptrace": 117, "process_vm_readv": 270, "process_vm_writev": 271, "kcmp": 272, "mount": 40, "umount2": 39,
        "pivot_root": 41, "chroot": 51, "unshare": 97, "setns": 268, "bpf": 280, "perf_event_open": 241, "userfaultfd": 282,
        "keyctl": 219, "add_key": 217, "request_key": 218, "init_module": 105, "finit_module": 273, "delete_module": 106,
        "kexec_load": 104, "kexec_file_load": 294, "reboot": 142, "swapon": 224, "swapoff": 225, "acct": 89, "quotactl": 60,
        "settimeofday": 170, "clock_settime": 112, "adjtimex": 171, "clock_adjtime": 266, "sethostname": 161,
        "setdomainname": 162, "open_by_handle_at": 265, "name_to_handle_at": 264, "vhangup": 58, "syslog": 116,
        "lookup_dcookie": 18, "fanotify_init": 262, "migrate_pages": 238, "move_pages": 239, "nfsservctl": 42, "clone": 220,
        "ioctl": 29, "socket": 198, "socketpair": 199, "connect": 203, "kill": 129, "tkill": 130, "tgkill": 131,
        "rt_sigqueueinfo": 138, "rt_tgsigqueueinfo": 240, "prlimit64": 261, "setpriority": 140, "sched_setaffinity": 122,
        "sched_setscheduler": 119, "sched_setparam": 118, "sched_setattr": 274, "ioprio_set": 30, "fchmod": 52, "fchmodat": 53,
        "fchown": 55, "fchownat": 54, "utimensat": 88, "setxattr": 5, "lsetxattr": 6, "fsetxattr": 7, "removexattr": 14,
        "lremovexattr": 15, "fremovexattr": 16, "truncate": 45, "shmget": 194, "semget": 190, "msgget": 186, "mq_open": 180,
        "prctl": 167,
    }),
}  # fmt: skip

# Absent rather than refused: the C library and libraries then do without.
_ABSENT = ("clone3", "io_uring_setup", "io_uring_enter", "io_uring_register")
_REFUSED = (
    "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "process_mrelease", "pidfd_getfd", "kcmp",
    "mount", "umount2", "pivot_root", "chroot", "move_mount", "open_tree", "open_tree_attr", "fsopen", "fsconfig", "fsmount",
    "fspick", "mount_setattr", "statmount", "listmount", "unshare", "setns", "bpf", "perf_event_open", "userfaultfd",
    "keyctl", "add_key", "request_key", "init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load",
    "reboot", "swapon", "swapoff", "acct", "quotactl", "quotactl_fd", "settimeofday", "clock_settime", "adjtimex",
    "clock_adjtime", "sethostname", "setdomainname", "open_by_handle_at", "name_to_handle_at", "iopl", "ioperm", "vhangup",
    "syslog", "lookup_dcookie", "fanotify_init", "migrate_pages", "move_pages", "modify_ldt", "uselib", "nfsservctl",
    "memfd_secret",
)  # fmt: skip
_ON_OTHERS = {  # the argument that names a process
    "prlimit64": 0, "sched_setaffinity": 0, "sched_setscheduler": 0, "sched_setparam": 0, "sched_setattr": 0,
}  # fmt: skip
_SIGNALS = {"kill": 0, "tgkill": 0, "rt_sigqueueinfo": 0, "rt_tgsigqueueinfo": 0}
# Answered as if they were done: tools that copy files call them, and nothing here depends on what they change.
_IGNORED = (
    "chmod", "fchmod", "fchmodat", "fchmodat2", "chown", "fchown", "lchown", "fchownat", "utime", "utimes", "futimesat",
    "utimensat", "setxattr", "lsetxattr", "fsetxattr", "setxattrat", "removexattr", "lremovexattr", "fremovexattr",
    "removexattrat",
)  # fmt: skip

Instruction = tuple[int, int, int, int]


def is_known() -> bool:
    """Tell whether there is a filter for this machine's processor, and the kernel has filters."""
    try:
        return platform.machine() in _MACHINES and "\nSeccomp:" in Path("/proc/self/status").read_text("utf-8")
    except OSError:
        return False


def program(*, network: bool, alone: bool, signals: bool) -> list[Instruction]:
    """Return the filter: instructions of classic BPF.

    network: sockets of the internet may be made.  alone: there are no namespaces; signals: then other processes may be
    signalled all the same, because Landlock keeps the signals in.
    """
    machine = _MACHINES[platform.machine()]
    numbers = machine.numbers
    code: list[Instruction] = [
        (_LOAD, 0, 0, _ARCHITECTURE), (_IF_EQUAL, 1, 0, machine.audit), (_RETURN, 0, 0, _KILL), (_LOAD, 0, 0, _NUMBER),
    ]  # fmt: skip
    if machine.audit == _MACHINES["x86_64"].audit:
        code += [(_IF_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _ERRNO | errno.ENOSYS)]

    def rule(name: str, body: list[Instruction]) -> None:
        if name in numbers:
            code.extend([(_IF_EQUAL, 0, len(body), numbers[name]), *body])

    refuse, allow = (_RETURN, 0, 0, _ERRNO | errno.EPERM), (_RETURN, 0, 0, _ALLOW)
    for name in _ABSENT:
        rule(name, [(_RETURN, 0, 0, _ERRNO | errno.ENOSYS)])
    for name in _REFUSED:
        rule(name, [refuse])
    rule("clone", [(_LOAD, 0, 0, _argument(0)), (_IF_ANY_BIT, 0, 1, _NEW_NAMESPACE | _FOR_THE_PARENT), refuse, allow])
    # Who adopts orphans may not give that up: they would be counted as nobody's.
    adopting = [(_LOAD, 0, 0, _argument(0)), (_IF_EQUAL, 0, 3, PR_SET_CHILD_SUBREAPER), (_LOAD, 0, 0, _argument(1))]
    rule("prctl", [*adopting, (_IF_EQUAL, 0, 1, 0), refuse, allow])
    rule("ioctl", _only_if_not(_argument(1), _TERMINAL_INPUT))
    families = [*([] if alone else [socket.AF_UNIX]), *([socket.AF_INET, socket.AF_INET6] if network else [])]
    rule("socket", _only_if(_argument(0), families))
    if not alone:
        return [*code, allow]
    # A datagram socket sends to any path; a stream's peer is its pair.
    kinds = [kind | extra for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET) for extra in
             (0, socket.SOCK_CLOEXEC, socket.SOCK_NONBLOCK, socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)]  # fmt: skip
    rule("socketpair", _only_if(_argument(1), kinds))
    if not network:
        rule("connect", [refuse])
    own = os.getpid()
    for name, position in (_ON_OTHERS if signals else _ON_OTHERS | _SIGNALS).items():
        rule(name, _only_if(_argument(position), [0, own, -own & 0xFFFFFFFF]))
    for name in ("setpriority", "ioprio_set", *(() if signals else ("tkill", "pidfd_send_signal"))):
        rule(name, [refuse])
    for name in _IGNORED:
        rule(name, [(_RETURN, 0, 0, _ERRNO)])
    for name in ("truncate", "shmget", "semget", "msgget", "mq_open"):
        rule(name, [refuse])
    return [*code, allow]


def install(code: Iterable[Instruction]) -> None:
    """Put this process, its threads to come and all that it starts under a filter, for good."""
    packed = b"".join(struct.pack("=HBBI", *instruction) for instruction in code)
    held = ctypes.create_string_buffer(packed, len(packed))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    given = Program(len(packed) // 8, ctypes.addressof(held))
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    prctl(PR_SET_SECCOMP, _MODE_FILTER, ctypes.addressof(given))


def _argument(position: int) -> int:
    return _ARGUMENTS + 8 * position  # the lower half, on a little-endian machine


def _only_if(argument: int, values: Iterable[int]) -> list[Instruction]:
    """Allow a call whose argument is one of these."""
    listed = list(values)
    tests = [(_IF_EQUAL, len(listed) - i, 0, value) for i, value in enumerate(listed)]
    return [(_LOAD, 0, 0, argument), *tests, (_RETURN, 0, 0, _ERRNO | errno.EPERM), (_RETURN, 0, 0, _ALLOW)]


def _only_if_not(argument: int, values: Iterable[int]) -> list[Instruction]:
    """Refuse a call whose argument is one of these."""
    listed = list(values)
    tests = [(_IF_EQUAL, len(listed) - i, 0, value) for i, value in enumerate(listed)]
    return [(_LOAD, 0, 0, argument), *tests, (_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _ERRNO | errno.EPERM)]
