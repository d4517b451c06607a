"""`dbml worker`."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from dbml import cli, errors
from dbml.cli.looking import LookingProcess
from dbml.cli.output import DsnOption
from dbml.cli.supervisor import keep_worker
from dbml.cli.worker_process import READY, STANDS_BY, WARM, WorkerProcess, require_worker
from dbml.database.address import listening_place
from dbml.database.reach import wait_for_server
from dbml.dsn import find_dsn

if TYPE_CHECKING:
    from dbml.worker.sandbox.layers import Wanted

log = logging.getLogger("dbml.worker")

# Options that the supervisor sees to.
HANDED_ON = ("dsn", "listen", "advertise", "supervise", "services", "standby", "until_eof", "in_waiting")

CacheOption = Annotated[
    Path | None,
    typer.Option(
        help="Where environments are built; by default dbml in the user's cache directory.", envvar="DBML_CACHE",
        show_default=False,
    ),
]  # fmt: skip
FindLinksOption = Annotated[
    list[Path] | None,
    typer.Option(
        help="A directory of wheels for environments; may be given again.", envvar="DBML_FIND_LINKS", show_default=False
    ),
]
NoIndexOption = Annotated[bool, typer.Option("--no-index", help="Take packages from --find-links only.", envvar="DBML_NO_INDEX")]
EnvironmentsOption = Annotated[
    int,
    typer.Option(
        help="Most environments that run at a time beside the worker's own packages.", min=0, envvar="DBML_ENVIRONMENTS"
    ),
]
EnvironmentIdleOption = Annotated[
    float,
    typer.Option(
        help="Seconds after which an environment that nobody uses is shut down.", min=0.1, envvar="DBML_ENVIRONMENT_IDLE"
    ),
]
SandboxOption = Annotated[
    str,
    typer.Option(
        help="What holds scripts: auto (the strongest that this machine allows), bubblewrap or landlock.", envvar="DBML_SANDBOX"
    ),
]
UnsafeOption = Annotated[
    bool,
    typer.Option(
        "--unsafe-no-sandbox",
        envvar="DBML_UNSAFE_NO_SANDBOX",
        help="Run scripts with all that this account may do.  Only for those who wrote every script.",
    ),
]


def worker(
    context: typer.Context,
    dsn: DsnOption = None,
    listen: Annotated[
        str | None,
        typer.Option(help="host:port, or the folder for a Unix socket; by default what the server can reach."),
    ] = None,
    advertise: Annotated[
        str | None, typer.Option(help="host:port as the server sees it, where that differs from --listen.")
    ] = None,
    max_running: Annotated[
        int | None,
        typer.Option(
            help="Scripts that run at once, the others wait.  By default 4 a processor, at least 8.",
            min=1,
            envvar="DBML_MAX_RUNNING",
        ),
    ] = None,
    max_running_per_role: Annotated[
        int | None,
        typer.Option(help="Of these, scripts of one role.  By default no limit.", min=1, envvar="DBML_MAX_RUNNING_PER_ROLE"),
    ] = None,
    max_scripts: Annotated[
        int, typer.Option(help="Scripts that run or wait; more are refused at once.", min=1, envvar="DBML_MAX_SCRIPTS")
    ] = 500,
    role_share: Annotated[
        float,
        typer.Option(
            help="Part of --max-scripts beyond which a role gives way to others: its newest waiting script is refused.",
            min=0.01,
            max=1.0,
            envvar="DBML_ROLE_SHARE",
        ),
    ] = 0.5,
    max_connections: Annotated[
        int,
        typer.Option(
            help="Sessions of the database that may be connected, one connection each.", min=1, envvar="DBML_MAX_CONNECTIONS"
        ),
    ] = 2000,
    messages_mb: Annotated[
        int,
        typer.Option(
            help="Megabytes that the long messages of all sessions may have together; a statement that finds no room is refused.",
            min=1,
            envvar="DBML_MESSAGES_MB",
        ),
    ] = 2048,
    metrics: Annotated[
        str | None,
        typer.Option(
            help="host:port at which to answer /metrics (Prometheus) and /health.  Off by default.", envvar="DBML_METRICS"
        ),
    ] = None,
    find_links: FindLinksOption = None,
    no_index: NoIndexOption = False,
    environments: EnvironmentsOption = 4,
    environment_idle: EnvironmentIdleOption = 900.0,
    cache: CacheOption = None,
    sandbox: SandboxOption = "auto",
    unsafe_no_sandbox: UnsafeOption = False,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
    wait_for_database: Annotated[
        float,
        typer.Option(
            help="Seconds to wait at the start for a database that does not answer yet.", min=0, envvar="DBML_WAIT_FOR_DATABASE"
        ),
    ] = 30.0,
    supervise: Annotated[
        bool,
        typer.Option(
            help="Start the serving process again when it dies; --no-supervise where systemd or Kubernetes does.",
            envvar="DBML_SUPERVISE",
        ),
    ] = True,
    services: Annotated[
        bool,
        typer.Option(
            "--services",
            help="Serve web services too, as dbml services serve does: those that this login may write to.",
            envvar="DBML_SERVICES",
        ),
    ] = False,
    standby: Annotated[
        bool,
        typer.Option(
            help="Keep a second process of each kind ready, 400 MB in all, that takes over at once from one that dies.",
            envvar="DBML_STANDBY",
        ),
    ] = True,
    until_eof: Annotated[bool, typer.Option("--until-eof", hidden=True)] = False,
    in_waiting: Annotated[bool, typer.Option("--in-waiting", hidden=True)] = False,
) -> None:
    """Run a worker in the foreground, for a server that it does not start itself.

    A small process watches the one that serves, and starts it again at the same address when it dies.

    Example: dbml worker --dsn postgresql://owner:password@db.example.com/sales
    --listen 0.0.0.0:7070 --advertise worker.example.com:7070
    """
    found = find_dsn(dsn)
    level = logging.getLevelNamesMapping().get(log_level.upper())
    if level is None:
        raise errors.InvalidArgument(f"--log-level must be debug, info, warning or error, got {log_level}")
    links = absolute_links(find_links)
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    require_worker()
    orders = Orders() if until_eof else None
    wait_for_server(found, wait_for_database, log.warning)
    if supervise and not until_eof:
        options = given_options(context, leave_out=HANDED_ON)
        process = WorkerProcess(found, None, listen=listen, advertise=advertise, options=options, log=_pass_on, standby=standby)
        looking = LookingProcess(found, unconfined=unsafe_no_sandbox, log=_pass_on) if services else None
        raise typer.Exit(keep_worker(process, _pass_on, looking))
    if services and not until_eof:
        raise errors.InvalidArgument("--services needs the supervisor, got --no-supervise", hint="dbml services serve")
    from dbml.worker.router import serve
    from dbml.worker.settings import WorkerSettings
    from dbml.worker.spawn import adopt_strays

    with contextlib.nullcontext(listen) if listen else listening_place(found) as place:
        ready, warm = (_say_ready, _say_warm) if orders else (None, None)
        try:
            settings = WorkerSettings(
                dsn=found, listen=place, advertise=advertise, on_ready=ready, on_warm=warm, max_scripts=max_scripts,
                metrics=metrics,
                find_links=links, no_index=no_index, environments=environments, environment_idle_s=environment_idle,
                cache=cache and cache.absolute(), sandbox=wanted_sandbox(sandbox, unsafe_no_sandbox),
                max_running_per_role=max_running_per_role, role_share=role_share,
                max_connections=max_connections, messages_mb=messages_mb, standby=standby,
                on_standby=orders.await_turn if orders and in_waiting else None,
            )  # fmt: skip
            if max_running is not None:
                settings = dataclasses.replace(settings, max_running=max_running)
            adopt_strays()
            asyncio.run(serve(settings))
        finally:
            if until_eof:  # the supervisor made the temporary folder, and may be gone
                with contextlib.suppress(OSError):
                    Path(tempfile.gettempdir()).rmdir()


def wanted_sandbox(given: str, unsafe: bool) -> Wanted:
    """Return the setting that two options make.

    Raises: InvalidArgument.
    """
    if unsafe:
        return "none"
    if given not in ("auto", "bubblewrap", "landlock"):
        raise errors.InvalidArgument(f"--sandbox must be auto, bubblewrap or landlock, got {given}")
    return cast("Wanted", given)


def absolute_links(given: list[Path] | None) -> tuple[str, ...]:
    """Return directories of wheels as the worker, which may run elsewhere, finds them.

    Raises: InvalidArgument where one is not there.
    """
    for link in given or []:
        if not link.is_dir():
            raise errors.InvalidArgument(f"--find-links must be a directory of wheels, got {link}")
    return tuple(str(link.absolute()) for link in given or [])


def given_options(context: typer.Context, leave_out: Sequence[str]) -> list[str]:
    """Return the options that stand on the command line, for a process that gets the same; the environment is inherited."""
    given: list[str] = []
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        if name in leave_out or source is None or source.name != "COMMANDLINE":
            continue
        value = context.params[name]
        if isinstance(value, bool):
            given.append((parameter.opts if value else parameter.secondary_opts)[0])
        else:
            for one in value if isinstance(value, (list, tuple)) else [value]:
                given += [parameter.opts[0], str(one)]
    return given


def _pass_on(speaker: str, line: str) -> None:
    """Print what the serving process has printed as it is, and what its supervisor says as a log's line."""
    if speaker != "dbml":
        print(line, file=sys.stderr, flush=True)
    else:
        log.warning("%s", line)


def _say_ready(place: str) -> None:
    """Tell the supervisor, which reads what we print."""
    print(f"{READY} {place}", flush=True)


def _say_warm() -> None:
    print(WARM, flush=True)


class Orders:
    """What the supervisor writes to our standard input: a line when it is our turn; its end is ours."""

    def __init__(self) -> None:
        self._turn = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()

    def await_turn(self, go: Callable[[], object]) -> None:
        """Say that we stand by; go is called, from a thread, when it is our turn, which may have been before."""
        print(STANDS_BY, flush=True)
        threading.Thread(target=lambda: self._turn.wait() and go(), daemon=True).start()

    def _read(self) -> None:
        while os.read(0, 4096):
            self._turn.set()
        os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":  # as its supervisor starts it
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    alone.command()(worker)
    cli.main(alone)
