"""Starting runners: the processes that serve services, which outlive the program that starts them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from typing import IO

PAUSE_S = 0.05

# Those of this process, so that one that ends at once is noticed and buried.
_started: dict[tuple[str, str, str], tuple[subprocess.Popen[bytes], IO[bytes]]] = {}


def start(dsn: str, workspace: str, name: str) -> None:
    """Start a runner for a service on this machine; it ends when the service is deleted."""
    key = (dsn, workspace, name)
    if key in _started and _started[key][0].poll() is None:
        return
    forget(*key)
    said = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
    process = subprocess.Popen(
        [sys.executable, "-m", "dbml.cli", "serve-service", name, "--workspace", workspace], cwd="/", stdin=subprocess.DEVNULL,
        stdout=said, stderr=subprocess.STDOUT, start_new_session=True, env={**os.environ, "DBML_DSN": dsn},
    )  # fmt: skip
    _started[key] = (process, said)


def ended(dsn: str, workspace: str, name: str) -> str | None:
    """Return what a runner of ours has said that has ended; None where it runs, or is not ours."""
    known = _started.get((dsn, workspace, name))
    if known is None or known[0].poll() is None:
        return None
    known[1].seek(0)
    return known[1].read()[-4000:].decode(errors="replace").strip() or f"exit code {known[0].returncode}"


def wait(dsn: str, workspace: str, name: str, timeout_s: float) -> None:
    """Wait until a runner of ours has ended."""
    known = _started.get((dsn, workspace, name))
    if known is not None:
        try:
            known[0].wait(timeout_s)
        except subprocess.TimeoutExpired:
            return
        forget(dsn, workspace, name)


def forget(dsn: str, workspace: str, name: str) -> None:
    """Forget one that has ended."""
    known = _started.pop((dsn, workspace, name), None)
    if known is not None:
        known[1].close()


def place() -> str:
    """Return this machine and its Python: what is served here has the packages that are here."""
    return f"{socket.gethostname()} {sys.prefix}"


def wait_closed(address: tuple[str, int] | None, timeout_s: float) -> None:
    """Wait until nobody listens at an address any more."""
    until = time.monotonic() + timeout_s
    while address is not None and time.monotonic() < until:
        try:
            socket.create_connection(address, timeout=1).close()
        except OSError:
            return
        time.sleep(PAUSE_S)
