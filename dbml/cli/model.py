"""`dbml model`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dbml.cli import records
from dbml.cli.records import (
    DsnOption,
    JsonOption,
    OverwriteOption,
    RemoveOption,
    TagOption,
    TagsArgument,
    ToOption,
    WorkspaceOption,
)

if TYPE_CHECKING:
    from dbml.core.model import Model

model = typer.Typer(
    no_args_is_help=True,
    help="Registered models: list, show, register, tag, download, delete and compare them.\n\n"
    "A model is name (its newest version), name:3 or name@alias.\n\n"
    "Example: dbml model show iris@champion",
)
ModelArgument = Annotated[str, typer.Argument(help="name, name:3 or name@alias.")]
SHOWN = ("name", "version", "aliases", "format", "framework", "size_bytes", "tags", "created_at", "created_by")


def _find(dsn: str | None, workspace: str | None, reference: str) -> Model:
    from dbml.core.model import Model

    return Model(records.open_workspace(dsn, workspace), reference)


def _record(found: Model) -> dict[str, Any]:
    return {name: value for name, value in found._row.items() if name != "model_id"}


@model.command("list")
def list_(
    name: Annotated[str | None, typer.Argument(help="The versions of this model alone.")] = None,
    tag: TagOption = None,
    latest: Annotated[bool, typer.Option("--latest", help="Of each model the newest version alone.")] = False,
    framework: Annotated[str | None, typer.Option(help="Those of this framework.")] = None,
    dsn: DsnOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """List the versions of models, the newest first.

    Example: dbml model list --latest --tag stage=production
    """
    from dbml.core.model import Model

    ws = records.open_workspace(dsn, workspace)
    found = Model.list(ws, name, tags=records.read_tags(tag), latest=latest, model_framework=framework)
    records.show_list(SHOWN, map(_record, found), json=json)


@model.command()
def show(name: ModelArgument, dsn: DsnOption = None, workspace: WorkspaceOption = None, json: JsonOption = False) -> None:
    """Show all that is known of a version, with its files and what its run has logged.

    Example: dbml model show iris:3 --json
    """
    found = _find(dsn, workspace, name)
    records.show_record(_record(found) | {"files": found._paths(), "metrics": _metrics(found)}, json=json)


def _metrics(found: Model) -> dict[str, Any]:
    run = found.run
    return {} if run is None else run.get_metrics()


@model.command()
def register(
    name: Annotated[str, typer.Argument(help="The model; its next version is made.")],
    path: Annotated[str, typer.Argument(help="A file or a folder; with --run, what the run keeps under that name.")],
    run: Annotated[str | None, typer.Option(help="The run that keeps it: its id, or a CSV file of one column run_id.")] = None,
    tag: TagOption = None,
    description: Annotated[str | None, typer.Option(help="A sentence for people.")] = None,
    framework: Annotated[str | None, typer.Option(help="What it was made with: ScikitLearn.")] = None,
    framework_version: Annotated[str | None, typer.Option(help="The version of that.")] = None,
    alias: Annotated[str | None, typer.Option(help="An alias that means this version from now on.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A file that gets name:version.")] = None,
    dsn: DsnOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Register a file or a folder as the next version of a model.

    A pickle (pickle, cloudpickle, joblib) of a fitted estimator is scored by dbml.predict from then on.

    Example: dbml model register iris model.pkl --framework ScikitLearn --tag stage=try --alias challenger
    """
    from dbml.cli.runs import find_run
    from dbml.core.model import Model

    ws = records.open_workspace(dsn, workspace)
    about: dict[str, Any] = {
        "tags": records.read_tags(tag), "description": description, "model_framework": framework,
        "model_framework_version": framework_version,
    }  # fmt: skip
    with records.quiet():
        made = Model.register(ws, path, name, **about) if run is None else find_run(ws, run).register_model(name, path, **about)
    if alias is not None:
        made.set_alias(alias)
    if output is not None:
        output.write_text(f"{made.id}\n", encoding="utf-8")
    records.show_record(_record(made), json=json) if json else typer.echo(made.id)


@model.command()
def tag(
    name: ModelArgument,
    tags: TagsArgument = None,
    remove: RemoveOption = None,
    alias: Annotated[str | None, typer.Option(help="An alias that means this version from now on.")] = None,
    dsn: DsnOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Set tags of a version, remove some, or give it an alias; prints its tags.

    Example: dbml model tag iris:3 stage=production --remove draft --alias champion
    """
    records.require_change(tags, remove, alias)
    found = _find(dsn, workspace, name)
    if remove:
        found.remove_tags(remove)
    if tags:
        found.add_tags(records.read_tags(tags))
    if alias is not None:
        found.set_alias(alias)
    records.show_tags(found.tags, json=json)


@model.command()
def download(
    name: ModelArgument,
    to: ToOption = Path(),
    overwrite: OverwriteOption = False,
    dsn: DsnOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Write the files of a version into a folder, their digests checked; prints their paths.

    Example: dbml model download iris@champion --to models/iris
    """
    found = _find(dsn, workspace, name)
    found.download(to, exist_ok=overwrite)
    records.show_paths((to / path for path in found._paths()), json=json)


@model.command()
def delete(
    name: Annotated[str, typer.Argument(help="name (its newest version), name:3 or name@alias.")],
    every: Annotated[bool, typer.Option("--all", help="Every version of the name.")] = False,
    dsn: DsnOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Delete a version; one that an image has or a service serves is kept, with an error.

    Example: dbml model delete iris:2
    """
    from dbml.core.model import Model

    found = _find(dsn, workspace, name)
    gone = Model.list(found.workspace, found.name) if every else [found]
    for one in gone:
        one.delete()
    records.show_paths((one.id for one in gone), json=json)


@model.command()
def compare(
    names: Annotated[list[str], typer.Argument(help="Versions: iris:1 iris:2, or iris for all of its versions.")],
    dsn: DsnOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Show versions side by side: what they are made of, their tags, and the parameters and metrics of their runs.

    Example: dbml model compare iris:1 iris@champion
    """
    from dbml.core.model import Model

    ws = records.open_workspace(dsn, workspace)
    if len(names) == 1 and not {":", "@"} & set(names[0]):
        found = Model.list(ws, Model(ws, names[0]).name)[::-1]
    else:
        found = [Model(ws, name) for name in names]
    compared = [_compared(one) for one in found]
    columns = dict.fromkeys(name for record in compared for name in record)
    records.show_list([*columns], compared, json=json)


def _compared(found: Model) -> dict[str, Any]:
    run = found.run
    known: dict[str, Any] = {
        "model": found.id, "aliases": found.aliases, "framework": found.model_framework,
        "framework_version": found.model_framework_version, "size_bytes": found._row["size_bytes"],
        "digest": found._row["digest"], "created_at": found.created_time, "run_id": found.run_id,
    }  # fmt: skip
    known |= {f"tag.{name}": value for name, value in found.tags.items()}
    if run is not None:
        known |= {f"param.{name}": value for name, value in run.params.items()}
        known |= {f"metric.{name}": value for name, value in run.get_metrics().items()}
    return known
