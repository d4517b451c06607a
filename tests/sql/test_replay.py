"""Replay: the same script again, under the same conditions, and what came of it compared."""

from __future__ import annotations

import json
import uuid
from typing import Any

import psycopg
import pytest

from dbml import errors

from .test_submitted import submit, wait

Db = psycopg.Connection[Any]

SCRIPT = """
import random, numpy
from sklearn.ensemble import RandomForestRegressor
x = numpy.random.rand(40, 3)
model = RandomForestRegressor(n_estimators=3).fit(x, x[:, 0])
run.log('score', model.score(x, x[:, 0])); run.log('draw', random.random()); run.log('draw', numpy.random.rand())
run.log('order', hash('text'))
run.register_model(name, model)
OutputDataSet = InputDataSet
"""


def run_id_of(db: Db, mark: str) -> uuid.UUID:
    row = db.execute(
        "SELECT run_id FROM dbml.runs WHERE script LIKE %s AND replay_of IS NULL ORDER BY started_at DESC LIMIT 1", (f"%{mark}%",)
    ).fetchone()
    assert row is not None
    found: uuid.UUID = row[0]
    return found


def run(db: Db, script: str, query: str = "SELECT 1 AS x", **params: Any) -> uuid.UUID:
    mark = uuid.uuid4().hex
    db.execute(
        "SELECT dbml.run_script_json(%s, input_query => %s, params => %s)", (f"# {mark}\n{script}", query, json.dumps(params))
    )
    return run_id_of(db, mark)


def replay(db: Db, run_id: uuid.UUID, **params: Any) -> dict[str, tuple[str, str, bool | None]]:
    rows = db.execute("SELECT * FROM dbml.replay(%s, %s)", (run_id, json.dumps(params))).fetchall()
    return {what: (original, replayed, same) for what, original, replayed, same in rows}


def test_a_script_that_draws_numbers_gives_the_same_model_again(db: Db) -> None:
    name = "m" + uuid.uuid4().hex
    run_id = run(db, SCRIPT, name=name)
    found = replay(db, run_id)
    assert found["run"][0] == str(run_id) and found["run"][2] is True, found
    assert found[f"registered {name}"][2] is True and len(found[f"registered {name}"][0]) == 64
    assert found["metric draw"][2] is True and found["metric draw"][0].startswith("2 values")
    assert found["metric order"][2] is True and found["seed"][2] is True and found["rows out"] == ("1", "1", True)
    assert db.execute("SELECT count(*) FROM dbml.models WHERE name = %s", (name,)).fetchone() == (1,)  # it registers none
    second = db.execute("SELECT replay_of, status FROM dbml.runs WHERE run_id = %s", (found["run"][1],)).fetchone()
    assert second == (run_id, "completed")
    seeds = {
        row[0] for row in db.execute("SELECT seed FROM dbml.runs WHERE run_id = ANY(%s)", ([run_id, run(db, SCRIPT, name=name)],))
    }
    assert len(seeds) == 2  # each run has a seed of its own


def test_it_tells_what_differs_and_what_nobody_can_say(db: Db) -> None:
    table = "t" + uuid.uuid4().hex
    db.execute(f"CREATE TABLE {table} AS SELECT g AS x FROM generate_series(1, 3) g")
    try:
        run_id = run(db, "run.log('n', len(InputDataSet)); OutputDataSet = InputDataSet", f"SELECT x FROM {table}")
        same = replay(db, run_id)
        assert same["input InputDataSet"] == (f"SELECT x FROM {table}", f"read again from public.{table}", None)
        assert same["run"][2] is True
        db.execute(f"INSERT INTO {table} VALUES (4)")
        found = replay(db, run_id)
        assert found["metric n"] == ("3", "4", False) and found["rows in"] == ("3", "4", False)
        assert found["run"][2] is False
    finally:
        db.execute(f"DROP TABLE {table}")


def test_a_run_that_failed_fails_again(db: Db) -> None:
    mark = uuid.uuid4().hex
    with pytest.raises(errors.ScriptError):
        db.execute("SELECT dbml.run_script_json(%s)", (f"run.log('a', 1)\nraise ValueError('{mark}')",))
    found = replay(db, run_id_of(db, mark))
    assert found["error"] == (mark, mark, True) and found["status"] == ("failed", "failed", True) and found["run"][2] is True


def test_groups_and_loaded_models_are_the_same_again(db: Db) -> None:
    name = "m" + uuid.uuid4().hex
    register = "SELECT dbml.register_model(%s, %s)"
    script = f"# {name}\nimport numpy\nrun.log('loaded', len(run.load_bytes('{name}')))\nrun.log('draw', numpy.random.rand())"
    db.execute(register, (name, b"one"))
    db.execute(
        "SELECT dbml.run_script_json(%s, input_query => 'SELECT g %% 3 AS k FROM generate_series(1, 9) g',"
        " partition_by => '{k}', parallel => 2)", (script,)
    )  # fmt: skip
    run_id = run_id_of(db, name)
    db.execute(register, (name, b"two and more"))
    found = replay(db, run_id)
    assert found[f"model {name}"] == (f"{name}:1", f"{name}:1", True)
    values = [
        sorted(row[0] for row in db.execute("SELECT value FROM dbml.metrics WHERE run_id = %s AND name = 'draw'", (each,)))
        for each in found["run"][:2]
    ]
    assert values[0] == values[1] and len(set(values[0])) == 3  # each group has numbers of its own


def test_a_submitted_run_is_replayed_in_the_callers_session(db: Db) -> None:
    script = "import os, sys, numpy\nprint(sys.argv[1])\nopen('outputs/x', 'w').write(str(numpy.random.rand()) + os.environ['V'])"
    run_id = submit(db, script, arguments=["a"], environment_variables={"V": "v"}, seed=7)
    assert wait(db, run_id)["seed"] == 7
    found = replay(db, run_id)
    assert found["artifact outputs/x"][2] is True and found["script"][2] is True and found["run"][2] is True, found
    kind = db.execute("SELECT kind, snapshot IS NOT NULL, log FROM dbml.runs WHERE run_id = %s", (found["run"][1],)).fetchone()
    assert kind == ("submitted", True, "a\n")
    differs = replay(db, run_id, environment_variables={"V": "other"})
    assert differs["artifact outputs/x"][2] is False and differs["params"][2] is False


def test_what_cannot_be_replayed_is_refused(db: Db) -> None:
    with pytest.raises(errors.RunNotFound):
        replay(db, uuid.uuid4())
    run_id = run(db, "pass", password={"$secret": "sesame"})
    with pytest.raises(errors.InvalidArgument, match="must be given again"):
        replay(db, run_id)
    assert replay(db, run_id, password={"$secret": "sesame"})["run"][2] is True
    started = db.execute("SELECT dbml.start_run('e', lasting => true)").fetchone()
    assert started is not None
    with pytest.raises(errors.InvalidArgument, match="only a run of a script"):
        replay(db, started[0])
    db.execute("SELECT dbml.finish_run(%s)", (started[0],))
    db.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    with pytest.raises(errors.InvalidArgument, match="READ COMMITTED"):
        replay(db, run_id)
    db.execute("ROLLBACK")
