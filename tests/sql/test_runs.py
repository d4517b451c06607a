"""The record of runs: written by the worker, whatever becomes of the caller's transaction."""

from __future__ import annotations

import uuid
from typing import Any

import psycopg
import pytest

from dbml import errors


def _run(db: psycopg.Connection[Any], mark: str) -> dict[str, Any]:
    with db.cursor(row_factory=psycopg.rows.dict_row) as cursor:
        cursor.execute("SELECT * FROM dbml.runs WHERE script LIKE %s", (f"%{mark}%",))
        (row,) = cursor.fetchall()
        return row


def test_a_run_says_who_what_and_how(db: psycopg.Connection[Any]) -> None:
    mark = uuid.uuid4().hex
    db.execute(
        "SELECT * FROM dbml.run_script(%s, input_query => 'SELECT g FROM generate_series(1, 30) g', params => '{\"p\": 1}',"
        " experiment => 'records') AS t(g int)",
        (
            f"# {mark}\nprint('hello')\nrun.log('rmse', 1.5)\nrun.log('rmse', 1.25)\nrun.tag('kind', 'test')\nOutputDataSet = InputDataSet[:7]",
        ),
    )
    run = _run(db, mark)
    assert (run["status"], run["rows_in"], run["rows_out"], run["log"], run["params"]) == (
        "completed",
        30,
        7,
        "hello\n",
        {"p": 1},
    )
    assert run["experiment"] == "records" and run["workspace"] == "default" and run["tags"] == {"kind": "test"}
    assert run["username"] == db.execute("SELECT current_user").fetchone()[0]  # type: ignore[index]
    assert run["peak_memory_mb"] > 1 and run["seconds"] > 0 and len(run["script_sha256"]) == 64
    assert run["inputs"][0]["query"] == "SELECT g FROM generate_series(1, 30) g"
    metrics = db.execute("SELECT name, value FROM dbml.metrics WHERE run_id = %s", (run["run_id"],)).fetchall()
    assert metrics == [("rmse", 1.5), ("rmse", 1.25)]
    assert db.execute("SELECT runs > 0 FROM dbml.experiments WHERE name = 'records'").fetchone() == (True,)


def test_a_failed_run_is_seen_with_its_error(db: psycopg.Connection[Any]) -> None:
    mark = uuid.uuid4().hex
    with pytest.raises(errors.ScriptError):
        db.execute("SELECT * FROM dbml.run_script(%s) AS t(a int)", (f"print('before')\n# {mark}\nraise ValueError('no')",))
    run = _run(db, mark)
    assert (run["status"], run["sqlstate"], run["error"], run["log"]) == ("failed", "ML001", "no", "before\n")
    assert "line 3" in run["error_context"]


def test_a_rolled_back_run_is_still_seen_and_its_model_is_not(db: psycopg.Connection[Any]) -> None:
    mark = uuid.uuid4().hex
    script = (
        f"# {mark}\nfrom sklearn.linear_model import LinearRegression\n"
        f"run.log('n', 4)\nrun.register_model('m{mark}', LinearRegression().fit([[0.0], [1.0]], [1.0, 3.0]))"
    )
    db.execute("BEGIN")
    db.execute("SELECT * FROM dbml.run_script(%s) AS t(a int)", (script,))
    predicted = db.execute("SELECT dbml.predict(%s, array[2.0]::float8[])", (f"m{mark}",)).fetchone()
    db.execute("ROLLBACK")
    assert predicted is not None and round(predicted[0], 9) == 5
    assert _run(db, mark)["status"] == "completed"
    assert db.execute("SELECT count(*) FROM dbml.models WHERE name = %s", (f"m{mark}",)).fetchone() == (0,)
    with pytest.raises(errors.ModelNotFound):
        db.execute("SELECT dbml.predict(%s, array[2.0]::float8[])", (f"m{mark}",))


def test_files_images_and_tables_are_kept_with_the_run(db: psycopg.Connection[Any]) -> None:
    mark = uuid.uuid4().hex
    db.execute(
        "SELECT * FROM dbml.run_script(%s) AS t(a int)",
        (
            f"# {mark}\nimport io\nimport matplotlib\nmatplotlib.use('agg')\nimport matplotlib.pyplot as plt\n"
            "plt.plot([1, 2, 3])\nrun.log_image('curve', plot=plt)\n"
            "run.log_table('points', {'x': [1, 2], 'y': [3, 4]})\n"
            "run.upload_file('big.bin', io.BytesIO(b'0123456789' * 300_000))\n",
        ),
    )
    run_id = _run(db, mark)["run_id"]
    kept = db.execute(
        "SELECT name, kind, size_bytes, substr(dbml.artifact_bytes(run_id, name), 1, 4) FROM dbml.artifacts"
        " WHERE run_id = %s ORDER BY name", (run_id,)
    ).fetchall()  # fmt: skip
    assert [(name, kind) for name, kind, *_ in kept] == [("big.bin", "file"), ("curve", "image"), ("points", "table")]
    assert kept[0][2:] == (3_000_000, b"0123") and kept[1][3] == b"\x89PNG"
    (digest,) = db.execute("SELECT encode(sha256(dbml.artifact_bytes(%s, 'big.bin')), 'hex')", (run_id,)).fetchone()  # type: ignore[misc]
    assert (
        digest == db.execute("SELECT digest FROM dbml.artifacts WHERE run_id = %s AND name = 'big.bin'", (run_id,)).fetchone()[0]
    )  # type: ignore[index]


def test_a_metric_must_be_a_number(db: psycopg.Connection[Any]) -> None:
    with pytest.raises(errors.InvalidArgument, match="x"):
        db.execute("SELECT * FROM dbml.run_script('run.log(''x'', ''high'')') AS t(a int)")


def _ended(db: psycopg.Connection[Any], **named: Any) -> uuid.UUID:
    (run_id,) = db.execute("SELECT dbml.start_run(%(e)s, parent_run_id => %(p)s)", {"e": "deleted", "p": None} | named).fetchone()  # type: ignore[misc]
    db.execute("SELECT dbml.finish_run(%s, 'completed')", (run_id,))
    return run_id  # type: ignore[no-any-return]


def test_a_run_is_deleted_with_its_parts_and_their_bytes(db: psycopg.Connection[Any]) -> None:
    content = uuid.uuid4().bytes
    parent = _ended(db)
    child = _ended(db, p=parent)
    db.execute("SELECT dbml.add_artifact(%s, 'f', dbml.upload_bytes(%s))", (child, content))
    db.execute("SELECT dbml.log_metric(%s, 'm', 1.0)", (child,))
    held = "SELECT count(*) FROM dbml._blobs WHERE digest = sha256(%s)"
    assert db.execute(held, (content,)).fetchone() == (1,)
    assert db.execute("SELECT dbml.delete_run(%s)", (parent,)).fetchone() == (2,)
    assert db.execute(held, (content,)).fetchone() == (0,)
    for view in ("runs", "metrics", "artifacts"):
        assert db.execute(f"SELECT count(*) FROM dbml.{view} WHERE run_id IN (%s, %s)", (parent, child)).fetchone() == (0,)
    with pytest.raises(errors.RunNotFound):
        db.execute("SELECT dbml.delete_run(%s)", (parent,))


def test_a_run_that_goes_on_or_made_something_is_kept(db: psycopg.Connection[Any]) -> None:
    parent, name = _ended(db), "d" + uuid.uuid4().hex[:12]
    (child,) = db.execute("SELECT dbml.start_run('deleted', parent_run_id => %s)", (parent,)).fetchone()  # type: ignore[misc]
    with pytest.raises(errors.InvalidArgument, match=f"{child} is running"):
        db.execute("SELECT dbml.delete_run(%s)", (parent,))
    db.execute("SELECT dbml.finish_run(%s, 'failed')", (child,))
    db.execute("SELECT dbml.register_model(%s, 'x', run_id => %s)", (name, child))
    with pytest.raises(errors.InvalidArgument, match=f"no model's origin.*'{name}:1'"):
        db.execute("SELECT dbml.delete_run(%s)", (parent,))
    db.execute("SELECT dbml.delete_model(%s)", (name,))
    assert db.execute("SELECT dbml.delete_run(%s)", (parent,)).fetchone() == (2,)


def test_a_submitted_runs_snapshot_goes_with_the_last_run_that_has_it(db: psycopg.Connection[Any]) -> None:
    mark = uuid.uuid4().hex
    ids = []
    for _ in range(2):
        submit = "SELECT dbml.submit_run('deleted', dbml.create_snapshot(jsonb_build_object('a.py', %s::text)), 'a.py')"
        (run_id,) = db.execute(submit, (f"print('{mark}')",)).fetchone()  # type: ignore[misc]
        db.execute("SELECT dbml.wait_for_run(%s, '60 s')", (run_id,))
        ids.append(run_id)
    kept = "SELECT count(*) FROM dbml.snapshots s WHERE s.snapshot = %s"
    (snapshot,) = db.execute("SELECT snapshot FROM dbml.runs WHERE run_id = %s", (ids[0],)).fetchone()  # type: ignore[misc]
    for run_id, left in zip(ids, (1, 0), strict=True):
        db.execute("SELECT dbml.delete_run(%s)", (run_id,))
        assert db.execute(kept, (snapshot,)).fetchone() == (left,)


def test_a_run_logs_parameters_beside_those_that_it_was_given(db: psycopg.Connection[Any]) -> None:
    (run_id,) = db.execute("""SELECT dbml.start_run('logged-params', params => '{"alpha": 0.5}')""").fetchone()  # type: ignore[misc]
    logged = db.execute("""SELECT dbml.log_params(%s, '{"beta": "x", "alpha": "0.5"}')""", (run_id,)).fetchone()
    assert logged == ({"beta": "x", "alpha": "0.5"},)
    db.execute("""SELECT dbml.log_params(%s, '{"beta": "x", "gamma": 1}')""", (run_id,))
    row = db.execute("SELECT params, logged_params FROM dbml.runs WHERE run_id = %s", (run_id,)).fetchone()
    assert row == ({"alpha": 0.5}, {"beta": "x", "alpha": "0.5", "gamma": 1})
    for wrong, match in (('{"beta": "y"}', 'must stay what it is, "beta" is "x" and cannot become "y"'), ("[]", "JSON object")):
        with pytest.raises(errors.InvalidArgument, match=match):
            db.execute("SELECT dbml.log_params(%s, %s)", (run_id, wrong))
    with pytest.raises(errors.InvalidArgument, match="JSON object, got NULL"):
        db.execute("SELECT dbml.log_params(%s, NULL)", (run_id,))
    with pytest.raises(errors.RunNotFound):
        db.execute("SELECT dbml.log_params(%s, '{}')", (uuid.uuid4(),))
    db.execute("SELECT dbml.finish_run(%s)", (run_id,))
    db.execute("""SELECT dbml.log_params(%s, '{"late": true}')""", (run_id,))  # as metrics and tags


def test_a_scripts_logged_parameters_are_written_at_its_end(db: psycopg.Connection[Any]) -> None:
    mark = uuid.uuid4().hex
    script = (
        f"# {mark}\nrun.log_params({{'alpha': 0.5, 'p': 2}})\nrun.log_params({{'alpha': '0.5'}})\n"
        "child = run.begin_child('part')\nchild.log_params({'inner': 1})\n"
        "try:\n    run.log_params({'alpha': 1})\nexcept Exception as error:\n    print(error)"
    )
    db.execute("SELECT * FROM dbml.run_script(%s, params => '{\"p\": 1}') AS t(a int)", (script,))
    run = _run(db, mark)
    assert run["params"] == {"p": 1} and run["logged_params"] == {"alpha": "0.5", "p": "2"}
    assert "a parameter must not change: alpha is '0.5', got '1'" in run["log"]
    part = db.execute("SELECT logged_params FROM dbml.runs WHERE parent_run_id = %s", (run["run_id"],)).fetchone()
    assert part == ({"inner": "1"},)
    replayed = db.execute(
        "SELECT what, same FROM dbml.replay(%s) WHERE what IN ('params', 'script')", (run["run_id"],)
    ).fetchall()
    assert dict(replayed) == {"params": True, "script": True}
