"""The unprivileged account that runs a server for root.

PostgreSQL refuses to run as root.  When we are root, an account that exists runs it: `postgres`,
else `nobody`.  No account is created, and nothing of the user's changes owner or mode.
"""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dbml import errors

CANDIDATES = ("postgres", "nobody")


@dataclass(frozen=True)
class Account:
    """An account of this machine, other than root."""

    name: str
    uid: int
    gid: int

    def process(self) -> Mapping[str, Any]:
        """Return the arguments that make `subprocess` run a command as this account."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def reaches(self, path: Path) -> bool:
        """Tell whether the account can read and, for a folder or a program, enter or run `path`."""
        test = 'test -r "$0" && test -x "$0"' if path.is_dir() or os.access(path, os.X_OK) else 'test -r "$0"'
        return subprocess.run(["/bin/sh", "-c", test, str(path)], cwd="/", check=False, **self.process()).returncode == 0

    def enters(self, folder: Path) -> bool:
        """Tell whether the account can pass through `folder`."""
        command = ["/bin/sh", "-c", 'test -x "$0"', str(folder)]
        return subprocess.run(command, cwd="/", check=False, **self.process()).returncode == 0


def owner(path: Path) -> Account | None:
    """Return the account that owns a path, None where that is root or there is no such path."""
    try:
        found = path.stat()
    except OSError:
        return None
    if found.st_uid == 0:
        return None
    try:
        name = pwd.getpwuid(found.st_uid).pw_name
    except KeyError:
        name = str(found.st_uid)
    return Account(name, found.st_uid, found.st_gid)


def server_account() -> Account | None:
    """Return the account that has to run a server, None when we are not root and run it ourselves."""
    if os.geteuid() != 0:
        return None
    for name in CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return Account(name, entry.pw_uid, entry.pw_gid)
    raise errors.DbmlError(
        f"as root, a server needs one of the accounts {', '.join(CANDIDATES)} to run as, found none",
        hint="run dbml as an ordinary user, or give it a server: dbml up --dsn postgresql://…",
    )
