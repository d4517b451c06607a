"""`dbml serve-service`."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from dbml import errors
from dbml.cli.confinement import confinement
from dbml.cli.output import DsnOption
from dbml.cli.worker import FindLinksOption, NoIndexOption, absolute_links
from dbml.dsn import find_dsn
from dbml.temporary import SCRATCH, temporary_directory

PythonImageOption = Annotated[
    str | None,
    typer.Option(help="What images are built on; by default python:3.x-slim.", envvar="DBML_PYTHON_IMAGE", show_default=False),
]
UnsafeAppOption = Annotated[
    bool,
    typer.Option(
        "--unsafe-no-sandbox",
        envvar="DBML_UNSAFE_NO_SANDBOX",
        help="Let models and score.py do all that this account may do.  Only for those who wrote every one.",
    ),
]
WorkspaceOption = Annotated[str, typer.Option(help="Its workspace.")]


def serve_service(
    name: Annotated[str, typer.Argument(help="The service, which dbml deploy or dbml.deploy has made.")],
    dsn: DsnOption = None,
    workspace: WorkspaceOption = "default",
    cache: Annotated[
        Path | None,
        typer.Option(help="Where environments are kept; by default dbml in the user's cache directory.", envvar="DBML_CACHE"),
    ] = None,
    confined: Annotated[
        bool, typer.Option("--confined", help="Serve what may be a stranger's: no process without bubblewrap.")
    ] = False,
    unsafe_no_sandbox: UnsafeAppOption = False,
    database_silent_s: Annotated[
        float, typer.Option(help="End when the database has not answered for so long.", envvar="DBML_DATABASE_SILENT_S", min=1)
    ] = 900,
    python_image: PythonImageOption = None,
    find_links: FindLinksOption = None,
    no_index: NoIndexOption = False,
) -> None:
    """Serve a web service from this machine until it is deleted: keep it up as its target says, update it, say how it is.

    dbml deploy starts one in the background. Where that is gone, this brings the service back.

    Example: dbml serve-service diabetes
    """
    from dbml.serving.runner.contract import Machine
    from dbml.serving.runner.runner import Runner
    from dbml.worker.sandbox import conceal

    found = find_dsn(dsn)
    conceal()  # the login is not for what it serves to read
    kept = cache or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dbml"
    with temporary_directory(SCRATCH) as folder:
        folder.chmod(0o711)
        if unsafe_no_sandbox and confined:
            raise errors.InvalidArgument("--confined and --unsafe-no-sandbox exclude each other")
        confine = None if unsafe_no_sandbox else confinement(folder, typer.echo)
        machine = Machine(
            cache=kept.absolute(), confine=confine, confined=confined, sandbox=not unsafe_no_sandbox,
            python_image=python_image,
            find_links=absolute_links(find_links), no_index=no_index,
        )  # fmt: skip
        runner = Runner(found, workspace, name, machine=machine, say=typer.echo, silent_s=database_silent_s)

        def stop(number: int, frame: FrameType | None) -> None:
            runner.stop()

        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, stop)
        runner.run()
