"""Directories in the temporary folder that outlive nobody: who makes one holds a lock on it until it ends.

The lock goes with its process, however that ends, and in whatever container; so a successor knows which directories
are left over.  This module knows no other part of dbml.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

SCRATCH = "dbml-worker-"  # what a worker and its scripts write
SOCKETS = "dbml-socket-"  # of a Unix socket


@contextlib.contextmanager
def temporary_directory(prefix: str, parent: str | Path | None = None) -> Iterator[Path]:
    """Make a directory that is deleted at the end, by us or, where we were killed, by the next `sweep`."""
    folder, lock = _make(prefix, parent)
    try:
        yield folder
    finally:
        remove(folder)
        os.close(lock)


def sweep(parent: str | Path | None = None) -> list[Path]:
    """Delete directories whose makers are gone, and return them; those of others are left alone."""
    swept = []
    for prefix in (SCRATCH, SOCKETS):
        for folder in Path(parent or tempfile.gettempdir()).glob(f"{prefix}*"):
            with contextlib.suppress(OSError):
                if os.geteuid() not in (0, folder.lstat().st_uid):
                    continue
                lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    remove(folder)
                    swept.append(folder)
                finally:
                    os.close(lock)
    return swept


def remove(directory: str | Path) -> None:
    """Remove a directory and all in it, also what its owner has taken rights from."""
    shutil.rmtree(directory, ignore_errors=True)
    top = Path(directory)
    if top.is_dir() and not top.is_symlink():
        with contextlib.suppress(OSError):
            top.chmod(stat.S_IRWXU)
            for folder, inner, _ in os.walk(directory):
                for path in (Path(folder) / name for name in inner):
                    if not path.is_symlink():
                        path.chmod(stat.S_IRWXU)
        shutil.rmtree(directory, ignore_errors=True)


def _make(prefix: str, parent: str | Path | None) -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        try:
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if os.fstat(lock).st_ino == folder.stat().st_ino:
                return folder, lock
            os.close(lock)
        except FileNotFoundError:  # swept between the two
            continue
