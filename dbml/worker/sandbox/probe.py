"""The probe: enter a sandbox as a script's process does, and tell what is to be found there.

    python -m dbml.worker.sandbox.probe CELL SCRATCH CANARY

CANARY is a file that everybody may read, and a process in the sandbox must not.  Prints one JSON object.  Run by the router,
for each layer until one holds: what dbml.worker_status tells was found, not assumed.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

from dbml.kernel import landlock
from dbml.worker.sandbox import SOCKET, Cell, Limits, enter, namespaces, settle
from dbml.worker.sandbox.namespaces import Births

LIMITS = Limits(memory_mb=64, scratch_mb=1)


def main() -> None:
    """Enter the cell that the command line tells, in a child, and print what it found."""
    cell = Cell.of(json.loads(sys.argv[1]))
    scratch, canary = sys.argv[2:]
    settle(cell)
    if cell.layer == "bubblewrap":
        Births().prepare()
    parent = os.getpid()
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        ours.close()
        try:
            found = _look(cell, scratch, canary, theirs.detach(), parent)
        except BaseException as error:  # whatever it is, the router must hear of it
            found = {"failed": f"{type(error).__name__}: {error}"}
        os.write(SOCKET, json.dumps(found).encode())
        os._exit(0)
    theirs.close()
    said = b""
    while part := ours.recv(65536):
        said += part
    os.waitpid(child, 0)
    sys.stdout.write(said.decode())


def _look(cell: Cell, scratch: str, canary: str, sock: int, parent: int) -> dict[str, Any]:
    try:
        scratch = enter(cell, LIMITS, scratch, sock, parent)
    except BaseException:
        with contextlib.suppress(OSError):  # it is there already
            os.dup2(sock, SOCKET)
        raise
    status = dict(line.split(":", 1) for line in Path(f"/proc/{os.getpid()}/status").read_text("utf-8").splitlines())
    try:
        seen = sum(entry.name.isdigit() for entry in Path("/proc").iterdir())
    except OSError:
        seen = 0
    with tempfile.NamedTemporaryFile(dir=scratch) as written:
        written.write(b"x")
    return {
        "user": os.getuid(),
        "capabilities": int(status["CapEff"], 16),
        "no_new_privileges": status["NoNewPrivs"].strip() == "1",
        "filter": status["Seccomp"].strip() == "2",
        "processes": seen,
        "landlock": landlock.version(),
        "namespaces": namespaces.identities(),
        "network": _can_connect(),
        "files": [path for path in ("/etc/shadow", "/proc/1/environ", canary) if _can_open(path)],
        "unreadable": [path for path in cell.readable if _is_barred(path)],
    }


def _can_connect() -> bool:
    """Tell whether an address could be tried: refused by whoever is there, not by the kernel."""
    try:
        with socket.socket() as tried:
            tried.settimeout(1)
            tried.connect(("127.0.0.1", 9))
    except OSError as error:
        return error.errno in (errno.ECONNREFUSED, errno.ETIMEDOUT)
    return True


def _can_open(path: str) -> bool:
    try:
        os.close(os.open(path, os.O_RDONLY))
    except OSError:
        return False
    return True


def _is_barred(path: str) -> bool:
    """Tell whether a file of the environment is there, and this account may not read it."""
    try:
        return Path(path).is_dir() and not os.access(path, os.R_OK | os.X_OK)
    except PermissionError:
        return True
    except OSError:
        return False


if __name__ == "__main__":
    main()
