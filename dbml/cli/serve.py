"""`dbml serve`."""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from dbml import errors
from dbml.cli.export import ScoreOption, SourceOption, WorkspaceOption, _connected, _plan
from dbml.cli.output import DsnOption


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
    workspace: WorkspaceOption = None,
    dsn: DsnOption = None,
) -> None:
    """Serve a registered model over HTTP on this machine, with the packages that are installed here, until Ctrl+C.

    Example: dbml serve demo-diabetes --port 5001
    """
    lacking = [module for module in ("uvicorn", "starlette", "orjson", "prometheus_client", "werkzeug") if not _there(module)]
    if lacking:
        raise errors.InvalidArgument(f"{', '.join(lacking)} must be installed to serve", hint="pip install 'dbml[serving]'")
    from dbml.serving.app.problems import ServiceInvalid
    from dbml.serving.app.scoring import Limits
    from dbml.serving.app.server import Settings
    from dbml.serving.app.server import serve as run
    from dbml.serving.export import folder as folders

    with tempfile.TemporaryDirectory(prefix="dbml-serve-") as scratch:
        with _connected(dsn) as connection:
            plan = _plan(connection, workspace, models, score, source, name=name, keep=False, locked=False)
            folder = folders.write(plan, Path(scratch) / "service")
        try:
            run(Settings(folder, host, port, keys=keys, limits=Limits(threads=threads)))
        except ServiceInvalid as error:
            raise errors.InvalidArgument(str(error), hint="dbml export MODEL --to DIR shows the score.py") from error.__cause__
        except OSError as error:
            raise errors.InvalidArgument(f"{host}:{port} cannot be listened at: {error.strerror or error}") from None


def _there(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
