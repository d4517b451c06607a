"""Submitted runs: scripts that the worker runs by itself, from a snapshot of their files."""

from __future__ import annotations

import io
import json
import tarfile
import time
import uuid
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from dbml import errors

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


def test_log_and_metrics_are_there_while_it_runs(db: Db) -> None:
    run_id = submit(db, "import time\nfrom dbml import current_run\nrun = current_run.current()\nfor i in range(600):\n"
                        "    print('step', i); run.log('loss', 1 / (i + 1), step=i); time.sleep(0.1)")  # fmt: skip
    wait(db, run_id, lambda run: run["status"] == "running" and "step 0\nstep 1\n" in (run["log"] or ""))
    first = db.execute("SELECT max(ordinal), string_agg(text, '' ORDER BY ordinal) FROM dbml.run_log(%s)", (run_id,)).fetchone()
    assert first is not None and first[1].startswith("step 0\nstep 1\n")
    end = time.monotonic() + 20
    while not (more := db.execute("SELECT text FROM dbml.run_log(%s, after => %s)", (run_id, first[0])).fetchall()):
        assert time.monotonic() < end
    assert "step 0\n" not in more[0][0]
    assert db.execute("SELECT count(*) > 1 FROM dbml.metrics WHERE run_id = %s AND name = 'loss'", (run_id,)).fetchone() == (
        True,
    )
    assert db.execute("SELECT script, backend_pid FROM dbml.active_scripts WHERE run_id = %s", (run_id,)).fetchone() == (
        "main.py",
        None,
    )
    assert db.execute("SELECT dbml.cancel_script(%s)", (run_id,)).fetchone() == (True,)
    run = wait(db, run_id)
    assert (run["status"], run["sqlstate"]) == ("canceled", "57014") and "was cancelled by role" in run["error"]
    assert run["log"].startswith("step 0\n") and run["seed"] is not None


@pytest.mark.parametrize(
    ("script", "state", "error", "context", "log"),
    [
        ("import lib\nlib.f()", "ML001", "no", "main.py line 2, in <module>: lib.f()\nlib.py line 2, in f: raise ValueError('no')",
         'Traceback (most recent call last):\n  File "main.py", line 2, in <module>\n    lib.f()\n  File "lib.py", line 2, in f\n'
         "    raise ValueError('no')\nValueError: no\n"),
        ("import sys\nprint('x')\nsys.exit(3)", "ML003", "the script called sys.exit(3)", "main.py line 3, in <module>: sys.exit(3)", "x\n"),
        ("x = (", "ML002", "'(' was never closed", "main.py line 1: x = (", None),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "ML004", None, None, None),
    ],
)  # fmt: skip
def test_a_script_that_fails_says_why(
    db: Db, script: str, state: str, error: str | None, context: str | None, log: str | None
) -> None:
    run = wait(db, submit(db, script, files={"lib.py": "def f():\n    raise ValueError('no')\n"}))
    assert (run["status"], run["sqlstate"]) == ("failed", state)
    assert error is None or run["error"] == error
    assert context is None or run["error_context"] == context
    assert log is None or run["log"] == log


def test_what_a_failed_script_left_is_kept_and_exit_zero_is_no_failure(db: Db) -> None:
    run_id = submit(db, "import sys\nopen('outputs/x', 'w').write('1')\nsys.exit(0 if sys.argv[1:] else 2)", arguments=["ok"])
    assert wait(db, run_id)["status"] == "completed"
    failed = submit(db, "import sys\nopen('outputs/x', 'w').write('1')\nsys.exit(0 if sys.argv[1:] else 2)")
    assert wait(db, failed)["status"] == "failed"
    assert db.execute("SELECT name FROM dbml.artifacts WHERE run_id = %s", (failed,)).fetchall() == [("outputs/x",)]


def test_a_script_may_do_what_scripts_do(db: Db) -> None:
    name = "m" + uuid.uuid4().hex
    script = f"""
from sklearn.linear_model import LinearRegression
from dbml import current_run
run = current_run.current()
run.register_model('{name}', LinearRegression().fit([[0.0], [1.0]], [1.0, 3.0]), tags={{'a': 'b'}})
print(run.load_model('{name}').coef_)
try:
    run.load_model('none')
except Exception as error:
    print(type(error).__name__)
run.tag('t', 1); run.add_properties({{'p': 'q'}})
"""
    db.execute("BEGIN")
    run_id = submit(db, script, tags={"given": "1"}, properties={"own": "2"})
    time.sleep(0.3)
    assert look(db, run_id)["status"] == "queued"  # it is not heard of before the commit
    db.execute("COMMIT")
    run = wait(db, run_id)
    assert (run["status"], run["log"]) == ("completed", "[2.]\nModelNotFound\n"), run["error"]
    assert (run["tags"], run["properties"]) == ({"given": "1", "t": "1"}, {"own": "2", "p": "q"})
    made = db.execute("SELECT run_id, tags, created_by = current_user FROM dbml.models WHERE name = %s", (name,)).fetchall()
    assert made == [(run_id, {"a": "b"}, True)]
    assert [loaded["asked"] for loaded in run["loaded"]] == [name]
    row = db.execute("SELECT dbml.predict(%s, array[2.0]::float8[])", (name,)).fetchone()
    assert row is not None and round(row[0], 9) == 5
    edges = db.execute(
        'SELECT direction, from_kind, relation, to_kind FROM dbml.lineage(%s) WHERE from_kind <> \'model\'', (name,)
    ).fetchall()  # fmt: skip
    assert ("upstream", "run", "registered", "model") in edges and ("upstream", "script", "run as", "run") in edges


def test_secrets_are_for_the_script_alone(db: Db) -> None:
    run_id = submit(
        db, "import os, sys\nprint(sys.argv[1], os.environ['TOKEN'])", arguments=[{"$secret": "sesame-1"}],
        environment_variables={"TOKEN": {"$secret": "sesame-2"}},
    )  # fmt: skip
    run = wait(db, run_id)
    assert (run["status"], run["log"], run["arguments"]) == ("completed", "*** ***\n", [{"$secret": True}])
    left = db.execute(
        "SELECT (SELECT count(*) FROM dbml._submissions), (SELECT string_agg(text, '') FROM dbml._log_chunks WHERE run_id = %s),"
        " (SELECT row_to_json(r)::text LIKE '%%sesame%%' FROM dbml._runs r WHERE run_id = %s)", (run_id, run_id),
    ).fetchone()  # fmt: skip
    assert left == (0, "*** ***\n", False)


def test_a_rolled_back_submission_never_was(db: Db) -> None:
    db.execute("BEGIN")
    run_id = submit(db, "print(1)")
    db.execute("ROLLBACK")
    assert db.execute("SELECT count(*) FROM dbml.runs WHERE run_id = %s", (run_id,)).fetchone() == (0,)


def test_limits_hold(db: Db) -> None:
    run = wait(db, submit(db, "import time\ntime.sleep(60)", timeout="0.5 s"))
    assert (run["status"], run["sqlstate"]) == ("failed", "ML006") and "timeout of 0.5 s" in run["error"]


@pytest.mark.parametrize(
    ("statement", "error", "text"),
    [
        ("SELECT dbml.create_snapshot()", errors.InvalidArgument, "exactly one"),
        ("SELECT dbml.create_snapshot('{}')", errors.InvalidArgument, "object of texts"),
        ("SELECT dbml.create_snapshot('{\"../x\": \"\"}')", errors.InvalidArgument, "without . and .."),
        ("SELECT dbml.create_snapshot('{\"x\": 1}')", errors.InvalidArgument, "must be text, got number"),
        ("SELECT dbml.create_snapshot(archive => 'PK')", errors.InvalidArgument, "must be a tar archive"),
        ("SELECT dbml.submit_run('e', 'abc', 'x.py')", errors.SnapshotNotFound, "no snapshot 'abc'"),
        ("SELECT dbml.submit_run('e', NULL, 'x.py')", errors.SnapshotNotFound, "NULL"),
        ("SELECT dbml.submit_run('a/b', 'abc', 'x.py')", errors.InvalidArgument, "experiment's name"),
        ("SELECT dbml.submit_run('e', 'abc', '/etc/passwd')", errors.InvalidArgument, "path of a file"),
        ("SELECT dbml.submit_run('e', 'abc', 'x.py', seed => -1)", errors.InvalidArgument, "seed"),
        ("SELECT dbml.submit_run('e', '{kept}', 'x.py', arguments => '[null]')", errors.InvalidArgument, "got null"),
        ("SELECT dbml.submit_run('e', '{kept}', 'x.py', arguments => '{{}}')", errors.InvalidArgument, "JSON list"),
        ("SELECT dbml.submit_run('e', '{kept}', 'x.py', environment_variables => '{{\"a=b\": 1}}')", errors.InvalidArgument, "variable's name"),
        ("SELECT dbml.submit_run('e', '{kept}', 'x.py', environment => 'none')", errors.EnvironmentNotFound, "none"),
        ("SELECT dbml.submit_run('e', '{kept}', 'x.py', pool => 'none')", errors.PoolNotFound, "none"),
        ("SELECT dbml.submit_run('e', '{kept}', 'x.py', workspace => 'none')", errors.WorkspaceNotFound, "none"),
    ],
)  # fmt: skip
def test_bad_arguments_are_refused_at_once(db: Db, statement: str, error: type[Exception], text: str) -> None:
    if "{kept}" in statement:
        statement = statement.format(kept=snapshot(db, {"x.py": ""}))
    with pytest.raises(error, match=text):
        db.execute(statement)  # type: ignore[arg-type]


def test_a_snapshot_is_an_archive_that_tar_reads(db: Db) -> None:
    files = {"a.py": "print('ä')\n", "sub/deep/b c.txt": "x" * 1500, "größe.txt": ""}
    kept = snapshot(db, files)
    assert snapshot(db, dict(reversed(files.items()))) == kept
    (content,) = db.execute("SELECT dbml.snapshot_bytes(%s)", (kept,)).fetchone()  # type: ignore[misc]
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        read = {member.name: archive.extractfile(member).read().decode() for member in archive}  # type: ignore[union-attr]
    assert read == files
    assert db.execute("SELECT size_bytes FROM dbml.snapshots WHERE snapshot = %s", (kept,)).fetchone() == (len(content),)
    with pytest.raises(errors.SnapshotNotFound):
        db.execute("SELECT dbml.snapshot_bytes(%s)", ("0" * 64,))
    run = wait(db, submit(db, "print(1)"), lambda run: run["status"] in ENDED)
    missing = db.execute("SELECT dbml.submit_run('e', %s, 'c.py')", (kept,)).fetchone()
    assert run["log"] == "1\n" and missing is not None
    assert "it has a.py, größe.txt, sub/deep/b c.txt" in wait(db, missing[0])["error"]
    broken = db.execute("SELECT dbml.submit_run('e', dbml.create_snapshot(archive => '\\x1f8b00'), 'c.py')").fetchone()
    assert broken is not None and "cannot be unpacked" in wait(db, broken[0])["error"]
