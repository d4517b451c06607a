"""What `dbml worker` is told at its start."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from dbml.worker.sandbox import Limits
from dbml.worker.sandbox.layers import Wanted


@dataclass(frozen=True)
class WorkerSettings:
    """The settings of one worker.

    dsn: the database that it serves and records runs in (kept out of the repr).
    listen: 'HOST:PORT' or the directory of a Unix socket; None chooses a private Unix socket where the DSN names
        one itself, else a free port on 127.0.0.1.
    advertise: 'HOST:PORT' as the database server sees it, where that is another address than listen.
    scorers: processes that keep loaded models; limits: of each script's process.
    max_connections: of sessions of the database, each of which keeps one.
    messages_mb: what the long messages of all connections may have together; a statement that finds no room is refused.
    max_running: scripts that run at once, the others wait; max_running_per_role: of one role; max_scripts: that run or
        wait, more are refused; role_share: of them, what a role may hold where other roles find no place.
    find_links: directories of wheels for environments; no_index: look for packages nowhere else.
    environments: most that run beside the worker's own; environment_idle_s: after which an unused one is shut down.
    cache: directory in which environments are built; None is the user's cache directory.
    metrics: 'HOST:PORT' at which Prometheus and health checks are answered; None is nowhere.
    sandbox: 'auto' is the strongest layer that holds, 'bubblewrap' or 'landlock' that one, 'none' lets scripts do all that
        the worker's account may.
    standby: keep a second zygote that is ready where the first dies.
    on_standby: None serves at once; else called when all is prepared, with what makes it serve.
    on_ready: called once calls are answered, with the place where it listens as `listen` would name it.
    on_warm: called once calls are as fast as they get: everything is imported, and a scorer runs.
    """

    dsn: str = field(repr=False)
    listen: str | None = None
    advertise: str | None = None
    scorers: int = min(4, os.cpu_count() or 1)
    cache_mb: int = 512
    max_connections: int = 2000
    messages_mb: int = 2048
    max_running: int = max(8, 4 * (os.cpu_count() or 1))
    max_running_per_role: int | None = None
    max_scripts: int = 500
    role_share: float = 0.5
    metrics: str | None = None
    limits: Limits = field(default_factory=Limits)
    find_links: tuple[str, ...] = ()
    no_index: bool = False
    environments: int = 4
    environment_idle_s: float = 900.0
    cache: Path | None = None
    sandbox: Wanted = "auto"
    standby: bool = False
    on_standby: Callable[[Callable[[], object]], None] | None = None
    on_ready: Callable[[str], None] | None = None
    on_warm: Callable[[], None] | None = None
