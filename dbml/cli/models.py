"""`dbml models`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dbml import errors
from dbml.cli.output import DsnOption, JsonOption, print_json, print_table
from dbml.cli.serve_service import WorkspaceOption

if TYPE_CHECKING:
    from dbml.core.run import Run
    from dbml.core.workspace import Workspace

models = typer.Typer(
    no_args_is_help=True,
    help="List registered models (list), compare what a run measured (compare), or register a file that a run keeps (register):"
    " the steps of a pipeline.\n\nExample: dbml models list",
)
RunOption = Annotated[str, typer.Option("--run", help="The run's id, or a CSV file of one column run_id and one row.")]
_SHOWN = ("name", "version", "aliases", "framework", "format", "created_at", "created_by")


def _workspace(dsn: str | None, name: str) -> Workspace:
    from dbml.core.connection import Connection
    from dbml.core.workspace import Workspace

    return Workspace._open(Connection(dsn), name)


def _run(workspace: Workspace, told: str) -> Run:
    """Return a run by its id, or by the file in which `dbml run --output` wrote it."""
    from dbml.core.run import Run

    if told.endswith(".csv"):
        try:
            lines = Path(told).read_text(encoding="utf-8").split()
        except OSError as error:
            raise errors.InvalidArgument(
                f"--run must be a run's id or a file that can be read, got {told}: {error.strerror}"
            ) from None
        if len(lines) != 2 or lines[0] != "run_id":
            raise errors.InvalidArgument(f"{told} must hold one column run_id and one row, got {len(lines)} lines")
        told = lines[1]
    return Run.get(workspace, told)


@models.command("list")
def list_(dsn: DsnOption = None, workspace: WorkspaceOption = "default", json: JsonOption = False) -> None:
    """List the registered models, each version of them.

    Example: dbml models list
    """
    from dbml.store.client import models as stored

    rows = (ws := _workspace(dsn, workspace))._connection.do(stored.list_all, ws.name)
    if json:
        print_json([{key: row[key] for key in _SHOWN} for row in rows])
    else:
        print_table(_SHOWN, ([", ".join(row[key]) if key == "aliases" else row[key] for key in _SHOWN] for row in rows))


@models.command()
def compare(
    run: RunOption,
    metric: Annotated[str, typer.Option(help="The metric of the model that the run has trained.")],
    than: Annotated[str, typer.Option(help="The metric of the one that is there, of the same rows; not logged: there is none.")],
    lower_is_better: Annotated[bool, typer.Option("--lower-is-better", help="As with an error.")] = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A file that gets better, or nothing.")] = None,
    dsn: DsnOption = None,
    workspace: WorkspaceOption = "default",
) -> None:
    """Say whether one metric of a run is better than another, as of a new model and of the champion.

    Equal is not better. A metric that is NaN is not better than anything.

    Example: dbml models compare --run run.csv --metric score --than champion_score
    """
    found = _run(_workspace(dsn, workspace), run).get_metrics()
    if metric not in found:
        raise errors.InvalidArgument(
            f"the run must have logged {metric}, it has {', '.join(sorted(found)) or 'no metrics'}", hint="run.log(name, value)"
        )
    new, old = _last(found[metric]), _last(found[than]) if than in found else None
    if old is None or math.isnan(old):
        better, said = not math.isnan(new), f"{metric} = {new:g}, and nothing to compare it with"
    else:
        better = new < old if lower_is_better else new > old
        said = f"{metric} = {new:g} against {than} = {old:g}"
    typer.echo(f"{'better' if better else 'not better'}: {said}")
    if output is not None:
        output.write_text("better\n" if better else "", encoding="utf-8")


def _last(value: object) -> float:
    value = value[-1] if isinstance(value, list) and value else value
    if not isinstance(value, int | float):
        raise errors.InvalidArgument(f"a metric that is compared must be a number, got {value!r}")
    return float(value)


@models.command()
def register(
    name: Annotated[str, typer.Argument(help="The model's name.")],
    run: RunOption,
    file: Annotated[str, typer.Option(help="The file that the run keeps, or all under it.")] = "model.pkl",
    alias: Annotated[str | None, typer.Option(help="An alias that means this version from now on.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A file that gets name:version.")] = None,
    dsn: DsnOption = None,
    workspace: WorkspaceOption = "default",
) -> None:
    """Register a file that a run keeps as the next version of a model.

    Example: dbml models register diabetes --run run.csv --alias champion
    """
    from dbml.store.client import models as stored

    ws = _workspace(dsn, workspace)
    model = _run(ws, run).register_model(name, file)
    if alias is not None:
        ws._connection.do(stored.set_alias, ws.name, model.id, alias)
    typer.echo(f"{model.id} is registered{f' as {alias}' if alias else ''}")
    if output is not None:
        output.write_text(f"{model.id}\n", encoding="utf-8")
