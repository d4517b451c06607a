"""Names that applications are written against: functions, their arguments in order with defaults, columns of views."""

from __future__ import annotations

import inspect
from typing import Any

import psycopg
import pytest

from dbml.cli.run import run

Db = psycopg.Connection[Any]

SCRIPT = "script text"
OPTIONS = (
    "partition_by text[] DEFAULT NULL::text[], order_by text[] DEFAULT NULL::text[], rows_per_read integer DEFAULT NULL::integer,"
    " parallel integer DEFAULT 1, environment text DEFAULT NULL::text, pool text DEFAULT NULL::text,"
    " timeout interval DEFAULT NULL::interval, workspace text DEFAULT NULL::text, experiment text DEFAULT NULL::text"
)
INPUTS = "input_query text DEFAULT NULL::text, inputs jsonb DEFAULT '{}'::jsonb"
PARAMS = "params jsonb DEFAULT '{}'::jsonb"
LANGUAGE = "language text DEFAULT 'python'::text"
NAMES = "input_name text DEFAULT 'InputDataSet'::text, output_name text DEFAULT 'OutputDataSet'::text"
CALL = f"{SCRIPT}, {INPUTS}, {PARAMS}, {LANGUAGE}, {NAMES}, {OPTIONS}"

# A later version may add arguments at the end, with defaults.
FUNCTIONS = [
    ("run_script", CALL, "SETOF record"),
    ("run_script_json", CALL, "SETOF jsonb"),
    ("run_plot", CALL, "bytea"),
    ("execute_script", f"{SCRIPT}, {INPUTS}, {LANGUAGE}, {NAMES}, {OPTIONS}, INOUT {PARAMS}", None),
    ("run_stored", f"name text, {INPUTS}, {PARAMS}, {NAMES}, {OPTIONS}", "SETOF record"),
    ("run_stored_json", f"name text, {INPUTS}, {PARAMS}, {NAMES}, {OPTIONS}", "SETOF jsonb"),
    ("predict", "model text, features double precision[]", "double precision"),
    ("predict", "model text, input_query text", "SETOF record"),
    ("predict_row", "model text, features anyelement", "jsonb"),
    ("predict_json", "model text, input_query text", "SETOF jsonb"),
    ("predict_proba", "model text, features double precision[]", "double precision[]"),
    ("predict_into", "model text, input_query text, target text, mode text DEFAULT 'create'::text", "bigint"),
    ("register_model", "name text, model bytea", "integer"),
    ("create_workspace", "name text", "bigint"),
    ("create_script", "name text, language text, script text", "integer"),
    ("create_environment", "name text, spec text, python_version text DEFAULT NULL::text", "integer"),
    ("run_output", "run_id uuid, name text", "SETOF record"),
    ("cancel_script", "run_id uuid", "boolean"),
]

VIEWS = {
    "workspaces": "name subscription_id resource_group location tags",
    "datasets": "name version tags workspace",
    "models": "name version aliases framework framework_version signature tags run_id environment workspace",
    "experiments": "name workspace",
    "runs": "run_id username started_at script script_sha256 params status rows_in rows_out seconds peak_memory_mb log error"
    " environment lock_sha256",
    "metrics": "run_id name step value logged_at",
    "artifacts": "run_id name kind",
    "outputs": "run_id name columns rows",
    "scripts": "name version language script",
    "environments": "name version python_version lock",
    "active_scripts": "run_id username started_at rows_in memory_mb cpu_seconds pool satellites progress_done progress_total",
    "script_stats": "script_sha256 language environment username calls errors median_seconds p95_seconds rows_in rows_out peak_memory_mb",
    "worker_status": "version host port running queued",
    "pools": "name",
}


@pytest.mark.parametrize(("name", "arguments", "result"), FUNCTIONS)
def test_functions(db: Db, name: str, arguments: str, result: str | None) -> None:
    found = db.execute(
        "SELECT replace(pg_get_function_arguments(oid), 'IN ', ''), pg_get_function_result(oid) FROM pg_proc"
        " WHERE pronamespace = 'dbml'::regnamespace AND proname = %s",
        (name,),
    ).fetchall()
    wanted = [had for had in found if had[0] == arguments or had[0].startswith(f"{arguments}, ")]
    assert [had[1] for had in wanted] == [result], found


@pytest.mark.parametrize("view", VIEWS)
def test_views(db: Db, view: str) -> None:
    columns = {column.name for column in db.execute(f"SELECT * FROM dbml.{view} LIMIT 0").description or ()}  # type: ignore[arg-type]
    assert set(VIEWS[view].split()) <= columns


def test_the_shell_uses_the_same_words(db: Db) -> None:
    (names,) = db.execute("SELECT proargnames FROM pg_proc WHERE oid = 'dbml.run_script'::regproc").fetchone()  # type: ignore[misc]
    here = {"script": "script", "input_query": "input_", "inputs": "input_", "params": "param"}
    fixed = {"input_name", "output_name"}  # --input name=query names it
    assert {here.get(name, name) for name in names if name not in fixed} <= set(inspect.signature(run).parameters)
