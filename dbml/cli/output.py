"""What the commands print with: errors, tables, and the option that all of them share."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Annotated, Any

import psycopg
import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from dbml import errors
from dbml.store.client.rows import finite

console = Console(highlight=False)
stderr = Console(stderr=True, highlight=False, soft_wrap=True)

DsnOption = Annotated[
    str | None,
    typer.Option(
        "--dsn",
        help="The database, postgresql://user:password@host:port/database; else DBML_DSN, else the dbml that"
        " runs in this folder.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def print_error(error: Exception) -> None:
    """Print an error as one line, and its hint as another."""
    if isinstance(error, errors.DbmlError):
        message, hint = error.message, error.hint
    elif isinstance(error, psycopg.Error) and error.diag.message_primary:
        message, hint = error.diag.message_primary, error.diag.message_hint
    else:
        message = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        hint = None
    stderr.print(f"error: {message}", markup=False, style="red")
    for line in _script_lines(error):
        stderr.print(f"  {line}", markup=False)
    if hint:
        stderr.print(f"hint: {hint}", markup=False)


def _script_lines(error: Exception) -> list[str]:
    """Return the lines of the script that an error came from, of all that its context says."""
    context = (error.diag.context or "") if isinstance(error, errors.ScriptFailed) else ""
    lines: list[str] = []
    for line in context.splitlines():
        if line.startswith(("while executing", "PL/", "SQL ")):
            break
        lines.append(line)
    return lines


def print_json(value: Any) -> None:
    """Print one JSON document: times as ISO 8601, and what is no number or infinite as text, which JSON has no number for."""
    typer.echo(json.dumps(_plain(value), indent=2, allow_nan=False))


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return finite(value)
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_plain(one) for one in value]
    if isinstance(value, (datetime, date, time)):
        return None if value != value else value.isoformat()  # pandas' NaT
    item = getattr(value, "item", None)  # numpy's numbers
    return _plain(item()) if callable(item) else str(value)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print rows as a small table; numbers stand to the right."""
    table = Table(header_style="bold", box=SIMPLE_HEAD)
    kept = [list(row) for row in rows]
    for position, name in enumerate(columns):
        numeric = any(isinstance(row[position], (int, float, Decimal)) for row in kept)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in kept:
        table.add_row(*(_cell(value) for value in row))
    console.print(table)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e6 else f"{value:g}"
    if isinstance(value, (dict, list)):
        return json.dumps(value, default=str).replace("[", "\\[")
    return str(value).replace("[", "\\[")
