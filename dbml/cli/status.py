"""`dbml status`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psycopg
import typer

from dbml import __version__
from dbml.cli.output import DsnOption, JsonOption, console, print_json
from dbml.database.schema import read_installed
from dbml.dsn import find_dsn, without_password
from dbml.home import Home, find_home


def status(dsn: DsnOption = None, json: JsonOption = False) -> None:
    """Show what runs: the database, its version, the worker and whether it answers.

    Exit code 1 when the database or the worker does not answer.

    Example: psql "$(dbml status --json | jq -r .dsn)"
    """
    found = describe(dsn)
    if json:
        print_json(found)
    else:
        _print(found)
    if not found["running"]:
        raise typer.Exit(1)


def describe(argument: str | None) -> dict[str, Any]:
    """Return the state as `--json` prints it; `dsn` is None where nothing is known to run."""
    home = find_home()
    state = (home.state() if home else None) or {}
    try:
        dsn = find_dsn(argument)
    except psycopg.Error:
        if argument:
            raise
        return {
            "dsn": None, "running": False, "version": __version__, "home": str(Home.of(Path.cwd()).path),
            "pid": None, "database": None, "worker": None,
        }  # fmt: skip
    ours = state if state.get("dsn") == dsn else {}
    database = _describe_database(dsn, ours.get("database") or {})
    worker = {"pid": None, **(ours.get("worker") or {}), **database.pop("worker")}
    return {
        "dsn": dsn,
        "running": bool(database["answers"] and worker["answers"]),
        "version": __version__,
        "home": str(home.path) if home and ours else None,
        "pid": ours.get("pid"),
        "database": database,
        "worker": worker,
    }


def _describe_database(dsn: str, known: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "answers": False, "error": None, "server_version": known.get("version"), "schema_version": None,
        "pid": known.get("pid"), "data": known.get("data"),
        "worker": {"answers": False, "address": None, "error": None},
    }  # fmt: skip
    try:
        with psycopg.connect(
            dsn, client_encoding="utf8", autocommit=True, connect_timeout=5, application_name="dbml status"
        ) as connection:
            connection.execute("set statement_timeout = '10s'")
            found["answers"] = True
            found["server_version"] = connection.info.parameter_status("server_version")
            found["worker"] = _describe_worker(connection)
            installed = read_installed(connection)
            found["schema_version"] = installed[0] if installed else None
    except psycopg.Error as error:
        found["error"] = str(error).strip()
    return found


def _describe_worker(connection: psycopg.Connection[tuple[Any, ...]]) -> dict[str, Any]:
    found: dict[str, Any] = {"answers": False, "address": None, "error": None}
    try:
        connection.execute("select dbml_channel.ping()")
        found["answers"] = True
        row = connection.execute("select host, port from dbml._worker").fetchone()
        found["address"] = f"{row[0]}:{row[1]}" if row else None
    except psycopg.Error as error:
        if not found["answers"]:
            found["error"] = error.diag.message_primary or str(error).strip()
    return found


def _print(found: Mapping[str, Any]) -> None:
    if found["dsn"] is None:
        console.print("nothing is running here; dbml up --detach starts it")
        return
    database, worker = found["database"], found["worker"]
    console.print(f"database  {without_password(found['dsn'])}", markup=False, soft_wrap=True)
    says = f"PostgreSQL {database['server_version']}, dbml {database['schema_version'] or 'not installed'}"
    console.print(f"          {says if database['answers'] else database['error']}", markup=False, soft_wrap=True)
    answers = f"answers at {worker['address']}" if worker["address"] else "answers"
    console.print(
        f"worker    {answers if worker['answers'] else worker['error'] or 'unknown'}",
        markup=False,
        soft_wrap=True,
    )
    if found["pid"]:
        pids = f"up {found['pid']}, postgres {database['pid']}, worker {worker['pid']}"
        console.print(f"processes {pids}", markup=False)
