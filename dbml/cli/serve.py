"""`dbml serve`."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from dbml import errors
from dbml.cli.export import ScoreOption, SourceOption, WorkspaceOption, _connected, _plan
from dbml.cli.output import DsnOption
from dbml.cli.serve_service import UnsafeAppOption

INVALID = 3  # of a service's folder, by the scoring app


def serve(
    models: Annotated[
        list[str], typer.Argument(help="name (its latest version), name:3 or name@alias; several are served together.")
    ],
    host: Annotated[str, typer.Option(help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen at; 0: any that is free.")] = 5001,
    score: ScoreOption = None,
    source: SourceOption = None,
    name: Annotated[str | None, typer.Option(help="The service's name; by default the model's.")] = None,
    keys: Annotated[Path | None, typer.Option(help="A file of one or two keys, either of which a request must have.")] = None,
    threads: Annotated[int, typer.Option(help="Calls of score.py at a time.")] = 1,
    unsafe_no_sandbox: UnsafeAppOption = False,
    workspace: WorkspaceOption = None,
    dsn: DsnOption = None,
) -> None:
    """Serve a registered model over HTTP on this machine, with the packages that are installed here, until Ctrl+C.

    The app is confined by Landlock and a system call filter where the kernel has them: it reads its own folder and its Python,
    and connects to nothing.

    Example: dbml serve demo-diabetes --port 5001
    """
    lacking = [module for module in ("uvicorn", "starlette", "orjson", "prometheus_client", "werkzeug") if not _there(module)]
    if lacking:
        raise errors.InvalidArgument(f"{', '.join(lacking)} must be installed to serve", hint="pip install 'dbml[serving]'")
    from dbml.serving.export import folder as folders
    from dbml.serving.runner.processes import listen

    with tempfile.TemporaryDirectory(prefix="dbml-serve-") as scratch:
        with _connected(dsn) as connection:
            plan = _plan(connection, workspace, models, score, source, name=name, keep=False, locked=False)
            folder = folders.write(plan, Path(scratch) / "service")
        try:
            held = listen(host, port)
        except OSError as error:
            raise errors.InvalidArgument(f"{host}:{port} cannot be listened at: {error.strerror or error}") from None
        options = ["--fd", str(held.fileno()), "--threads", str(threads), *(["--keys", str(keys.absolute())] if keys else [])]
        with held:
            status = _run(folder, Path(scratch) / "home", options, held.fileno(), confined=not unsafe_no_sandbox)
    if status == INVALID:
        raise errors.InvalidArgument("the service does not start: what is said above is why",
                                     hint="dbml export MODEL --to DIR shows the score.py")  # fmt: skip
    if status:
        raise errors.ServiceError(f"the scoring app has ended: exit code {status}")


def _run(folder: Path, home: Path, options: Sequence[str], held: int, *, confined: bool) -> int:
    """Run the scoring app as a process that knows nothing of the database, until it ends or is told to; returns its status."""
    from dbml.serving.runner.processes import CONFINED, tied

    home.mkdir()
    module = [CONFINED, "landlock", str(home)] if confined else ["dbml.serving.app"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DBML_", "PG"))}
    environment |= {"PYTHONPATH": str(folder / "app"), "PYTHONDONTWRITEBYTECODE": "1"}
    if confined:
        environment |= {"HOME": str(home), "TMPDIR": str(home)}
    with subprocess.Popen(
        tied([sys.executable, "-m", *module, str(folder), *options]), cwd=folder, env=environment, pass_fds=[held],
        start_new_session=True,
    ) as running:  # fmt: skip

        def stop(number: int, frame: FrameType | None) -> None:
            running.terminate()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        return running.wait()


def _there(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
