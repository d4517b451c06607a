"""`dbml workspace`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dbml.cli import records
from dbml.cli.output import console
from dbml.cli.records import DsnOption, JsonOption, RemoveOption, TagOption, TagsArgument, ToOption

if TYPE_CHECKING:
    from dbml.core.workspace import Workspace

workspace = typer.Typer(
    no_args_is_help=True,
    help="Workspaces, what keeps the models, runs and datasets of one purpose together: list, show, create, tag and delete"
    " them, and write the config.json that programs find one by.\n\n"
    "Example: dbml workspace create churn",
)
NameArgument = Annotated[str, typer.Argument(help="The workspace.")]
SHOWN = ("name", "description", "tags", "created_at", "created_by")
COUNTED = ("experiments", "models", "datasets", "environments", "images", "webservices")


def _record(row: Any) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "workspace_id"}


@workspace.command("list")
def list_(dsn: DsnOption = None, json: JsonOption = False) -> None:
    """List the workspaces that you may see.

    Example: dbml workspace list
    """
    from dbml.core.connection import Connection
    from dbml.store.client import workspaces

    rows = Connection(dsn, application="dbml cli").do(workspaces.list_all)
    records.show_list(SHOWN, map(_record, rows), json=json)


@workspace.command()
def show(name: NameArgument = "default", dsn: DsnOption = None, json: JsonOption = False) -> None:
    """Show a workspace, and how much is in it.

    Example: dbml workspace show churn
    """
    found = records.open_workspace(dsn, name)
    records.show_record(_record(found._row) | {kind: len(getattr(found, kind)) for kind in COUNTED}, json=json)


@workspace.command()
def create(
    name: NameArgument,
    description: Annotated[str | None, typer.Option(help="A sentence for people.")] = None,
    tag: TagOption = None,
    exist_ok: Annotated[bool, typer.Option("--exist-ok", help="One that is there will do.")] = False,
    dsn: DsnOption = None,
    json: JsonOption = False,
) -> None:
    """Create a workspace, which is yours then; dbml.grant_workspace lets others in.

    Example: dbml workspace create churn --description "who leaves" --tag team=crm
    """
    from dbml.core.workspace import Workspace

    tags = {key: value or "" for key, value in records.read_tags(tag).items()}
    made = Workspace.create(name, friendly_name=description, tags=tags, exist_ok=exist_ok, show_output=False, dsn=dsn)
    records.show_record(_record(made._row), json=json) if json else typer.echo(made.name)


@workspace.command()
def tag(
    name: NameArgument,
    tags: TagsArgument = None,
    remove: RemoveOption = None,
    description: Annotated[str | None, typer.Option(help="A sentence for people.")] = None,
    dsn: DsnOption = None,
    json: JsonOption = False,
) -> None:
    """Set tags of a workspace, remove some, or describe it; prints its tags.

    Example: dbml workspace tag churn team=crm --remove draft
    """
    from dbml.store.client import workspaces

    records.require_change(tags, remove, description)
    found = records.open_workspace(dsn, name)
    left = found._connection.do(
        workspaces.update, found.name, description=description, tags=records.read_tags(tags), remove=remove or ()
    )
    records.show_tags(left, json=json)


@workspace.command()
def config(name: NameArgument = "default", to: ToOption = Path(), dsn: DsnOption = None, json: JsonOption = False) -> None:
    """Write the config.json by which Workspace.from_config finds it, into .azureml of a folder; prints its path.

    Example: dbml workspace config churn --to notebooks
    """
    from dbml.core import config_file

    found = records.open_workspace(dsn, name)
    found._dsn_given = dsn is not None
    to.mkdir(parents=True, exist_ok=True)
    with records.quiet():
        found.write_config(to)
    records.show_paths([config_file.find(to, None)], json=json)


@workspace.command()
def delete(
    name: NameArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask, on a terminal.")] = False,
    dsn: DsnOption = None,
    json: JsonOption = False,
) -> None:
    """Delete a workspace with all that is in it: models, runs and what they kept, datasets, files.

    On a terminal it asks first.

    Example: dbml workspace delete try-out --yes
    """
    found = records.open_workspace(dsn, name)
    if not yes and not json and console.is_terminal:
        typer.confirm(f"Delete {found.name} with {_told(found)}?", abort=True)
    found.delete()
    records.show_paths([found.name], json=json)


def _told(found: Workspace) -> str:
    return ", ".join(f"{len(getattr(found, kind))} {kind}" for kind in COUNTED)
