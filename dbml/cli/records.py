"""What the commands on records share: the workspace that they look in, tags on the command line, and how records are printed.

On a terminal a list is a table; into a pipe it goes as a line a record with tabs between, so that cut and awk can read it;
with --json it is one JSON document.  Nothing else is on standard output: what the SDK says on the way goes to standard error.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from dbml import errors
from dbml.cli.output import DsnOption as DsnOption
from dbml.cli.output import JsonOption as JsonOption
from dbml.cli.output import console, print_json, print_table, stderr

if TYPE_CHECKING:
    from dbml.core.workspace import Workspace

WorkspaceOption = Annotated[
    str | None,
    typer.Option("--workspace", "-w", help="Its workspace; by default the setting dbml.workspace, else default."),
]
TagOption = Annotated[list[str] | None, typer.Option("--tag", "-t", help="name=value, or a name alone; may be given again.")]
TagsArgument = Annotated[list[str] | None, typer.Argument(help="name=value, or a name alone for a mark.")]
RemoveOption = Annotated[list[str] | None, typer.Option("--remove", help="The name of a tag that goes; may be given again.")]
ToOption = Annotated[Path, typer.Option("--to", help="The folder that it is written to.", file_okay=False)]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")]
LimitOption = Annotated[int | None, typer.Option(help="At most so many.", min=0)]


def open_workspace(dsn: str | None, name: str | None) -> Workspace:
    """Return a workspace of the database, by default the one of a call that names none.

    Raises: WorkspaceException where it is not there, or this user may not see it.
    """
    from dbml.core.connection import Connection
    from dbml.core.workspace import Workspace
    from dbml.store.client import workspaces

    connection = Connection(dsn, application="dbml cli")
    return Workspace._open(connection, name if name is not None else connection.do(workspaces.current))


def read_tags(given: Sequence[str] | None) -> dict[str, str | None]:
    """Return name=value texts as tags; a name alone has no value.

    Raises: InvalidArgument where a name is empty, or given twice.
    """
    tags: dict[str, str | None] = {}
    for text in given or ():
        name, separator, value = text.partition("=")
        if not name or name in tags:
            said = "must have a name" if not name else "must be given once"
            raise errors.InvalidArgument(f"a tag {said}, got {text!r}", hint="name=value, or name alone")
        tags[name] = value if separator else None
    return tags


def require_change(tags: Sequence[str] | None, remove: Sequence[str] | None, *others: object) -> None:
    """Raise InvalidArgument where nothing is to be changed."""
    if not tags and not remove and not any(others):
        raise errors.InvalidArgument("a tag must be given to be set or removed", hint="name=value, or --remove name")


@contextmanager
def quiet() -> Iterator[None]:
    """Send what the SDK prints to standard error, where it disturbs nobody who reads the output."""
    with redirect_stdout(sys.stderr):
        yield


def show_list(columns: Sequence[str], records: Iterable[Mapping[str, Any]], *, json: bool) -> None:
    """Print records: all that is known of them as JSON, or these columns."""
    found = list(records)
    if json:
        print_json(found)
    elif console.is_terminal:
        print_table(columns, ([_short(record.get(name)) for name in columns] for record in found))
    else:
        typer.echo("\t".join(columns))
        for record in found:
            typer.echo("\t".join(_line(record.get(name)) for name in columns))


def show_record(record: Mapping[str, Any], *, json: bool) -> None:
    """Print one record, a line a property; what has no value is left out, but of JSON."""
    if json:
        print_json(dict(record))
        return
    known = {name: value for name, value in record.items() if value not in (None, "", {}, [])}
    if not console.is_terminal:
        for name, value in known.items():
            typer.echo(f"{name}\t{_line(value)}")
        return
    table = Table(box=SIMPLE_HEAD, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in known.items():
        table.add_row(name, _text(value).replace("[", "\\["))
    console.print(table)


def show_tags(tags: Mapping[str, Any], *, json: bool) -> None:
    """Print tags as they are now."""
    if json:
        print_json(dict(tags))
    else:
        for name, value in tags.items():
            typer.echo(f"{_line(name)}\t{_line(value)}")


def show_paths(paths: Iterable[Path | str], *, json: bool) -> None:
    """Print the files that were written, a line each."""
    written = [str(path) for path in paths]
    if json:
        print_json(written)
    else:
        for path in written:
            typer.echo(path)


def say(text: str) -> None:
    """Say on standard error what was done."""
    stderr.print(text, style="dim", markup=False)


def _short(value: Any) -> Any:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else _text(value)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={_text(one)}" if one is not None else str(name) for name, one in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_text(one) for one in value)
    return str(value)


def _line(value: Any) -> str:
    """Return a value in one line without tabs, as COPY of PostgreSQL would."""
    text = value.isoformat() if isinstance(value, datetime) else _text(value)
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
