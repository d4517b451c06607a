"""`dbml experiment`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dbml import errors
from dbml.cli import records
from dbml.cli.records import DsnOption, JsonOption, LimitOption, RemoveOption, TagOption, TagsArgument, WorkspaceOption

if TYPE_CHECKING:
    from dbml.core.experiment import Experiment
    from dbml.core.workspace import Workspace

experiment = typer.Typer(
    no_args_is_help=True,
    help="Experiments, the names under which runs are grouped: list, show, create, tag and delete them, and compare their runs."
    "\n\n"
    "Example: dbml experiment compare churn",
)
NameArgument = Annotated[str, typer.Argument(help="The experiment.")]
SHOWN = ("name", "runs", "last_run_at", "tags", "description", "created_at", "created_by")


def _find(ws: Workspace, name: str) -> Experiment:
    from dbml.core.experiment import Experiment

    found = Experiment.list(ws, name)
    if not found:
        raise errors.NothingFound(f"experiment {name!r} is not in workspace {ws.name!r}", hint="dbml experiment list")
    return found[0]


def _record(found: Experiment) -> dict[str, Any]:
    return {name: value for name, value in found._row.items() if name != "experiment_id"}


@experiment.command("list")
def list_(dsn: DsnOption = None, workspace: WorkspaceOption = None, json: JsonOption = False) -> None:
    """List the experiments of a workspace, with how many runs each has.

    Example: dbml experiment list
    """
    from dbml.core.experiment import Experiment

    found = Experiment.list(records.open_workspace(dsn, workspace))
    records.show_list(SHOWN, map(_record, found), json=json)


@experiment.command()
def show(
    name: NameArgument,
    limit: LimitOption = 10,
    dsn: DsnOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Show an experiment and the newest of its runs; --limit: how many of these.

    Example: dbml experiment show churn --limit 3
    """
    from dbml.store.client import runs

    ws = records.open_workspace(dsn, workspace)
    known = _record(_find(ws, name))
    rows = ws._connection.do_again(runs.list_all, ws.name, experiment=name, roots_only=True, limit=limit)
    newest = [{"run_id": row["run_id"], "status": row["status"], "started_at": row["started_at"]} for row in rows]
    records.show_record(known | {"newest": newest if json else [f"{row['run_id']} {row['status']}" for row in newest]}, json=json)


@experiment.command()
def create(
    name: NameArgument,
    tag: TagOption = None,
    description: Annotated[str | None, typer.Option(help="A sentence for people.")] = None,
    dsn: DsnOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Make an experiment where it is not there, and describe it; a run makes its own too.

    Example: dbml experiment create churn --description "who leaves" --tag team=crm
    """
    from dbml.core.experiment import Experiment

    made = Experiment(records.open_workspace(dsn, workspace), name)
    if tag or description is not None:
        made._change(tags=records.read_tags(tag), description=description)
    records.show_record(_record(made), json=json) if json else typer.echo(made.name)


@experiment.command()
def tag(
    name: NameArgument,
    tags: TagsArgument = None,
    remove: RemoveOption = None,
    dsn: DsnOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Set tags of an experiment, or remove some; prints them.

    Example: dbml experiment tag churn team=crm --remove draft
    """
    records.require_change(tags, remove)
    found = _find(records.open_workspace(dsn, workspace), name)
    found._change(tags=records.read_tags(tags), remove=remove or ())
    records.show_tags(found.tags, json=json)


@experiment.command()
def delete(
    name: NameArgument,
    runs: Annotated[bool, typer.Option("--runs", help="Its runs first, as dbml run delete does.")] = False,
    dsn: DsnOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Delete an experiment, which must have no runs; with --runs they go first.

    Example: dbml experiment delete misspelt
    """
    found = _find(records.open_workspace(dsn, workspace), name)
    if runs:
        for run in found.get_runs():
            run.delete()
    found.delete(found.workspace, found.id)
    records.show_paths([found.name], json=json)


@experiment.command()
def compare(
    name: NameArgument,
    tag: TagOption = None,
    plot: Annotated[Path | None, typer.Option(help="Draw a metric into this file: .png, .svg or .pdf.")] = None,
    metric: Annotated[str | None, typer.Option(help="With --plot: the metric; by default the first.")] = None,
    against: Annotated[str | None, typer.Option(help="With --plot: a parameter, for a point a run.")] = None,
    dsn: DsnOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Show the runs of an experiment side by side, with their parameters, tags and last metrics; draw them too.

    Example: dbml experiment compare churn --plot auc.png --metric auc --against depth
    """
    from dbml.cli.runs import show_comparison

    found = _find(records.open_workspace(dsn, workspace), name)
    comparison = found.compare(tags=records.read_tags(tag))
    if plot is not None:
        comparison.plot(metric, against).savefig(plot)
    show_comparison(comparison, json=json)
