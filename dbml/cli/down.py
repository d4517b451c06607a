"""`dbml down`."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from pathlib import Path

from dbml import errors
from dbml.cli.output import console
from dbml.database.embedded import Cluster
from dbml.home import Home, find_home

STOP_S = 60.0


def down() -> None:
    """Stop the server and the worker that dbml up started in this folder; the data stays in .dbml.

    Example: dbml down
    """
    home = find_home() or Home.of(Path.cwd())
    stopped = _stop_supervisor(home)
    # A supervisor that was killed leaves its server behind.
    if home.path.is_dir():
        stopped = Cluster(home.path / "postgresql").stop() or stopped
    home.clear_state()
    console.print("stopped" if stopped else f"nothing is running in {home.path.parent}", markup=False, soft_wrap=True)


def _stop_supervisor(home: Home) -> bool:
    """Ask the process that holds the lock to stop, and wait until it has ended."""
    pid = home.holder() if home.running() else None
    if pid is None:
        return False
    try:
        process = os.pidfd_open(pid)  # stays with this process, even when its pid is used again
    except ProcessLookupError:
        return True
    try:
        for number, patience_s in ((signal.SIGTERM, STOP_S), (signal.SIGKILL, 5.0)):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(process, number)
            if select.select([process], [], [], patience_s)[0]:
                return True
    finally:
        os.close(process)
    raise errors.DbmlError(f"process {pid} must stop, and does not")
