"""`dbml up`."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Annotated

import typer

from dbml import errors
from dbml.cli.output import console
from dbml.cli.supervisor import Supervisor
from dbml.database.embedded import open_log
from dbml.dsn import parse, without_password
from dbml.home import Home

START_S = 180.0
COLORS = {"dbml": "bold", "postgres": "cyan", "worker": "green"}


def up(
    dsn: Annotated[
        str | None,
        typer.Option(help="Use this server, and run only the worker.", envvar="DBML_DSN", show_default=False),
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return when all is ready, and run on.")] = False,
    port: Annotated[
        int | None,
        typer.Option(help="Let the embedded server listen on 127.0.0.1 at this port too.", min=1, max=65535),
    ] = None,
    listen: Annotated[str | None, typer.Option(help="Where the worker listens: as of dbml worker.")] = None,
    advertise: Annotated[str | None, typer.Option(help="The worker's address as the server sees it.")] = None,
) -> None:
    """Start a PostgreSQL server and a worker in this folder's .dbml, and keep them alive.

    In the foreground, with their log, until Ctrl-C; with --detach in the background, until dbml down.

    Example: dbml up --detach; dbml psql -- -c "select * from dbml.run_script('print(1)') as t(x int)"
    """
    if dsn:
        parse(dsn, "--dsn")
    if dsn and port:
        raise errors.InvalidArgument("--port is for the embedded server, a server given by --dsn has its own")
    home = Home.of(Path.cwd())
    if detach:
        start_detached(home, dsn=dsn, port=port, listen=listen, advertise=advertise)
        console.print("ready: dbml psql opens it, dbml status shows it, dbml down stops it")
        return
    run_foreground(home, dsn=dsn, port=port, listen=listen, advertise=advertise)


def run_foreground(home: Home, *, dsn: str | None, port: int | None, listen: str | None, advertise: str | None) -> None:
    """Run until a signal stops it, printing the merged log."""
    mutex = threading.Lock()

    def log(speaker: str, line: str) -> None:
        with mutex:
            console.print(f"{time.strftime('%H:%M:%S')} ", end="", style="dim")
            console.print(f"{speaker:<8} ", end="", style=COLORS.get(speaker))
            console.print(line, markup=False, soft_wrap=True)

    supervisor = Supervisor(home, dsn=dsn, port=port, listen=listen, advertise=advertise, log=log)
    supervisor.run(lambda found: log("dbml", f"ready: {without_password(found)}; Ctrl-C stops, dbml psql opens it"))


def start_detached(
    home: Home,
    *,
    dsn: str | None = None,
    port: int | None = None,
    listen: str | None = None,
    advertise: str | None = None,
) -> str:
    """Start it in the background, wait until psql and the worker answer, and return the DSN.

    Where one is running already that one is waited for and used, if it is for the same server.
    Raises: DbmlError with the last error that it logged.
    """
    if home.running():
        return _wait_for_other(home, dsn)
    home.create()
    command = [sys.executable, "-m", "dbml.cli", "up"]
    for name, value in (("--port", port), ("--listen", listen), ("--advertise", advertise)):
        command += [name, str(value)] if value else []
    environment = {key: value for key, value in os.environ.items() if key != "DBML_DSN"}
    if dsn:
        environment["DBML_DSN"] = dsn
    descriptor = open_log(home.log_file)
    try:
        offset = os.fstat(descriptor).st_size
        process = subprocess.Popen(
            command, cwd=home.path.parent, stdin=subprocess.DEVNULL, stdout=descriptor, stderr=descriptor,
            start_new_session=True, env=environment,
        )  # fmt: skip
    finally:
        os.close(descriptor)
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        state = home.state()
        if state and state.get("pid") == process.pid:
            process.returncode = 0  # it is no longer ours to wait for
            return str(state["dsn"])
        if process.poll() is not None:
            if home.running():  # another one was quicker
                return _wait_for_other(home, dsn)
            raise _reported(home, offset)
        time.sleep(0.05)
    process.terminate()
    process.wait()
    raise errors.DbmlError(f"dbml must be ready within {START_S:g} s", hint=f"its log is {home.log_file}")


def _wait_for_other(home: Home, dsn: str | None) -> str:
    deadline = time.monotonic() + START_S
    while home.running() and time.monotonic() < deadline:
        state = home.state()
        if state:
            if dsn and state["dsn"] != dsn:
                raise errors.DbmlError(
                    f"dbml is already running in {home.path.parent}, for another server",
                    hint="dbml down stops it",
                )
            console.print(f"dbml is already running in {home.path.parent}", markup=False, soft_wrap=True)
            return str(state["dsn"])
        time.sleep(0.05)
    raise errors.DbmlError(
        f"the dbml that was starting in {home.path.parent} did not get ready",
        hint=f"its log is {home.log_file}",
    )


def _reported(home: Home, offset: int) -> errors.DbmlError:
    """Make an error of what the background process said before it ended."""
    with home.log_file.open("rb") as stream:
        stream.seek(offset)
        lines = stream.read().decode(errors="replace").splitlines()
    message = next((line.partition("error: ")[2] for line in reversed(lines) if line.startswith("error: ")), None)
    hint = next((line.partition("hint: ")[2] for line in reversed(lines) if line.startswith("hint: ")), None)
    return errors.DbmlError(
        message or f"dbml ended while it started: {lines[-1] if lines else 'it said nothing'}",
        hint=hint or f"its log is {home.log_file}",
    )
