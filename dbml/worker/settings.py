"""What `dbml worker` is told at its start."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field

from dbml.worker.sandbox import Limits


@dataclass(frozen=True)
class WorkerSettings:
    """The settings of one worker.

    dsn: the database that it serves and records runs in (kept out of the repr).
    listen: 'HOST:PORT' or the directory of a Unix socket; None chooses a private Unix socket where the DSN names
        one itself, else a free port on 127.0.0.1.
    advertise: 'HOST:PORT' as the database server sees it, where that is another address than listen.
    scorers: processes that keep loaded models; limits: of each script's process.
    max_running: scripts that run at once, the others wait; max_scripts: that run or wait, more are refused.
    metrics: 'HOST:PORT' at which Prometheus and health checks are answered; None is nowhere.
    on_ready: called with the address once calls are answered.
    """

    dsn: str = field(repr=False)
    listen: str | None = None
    advertise: str | None = None
    scorers: int = min(4, os.cpu_count() or 1)
    cache_mb: int = 512
    max_connections: int = 1000
    max_running: int = max(8, 4 * (os.cpu_count() or 1))
    max_scripts: int = 500
    metrics: str | None = None
    limits: Limits = field(default_factory=Limits)
    on_ready: Callable[[str], None] | None = None
