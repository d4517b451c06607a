"""Submitted runs: scripts that the worker runs by itself, from a snapshot of their files."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from typing import Any

import psycopg

Db = psycopg.Connection[Any]
ENDED = ("completed", "failed", "canceled", "interrupted")


def snapshot(db: Db, files: dict[str, str]) -> str:
    row = db.execute("SELECT dbml.create_snapshot(%s)", (json.dumps(files),)).fetchone()
    assert row is not None
    return str(row[0])


def submit(db: Db, script: str, *, files: dict[str, str] | None = None, **arguments: Any) -> uuid.UUID:
    """Submit a script, main.py; files: beside it."""
    kept = snapshot(db, {"main.py": script, **(files or {})})
    given = {name: json.dumps(value) if isinstance(value, dict | list) else value for name, value in arguments.items()}
    named = "".join(f", {name} => %({name})s" for name in given)
    query = f"SELECT dbml.submit_run('submitted', %(kept)s, 'main.py'{named})"
    row = db.execute(query, {"kept": kept, **given}).fetchone()  # type: ignore[arg-type]
    assert row is not None
    found: uuid.UUID = row[0]
    return found


def look(db: Db, run_id: uuid.UUID) -> dict[str, Any]:
    with db.cursor(row_factory=psycopg.rows.dict_row) as cursor:
        row = cursor.execute("SELECT * FROM dbml.runs WHERE run_id = %s", (run_id,)).fetchone()
    assert row is not None
    return row


def wait(db: Db, run_id: uuid.UUID, true: Callable[[dict[str, Any]], Any] | None = None, seconds: float = 30) -> dict[str, Any]:
    """Wait for the end of a run, or until something is true of it."""
    end = time.monotonic() + seconds
    while True:
        run = look(db, run_id)
        if true(run) if true is not None else run["status"] in ENDED:
            return run
        assert time.monotonic() < end, f"the run is {run['status']}: {run['log']}"
        time.sleep(0.05)


def test_a_script_runs_as_python_would_run_it(db: Db) -> None:
    script = """
import os, sys
from lib.größe import size
if __name__ == "__main__":
    print(sys.argv, os.environ["COLOR"], size(), os.path.basename(os.getcwd()), os.path.basename(__file__))
    print(open("data/numbers é.txt").read())
    os.makedirs("outputs/deep")
    open("outputs/deep/result ü.txt", "w").write("kept")
    open("logs/own.log", "w").write("logged")
"""
    files = {"lib/größe.py": "def size():\n    return 42\n", "data/numbers é.txt": "1 2 3"}
    run_id = submit(
        db, script, files=files, arguments=["--alpha", 0.5, True, "ä b"], environment_variables={"COLOR": "red"}, tags={"a": "b"}
    )
    run = wait(db, run_id)
    assert (run["status"], run["error"]) == ("completed", None)
    assert run["log"] == "['main.py', '--alpha', '0.5', 'True', 'ä b'] red 42 snapshot main.py\n1 2 3\n"
    assert (run["kind"], run["script"], run["target"], run["experiment"]) == ("submitted", "main.py", "worker", "submitted")
    assert run["arguments"] == ["--alpha", 0.5, True, "ä b"] and len(run["snapshot"]) == 64 and run["tags"] == {"a": "b"}
    kept = db.execute(
        "SELECT name, convert_from(dbml.artifact_bytes(run_id, name), 'UTF8') FROM dbml.artifacts WHERE run_id = %s ORDER BY name",
        (run_id,),
    ).fetchall()
    assert kept == [("logs/own.log", "logged"), ("outputs/deep/result ü.txt", "kept")]
