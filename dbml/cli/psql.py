"""`dbml psql`."""

from __future__ import annotations

import os

import typer

from dbml.cli.output import DsnOption
from dbml.database.binaries import find_psql
from dbml.dsn import find_dsn, libpq_environment


def psql(context: typer.Context, dsn: DsnOption = None) -> None:
    """Open psql on the database; what follows -- is handed to psql.

    Example: dbml psql -- -c "select name, version from dbml.models"
    """
    environment, rest = libpq_environment(find_dsn(dsn))
    program = find_psql()
    arguments = [*(["-d", rest] if rest else []), *context.args]
    # The login travels in the environment: a command line is there for all to see.
    os.execve(program, [str(program), *arguments], {**os.environ, **environment})  # noqa: S606
