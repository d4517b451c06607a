"""Landlock: the files that a process may use, the TCP ports it may reach, and whom it may signal.

A restriction holds for the process and all that it starts, for good; a second one narrows the first.

Source: Linux, include/uapi/linux/landlock.h; versions of the interface ("ABI") in Documentation/userspace-api/landlock.rst.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterable

from dbml.kernel.calls import PR_SET_NO_NEW_PRIVS, prctl, syscall

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION = 1
_PATH_BENEATH = 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_FIRST = (1 << 13) - 1  # ABI 1: the rights to read, write, make and remove
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15  # ABI 2, 3, 5
_ON_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_NETWORK = 0b11  # ABI 4: bind and connect
_SCOPES = 0b11  # ABI 6: abstract sockets and signals

READ = _EXECUTE | _READ_FILE | _READ_DIR
SIGNALS_SINCE = 6


def version() -> int:
    """Return the version of the kernel's interface, 0 where there is none."""
    try:
        return syscall(_CREATE_RULESET, None, 0, _VERSION)
    except OSError:
        return 0


def restrict(readable: Iterable[str], writable: Iterable[str], *, network: bool) -> None:
    """Leave this process these files and directories, with what is in them, and no others.

    Paths that are not there are passed over.  Without network no TCP port may be used.  Other processes than its own
    descendants can no longer be signalled, or reached by abstract sockets, where the kernel's version is 6 or later.
    """
    known = version()
    files = _FIRST | (_REFER if known >= 2 else 0) | (_TRUNCATE if known >= 3 else 0) | (_IOCTL_DEV if known >= 5 else 0)
    ports = _NETWORK if known >= 4 and not network else 0
    scopes = _SCOPES if known >= 6 else 0
    attributes = struct.pack("=QQQ", files, ports, scopes)[: 8 if known < 4 else 16 if known < 6 else 24]
    rules = syscall(_CREATE_RULESET, _buffer(attributes), len(attributes), 0)
    try:
        for paths, rights in ((readable, READ), (writable, files)):
            for path in paths:
                _allow(rules, path, rights & files)
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        syscall(_RESTRICT_SELF, rules, 0)
    finally:
        os.close(rules)


def _allow(rules: int, path: str, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            rights &= _ON_FILES
        syscall(_ADD_RULE, rules, _PATH_BENEATH, _buffer(struct.pack("=Qi", rights, descriptor)), 0)
    finally:
        os.close(descriptor)


def _buffer(content: bytes) -> ctypes.Array[ctypes.c_char]:
    return ctypes.create_string_buffer(content, len(content))
