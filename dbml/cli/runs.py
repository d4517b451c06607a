"""`dbml run`: the records of runs, by their commands; any other word is a script to be run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from dbml import errors
from dbml.cli import records
from dbml.cli.records import (
    DsnOption,
    JsonOption,
    LimitOption,
    OverwriteOption,
    RemoveOption,
    TagOption,
    TagsArgument,
    ToOption,
    WorkspaceOption,
)
from dbml.cli.run import run as run_script

if TYPE_CHECKING:
    from dbml.core.run import Run
    from dbml.core.workspace import Workspace

SCRIPT = "script"  # the command that a script's path stands for


class ScriptOrRecords(TyperGroup):
    """A group whose first word is one of its commands, or else the script that `dbml run` runs.

    Its help is that of running a script, with the commands below.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the hidden command in front of what is no command."""
        if args and args[0] not in (*self.commands, *ctx.help_option_names):
            args = [SCRIPT, *args]
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Show the options of running a script as the group's own."""
        script = self.commands[SCRIPT]
        own, self.params, self.help = self.params, script.params, f"{script.help}"
        self.subcommand_metavar = "| COMMAND"
        try:
            super().format_help(ctx, formatter)
        finally:
            self.params = own


runs = typer.Typer(cls=ScriptOrRecords, no_args_is_help=True, help=run_script.__doc__)
runs.command(SCRIPT, hidden=True)(run_script)

RunArgument = Annotated[str, typer.Argument(help="The id of a run, or the first digits of it.")]
SHOWN = ("run_id", "experiment", "display_name", "kind", "status", "started_at", "seconds", "username")
LEFT_OUT = ("log", "script", "inputs")  # of a list: long texts


def _find(dsn: str | None, workspace: str | None, run_id: str) -> Run:
    return find_run(records.open_workspace(dsn, workspace), run_id)


def find_run(ws: Workspace, told: str) -> Run:
    """Return a run by its id, the first digits of it, or the file in which `dbml run SCRIPT --output` wrote it.

    Raises: RunNotFound; InvalidArgument where several are meant, or the file is another.
    """
    from dbml.core.run import Run

    return Run.get(ws, _whole(ws, _read(told) if told.endswith(".csv") else told))


def _read(file: str) -> str:
    try:
        lines = Path(file).read_text(encoding="utf-8").split()
    except OSError as error:
        raise errors.InvalidArgument(
            f"a run must be told by its id or a file that can be read, got {file}: {error.strerror}"
        ) from None
    if len(lines) != 2 or lines[0] != "run_id":
        raise errors.InvalidArgument(f"{file} must hold one column run_id and one row, got {len(lines)} lines")
    return lines[1]


def _whole(ws: Any, start: str) -> str:
    """Return the id that begins so.

    Raises: RunNotFound; InvalidArgument where several do.
    """
    from dbml.store.client import runs as stored

    if len(start) >= 32 or not start:
        return start
    found = ws._connection.do_again(stored.beginning_with, ws.name, start)
    if len(found) > 1:
        raise errors.InvalidArgument(f"a run's id must be told by its first digits, {len(found)} runs begin with {start!r}")
    return str(found[0]) if found else start


def _record(row: Any, *, whole: bool = True) -> dict[str, Any]:
    named = {"display_name" if name == "name" else name: value for name, value in row.items()}
    return named if whole else {name: value for name, value in named.items() if name not in LEFT_OUT}


@runs.command("list")
def list_(
    experiment: Annotated[str | None, typer.Option(help="Those of this experiment.")] = None,
    status: Annotated[
        str | None,
        typer.Option(help="queued, running, completed, failed, canceled or interrupted."),
    ] = None,
    tag: TagOption = None,
    children: Annotated[bool, typer.Option("--children", help="Those that are part of another run too.")] = False,
    limit: LimitOption = None,
    dsn: DsnOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """List runs, the newest first.

    Example: dbml run list --experiment churn --status failed --limit 20
    """
    from dbml.core.run_details import AZURE_STATUS
    from dbml.store.client import runs as stored

    if status is not None and status not in AZURE_STATUS:
        raise errors.InvalidArgument(f"--status must be one of {', '.join(AZURE_STATUS)}, got {status!r}")
    ws = records.open_workspace(dsn, workspace)
    rows = ws._connection.do_again(
        stored.list_all, ws.name, experiment=experiment, roots_only=not children, status=status, tags=records.read_tags(tag),
        limit=limit,
    )  # fmt: skip
    records.show_list(SHOWN, (_record(row, whole=False) for row in rows), json=json)


@runs.command()
def show(run_id: RunArgument, dsn: DsnOption = None, workspace: WorkspaceOption = None, json: JsonOption = False) -> None:
    """Show all that is known of a run, with its metrics and the names of its files.

    Example: dbml run show 0199b3a2
    """
    found = _find(dsn, workspace, run_id)
    known = _record(found._row, whole=json)
    records.show_record(known | {"metrics": found.get_metrics(), "files": found.get_file_names()}, json=json)


@runs.command()
def log(
    run_id: RunArgument,
    dsn: DsnOption = None,
    workspace: WorkspaceOption = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run ends.")] = False,
    json: JsonOption = False,
) -> None:
    """Print what the script of a run has printed.

    Example: dbml run log 0199b3a2 --follow
    """
    from dbml.cli.output import print_json
    from dbml.core import submission

    found = _find(dsn, workspace, run_id)
    if follow and not json:
        submission.follow(found._workspace, found._id, show_output=True)
        return
    if follow:
        submission.follow(found._workspace, found._id)
    text = found._read()["log"] or ""
    if json:
        print_json({"run_id": found.id, "status": found._row["status"], "log": text})
    else:
        typer.echo(text, nl=False)


@runs.command()
def tag(
    run_id: RunArgument,
    tags: TagsArgument = None,
    remove: RemoveOption = None,
    dsn: DsnOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Set tags of a run, or remove some; prints them.

    Example: dbml run tag 0199b3a2 reviewed=yes --remove draft
    """
    records.require_change(tags, remove)
    found = _find(dsn, workspace, run_id)
    if remove:
        found.remove_tags(remove)
    if tags:
        found.set_tags(records.read_tags(tags))
    records.show_tags(found.get_tags(), json=json)


@runs.command()
def download(
    run_id: RunArgument,
    name: Annotated[str | None, typer.Argument(help="A file, or the beginning of the names of several; all by default.")] = None,
    to: ToOption = Path(),
    overwrite: OverwriteOption = False,
    dsn: DsnOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Write what a run keeps into a folder: files, images, and its log; prints their paths.

    Example: dbml run download 0199b3a2 outputs/ --to results
    """
    from dbml.core.run_files import safe

    found = _find(dsn, workspace, run_id)
    names = [one for one in found.get_file_names() if one.startswith(name or "")]
    if not names:
        raise errors.RunNotFound(f"run {found.id} keeps no file {name or ''!r}", hint=f"dbml run show {found.id}")
    paths = [to / safe(one) for one in names]
    if not overwrite and (there := [path for path in paths if path.exists()]):
        raise errors.InvalidArgument(f"a file must not be there to be written, {there[0]} is", hint="--overwrite replaces it")
    for one, path in zip(names, paths, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        found.download_file(one, path)
    records.show_paths(paths, json=json)


@runs.command()
def cancel(run_id: RunArgument, dsn: DsnOption = None, workspace: WorkspaceOption = None, json: JsonOption = False) -> None:
    """Cancel a run that waits or runs; one that has ended stays as it is, with an error.

    Example: dbml run cancel 0199b3a2
    """
    from dbml.core.run_details import ENDED

    found = _find(dsn, workspace, run_id)
    if found.get_status() in ENDED:
        raise errors.InvalidArgument(f"a run must go on to be cancelled, {found.id} is {found._row['status']}")
    found.cancel()
    if json:
        records.show_record({"run_id": found.id, "status": found._read()["status"]}, json=True)
    else:
        records.say(f"run {found.id} is being cancelled")


@runs.command()
def delete(
    run_ids: Annotated[list[str], typer.Argument(help="The ids of runs, or the first digits of each.")],
    dsn: DsnOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Delete runs that have ended, each with its parts, metrics, log and files; prints their ids.

    Yours, and as an owner of the workspace any. One that is the origin of a model or a dataset is kept, with an error.

    Example: dbml run delete 0199b3a2 0199b3a7
    """
    ws = records.open_workspace(dsn, workspace)
    found = [find_run(ws, run_id) for run_id in run_ids]
    for run in found:
        run.delete()
    records.show_paths((run.id for run in found), json=json)


@runs.command()
def compare(
    run_ids: Annotated[list[str], typer.Argument(help="The ids of runs, or the first digits of each.")],
    dsn: DsnOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Show runs side by side, with their parameters, tags and last metrics.

    dbml experiment compare does it for all runs of an experiment.

    Example: dbml run compare 0199b3a2 0199b3a7
    """
    from dbml.core.comparison import Comparison

    ws = records.open_workspace(dsn, workspace)
    show_comparison(Comparison(ws, [find_run(ws, run_id) for run_id in run_ids]), json=json)


def show_comparison(comparison: Any, *, json: bool) -> None:
    """Print runs that are compared, a record a run."""
    compared = comparison.records
    columns = dict.fromkeys(name for record in compared for name in record)
    records.show_list([*columns], compared, json=json)


@runs.command()
def better(
    run_id: Annotated[str, typer.Argument(help="The run's id, or a CSV file of one column run_id and one row.")],
    metric: Annotated[str, typer.Option(help="The metric of the model that the run has trained.")],
    than: Annotated[str, typer.Option(help="The metric of the one that is there, of the same rows; not logged: there is none.")],
    lower_is_better: Annotated[bool, typer.Option("--lower-is-better", help="As with an error.")] = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A file that gets better, or nothing.")] = None,
    dsn: DsnOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Say whether one metric of a run is better than another, as of a new model and of the champion.

    Equal is not better. A metric that is NaN is not better than anything.

    Example: dbml run better run.csv --metric score --than champion_score
    """
    found = _find(dsn, workspace, run_id).get_metrics()
    if metric not in found:
        raise errors.InvalidArgument(
            f"the run must have logged {metric}, it has {', '.join(sorted(found)) or 'no metrics'}", hint="run.log(name, value)"
        )
    new, old = _last(found[metric]), _last(found[than]) if than in found else None
    if old is None or math.isnan(old):
        is_better, said = not math.isnan(new), f"{metric} = {new:g}, and nothing to compare it with"
    else:
        is_better = new < old if lower_is_better else new > old
        said = f"{metric} = {new:g} against {than} = {old:g}"
    if json:
        records.show_record({"better": is_better, metric: new, than: old}, json=True)
    else:
        typer.echo(f"{'better' if is_better else 'not better'}: {said}")
    if output is not None:
        output.write_text("better\n" if is_better else "", encoding="utf-8")


def _last(value: object) -> float:
    value = value[-1] if isinstance(value, list) and value else value
    if not isinstance(value, int | float):
        raise errors.InvalidArgument(f"a metric that is compared must be a number, got {value!r}")
    return float(value)
