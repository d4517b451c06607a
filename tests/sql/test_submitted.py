"""Submitted runs: scripts that the worker runs by itself, from a snapshot of their files."""

from __future__ import annotations

import io
import json
import tarfile
import time
import uuid
from collections.abc import Callable, Iterator
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


@pytest.fixture
def alice(db: Db) -> Iterator[str]:
    """A role that may run scripts, with a table of its own and row-level security on another."""
    name = "alice_" + uuid.uuid4().hex[:8]
    db.execute(f"CREATE ROLE {name} NOLOGIN; GRANT dbml_scripter TO {name}")
    db.execute(f"CREATE SCHEMA {name} AUTHORIZATION {name}")
    db.execute(
        f"CREATE TABLE {name}.shared AS SELECT g AS x, CASE WHEN g > 2 THEN '{name}' ELSE 'other' END AS owner FROM generate_series(1, 4) g"
    )
    db.execute(f"ALTER TABLE {name}.shared ENABLE ROW LEVEL SECURITY; GRANT SELECT ON {name}.shared TO {name}")
    db.execute(f"CREATE POLICY own ON {name}.shared USING (owner = current_user)")
    yield name
    db.execute("RESET ROLE")
    db.execute("RESET search_path")
    db.execute(f"DROP SCHEMA {name} CASCADE; DROP OWNED BY {name}; DROP ROLE {name}")


READ = """
from dbml.core import Run
for name, data in sorted(Run.get_context().input_datasets.items()):
    frame = data.to_pandas_dataframe()
    print(name, list(frame.columns), len(frame), frame.iloc[:, 0].tolist()[:3], frame.isna().sum().sum())
"""


def test_inputs_are_read_as_who_submits_and_when_the_run_begins(db: Db, alice: str) -> None:
    db.execute(f"SET ROLE {alice}; SET search_path = {alice}")
    db.execute("BEGIN")
    run_id = submit(db, READ, inputs={
        "mine": "SELECT x, owner FROM shared ORDER BY x", "many": "SELECT g, NULL::text AS n, g / 3.0 AS f FROM generate_series(1, 30000) g;",
        "none": 'SELECT 1 AS "a b" WHERE false', "who": "SELECT current_user::text || ' ' || dbml_channel.caller() AS c",
    })  # fmt: skip
    db.execute("RESET ROLE; INSERT INTO shared VALUES (5, '" + alice + "')")
    db.execute("COMMIT")
    run = wait(db, run_id)
    assert run["log"] == (
        f"many ['g', 'n', 'f'] 30000 [1, 2, 3] 30000\nmine ['x', 'owner'] 3 [3, 4, 5] 0\nnone ['a b'] 0 [] 0\nwho ['c'] 1 ['{alice} dbml_worker'] 0\n"
    ), run["error"]
    assert run["rows_in"] == 30004 and run["username"] == alice
    assert [(i["name"], i["relations"], "function" in i) for i in run["inputs"]] == [
        ("many", [], False), ("mine", [f"{alice}.shared"], False), ("none", [], False), ("who", [], False)
    ]  # fmt: skip
    left = "SELECT count(*) FROM pg_proc WHERE pronamespace = 'dbml_runtime'::regnamespace"
    end = time.monotonic() + 20
    while db.execute(left).fetchone() != (0,):
        assert time.monotonic() < end
        time.sleep(0.1)
    db.execute(f"SET ROLE {alice}; SET search_path = {alice}")
    found = dict(db.execute("SELECT what, same FROM dbml.replay(%s)", (run_id,)).fetchall())
    assert found["run"] is True and found["input mine"] is None and found["input many"] is True
    db.execute("RESET ROLE")


def test_an_input_that_fails_says_so_and_cannot_become_another(db: Db, alice: str) -> None:
    db.execute(f"SET ROLE {alice}; SET search_path = {alice}")
    for query, state, text in (
        ("SELECT 1 / (SELECT count(*) FROM shared WHERE false) AS x", "22012", 'the input "data": division by zero'),
        ("SELECT set_config('role', 'none', false) AS x", "42501", "cannot set parameter \"role\" within security-definer function"),
    ):  # fmt: skip
        run = wait(db, submit(db, READ, inputs={"data": query}))
        assert (run["status"], run["sqlstate"]) == ("failed", state) and text in run["error"]
    db.execute("CREATE TEMP TABLE passing (x int)")
    for inputs, text in (
        ({"a": "SELECT x FROM pg_temp.passing"}, "temporary"), ({"a b": "SELECT 1 AS x"}, "name of a variable"), ({"a": 1}, "by name"),
        ({"a": "SELECT 1 AS x, 2 AS x"}, "different names"),
    ):  # fmt: skip
        with pytest.raises(errors.InvalidArgument, match=text):
            submit(db, READ, inputs=inputs)
    forged = [{"name": "a", "query": "SELECT 1", "function": "input_" + "0" * 32, "columns": [], "relations": []}]
    by_hand = "SELECT dbml_channel.submit('e', %s, 'main.py', '[]', %s, NULL, '{}', NULL, NULL, NULL, 'worker', '{}', '{}', NULL, '{}', NULL)"
    kept = snapshot(db, {"main.py": READ})
    for sources in (forged, [{}, *forged], [{**forged[0], "name": None}]):
        with pytest.raises(errors.InvalidArgument, match="must be in a function of role"):
            db.execute(by_hand, (kept, json.dumps(sources)))
    # A request of one's own that lacks something ends, and holds no place.
    db.execute(
        f"CREATE FUNCTION dbml_runtime.{forged[0]['function']}() RETURNS TABLE (x int) LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'"  # type: ignore[arg-type]
    )
    db.execute(f"CREATE VIEW {alice}.held AS SELECT * FROM dbml_runtime.{forged[0]['function']}()")  # type: ignore[arg-type]
    row = db.execute(by_hand, (kept, json.dumps([{key: forged[0][key] for key in ("name", "query", "function")}]))).fetchone()
    assert row is not None and wait(db, row[0])["status"] == "failed"
    assert wait(db, submit(db, "print(1)"))["status"] == "completed"


def test_rights_are_those_of_when_it_begins(db: Db, alice: str, server: Any) -> None:
    db.execute(f"SET ROLE {alice}")
    db.execute("BEGIN")
    run_id = submit(db, "print(1)")
    db.execute(f"RESET ROLE; REVOKE dbml_scripter FROM {alice}")
    db.execute("COMMIT")
    run = wait(db, run_id)
    assert (run["status"], run["sqlstate"]) == ("failed", "42501") and "may no longer run scripts" in run["error"]
    db.execute(f"SET ROLE {alice}")
    for statement in (
        "SELECT dbml.submit_run('e', 'x', 'y.py')", "SELECT dbml.create_snapshot('{\"a\": \"\"}')", "SELECT dbml_channel._sweep_inputs_v1('{}')",
        "SELECT * FROM dbml._submissions", "SELECT * FROM dbml._snapshots", "SELECT dbml_channel._sign('x')", "SELECT dbml.replay(NULL)",
        "CREATE FUNCTION dbml_runtime.f() RETURNS int LANGUAGE sql AS 'select 1'", "SELECT dbml_channel._may_submit('x', 1)",
        f"SELECT dbml_channel.take_back('{run_id}')", f"SELECT * FROM dbml.run_log('{run_id}')", f"SELECT dbml.wait_for_run('{run_id}')",
    ):  # fmt: skip
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            db.execute(statement)  # type: ignore[arg-type]
    db.execute("RESET ROLE")


def test_another_workspace_keeps_its_snapshots_logs_and_runs(db: Db, alice: str) -> None:
    home = "h" + uuid.uuid4().hex[:8]
    db.execute("SELECT dbml.create_workspace(%s)", (home,))
    kept = db.execute('SELECT dbml.create_snapshot(\'{"a.py": "print(1)"}\', workspace => %s)', (home,)).fetchone()
    run_id = db.execute("SELECT dbml.submit_run('e', %s, 'a.py', workspace => %s)", (*kept, home)).fetchone()[0]  # type: ignore[misc, index]
    assert db.execute("SELECT dbml.wait_for_run(%s)", (run_id,)).fetchone() == ("completed",)
    db.execute(f"SET ROLE {alice}")
    assert db.execute("SELECT count(*) FROM dbml.run_log(%s)", (run_id,)).fetchone() == (0,)
    assert db.execute("SELECT count(*) FROM dbml.snapshots WHERE workspace = %s", (home,)).fetchone() == (0,)
    for statement, error in (
        ("SELECT dbml.snapshot_bytes(%(kept)s, %(home)s)", errors.WorkspaceNotFound),
        ("SELECT dbml.snapshot_bytes(%(kept)s)", errors.SnapshotNotFound),
        ("SELECT dbml.submit_run('e', %(kept)s, 'a.py')", errors.SnapshotNotFound),
        ("SELECT dbml.wait_for_run(%(run_id)s)", errors.RunNotFound), ("SELECT * FROM dbml.replay(%(run_id)s)", errors.RunNotFound),
        ("SELECT dbml.lineage(%(run_id)s::text)", errors.NothingFound),
    ):  # fmt: skip
        with pytest.raises(error):
            db.execute(statement, {"kept": kept[0], "home": home, "run_id": run_id})  # type: ignore[index, arg-type]
    assert db.execute("SELECT dbml.cancel_script(%s)", (run_id,)).fetchone() == (False,)
    request = {"kind": "script", "script": "a.py", "replay_of": str(run_id), "workspace_id": 1, "params": {}}
    with pytest.raises(errors.RunNotFound):
        db.execute("SELECT * FROM dbml_channel.open_call(%s)", (json.dumps(request),))
    db.execute("RESET ROLE")
    db.execute("SELECT dbml.delete_workspace(%s)", (home,))
    assert db.execute("SELECT count(*) FROM dbml._snapshots WHERE digest = decode(%s, 'hex')", kept).fetchone() == (0,)


def test_who_waits_must_be_able_to_see_the_end(db: Db) -> None:
    db.execute("BEGIN")
    run_id = submit(db, "print(1)")
    with pytest.raises(errors.InvalidArgument, match="this is that transaction"):
        db.execute("SELECT dbml.wait_for_run(%s)", (run_id,))
    db.execute("ROLLBACK")
    run_id = submit(db, "import time\ntime.sleep(60)")
    assert db.execute("SELECT dbml.wait_for_run(%s, '0.2 s')", (run_id,)).fetchone()[0] in ("queued", "running")  # type: ignore[index]
    assert db.execute("SELECT dbml.cancel_script(%s)", (run_id,)).fetchone() == (True,)
    assert db.execute("SELECT dbml.wait_for_run(%s)", (run_id,)).fetchone() == ("canceled",)
    with pytest.raises(errors.RunNotFound):
        db.execute("SELECT dbml.wait_for_run(NULL)")


@pytest.mark.once  # what one worker has built, another of the session finds there
def test_an_environment_is_built_before_the_run_begins(db: Db, wheelhouse: Any) -> None:
    name = "e" + uuid.uuid4().hex[:8]
    db.execute("SELECT dbml.create_environment(%s, 'joblib')", (name,))
    script = "import sys, joblib\nfrom dbml.core import Run\nRun.get_context().log('a', 1)\nprint(joblib.__name__, 'sklearn' in sys.modules)"
    run = wait(db, submit(db, script, environment=name), seconds=110)
    assert run["status"] == "completed", (run["error"], run["log"])
    assert run["log"].endswith("joblib False\n") and f"building environment {name}:1" in run["log"]
    assert (run["environment"], run["environment_version"], len(run["lock_sha256"])) == (name, 1, 64)
    assert run["software"].keys() == {"dbml", "python"}


def test_a_run_has_sixteen_above_it_at_most(db: Db) -> None:
    above: uuid.UUID | None = None
    chain = []
    for _ in range(17):
        (above,) = db.execute("SELECT dbml.start_run('deep', parent_run_id => %s)", (above,)).fetchone()  # type: ignore[misc]
        chain.append(above)
    deepest = submit(db, "pass", parent_run_id=chain[15])
    with pytest.raises(errors.LimitExceeded, match="a run must have 16 runs above it at most") as caught:
        submit(db, "pass", parent_run_id=chain[16])
    assert caught.value.detail == {"limit": "depth", "value": 16}
    with pytest.raises(errors.LimitExceeded):
        submit(db, "pass", parent_run_id=deepest)
    assert wait(db, deepest)["status"] == "completed"
    for run_id in chain:
        db.execute("SELECT dbml.finish_run(%s)", (run_id,))
