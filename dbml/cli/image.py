"""`dbml image`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from dbml.cli import records
from dbml.cli.records import DsnOption, JsonOption, TagOption, WorkspaceOption

image = typer.Typer(
    no_args_is_help=True,
    help="Images that are kept: list and show them.\n\nAn image is name (its newest version) or name:3.\n\n"
    "Example: dbml image show diabetes",
)
SHOWN = ("name", "version", "models", "environment", "tags", "created_at", "created_by")


def _record(found: Any) -> dict[str, Any]:
    return {name: value for name, value in found._row.items() if name not in ("image_id", "lock")}


@image.command("list")
def list_(
    name: Annotated[str | None, typer.Argument(help="The versions of this image alone.")] = None,
    tag: TagOption = None,
    dsn: DsnOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """List the versions of images, by name and the newest first.

    Example: dbml image list --tag stage=production
    """
    from dbml.core.image import Image

    ws = records.open_workspace(dsn, workspace)
    records.show_list(SHOWN, map(_record, Image.list(ws, name, tags=records.read_tags(tag))), json=json)


@image.command()
def show(
    name: Annotated[str, typer.Argument(help="name or name:3.")],
    dsn: DsnOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Show all that is known of a version, and the layers of the image that Docker has built of it here.

    Example: dbml image show diabetes:3 --json
    """
    from dbml.core.image import Image
    from dbml.serving.export import layers

    found = _record(Image(records.open_workspace(dsn, workspace), name))
    tags = layers.built_of(str(found["digest"]))
    made_of = layers.layers(tags[0]) if tags else []
    known = found | {"built_as": tags, "size_bytes": sum(layer.size for layer in made_of) or None}
    if json:
        told = [{"size_bytes": layer.size, "made_by": layer.made_by, "is_own": layer.is_own} for layer in made_of]
        records.show_record(known | {"layers": told}, json=True)
        return
    records.show_record(known, json=False)
    for line in layers.described(made_of) if made_of else ():
        typer.echo(line)
