"""`dbml export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import psycopg
import typer

from dbml import errors
from dbml.cli.output import DsnOption
from dbml.database.dsn import find_dsn


def export(
    model: Annotated[str, typer.Argument(help="name (its latest version), name:3 or name@alias.")],
    dsn: DsnOption = None,
    sql: Annotated[bool, typer.Option("--sql", help="Write it as SQL functions, for any PostgreSQL without dbml.")] = False,
    name: Annotated[str | None, typer.Option(help="What the function is called there; by default as the model.")] = None,
    workspace: Annotated[
        str | None, typer.Option(help="The workspace of the model; by default the setting of the database.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A file to write; by default standard output.")] = None,
) -> None:
    """Write a registered model out in another form.

    Example: dbml export demo-diabetes --sql --output progression.sql
    """
    if not sql:
        raise errors.InvalidArgument("a form must be chosen", hint=f"dbml export {model} --sql")
    with psycopg.connect(find_dsn(dsn)) as connection:
        row = connection.execute("select dbml.export_sql(%s, %s, %s)", (model, name, workspace)).fetchone()
    assert row is not None
    if output is None:
        typer.echo(row[0], nl=False)
    else:
        output.write_text(row[0], encoding="utf-8")
