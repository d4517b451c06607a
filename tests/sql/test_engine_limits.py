"""What engines refuse, leave to the model itself, or must not make: never a wrong answer, and a reason."""

from __future__ import annotations

import argparse
import json
import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import psycopg
import pytest
import skops.io
from sklearn.datasets import load_digits
from sklearn.ensemble import (
    GradientBoostingRegressor,
    RandomForestClassifier,
)
from sklearn.linear_model import (
    LogisticRegression,
    Ridge,
    RidgeClassifier,
)
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    StandardScaler,
)
from sklearn.svm import SVC

from dbml import errors
from dbml.engines.python import PythonEngine
from dbml.worker.compiling import compiled_answer

from .engine_models import FLOWERS, NAMES, SPECIES, X, Y, certificate, check, fitted, functions, register


@pytest.mark.parametrize(
    ("model", "data", "target", "why"),
    [
        (KNeighborsRegressor(), X, Y, "KNeighborsRegressor: no translator"),
        (make_pipeline(StandardScaler(), SVC()), FLOWERS, NAMES, "Pipeline > svc > SVC: no translator"),
        (make_pipeline(StandardScaler(), RidgeClassifier()), FLOWERS, np.array(["a\\b", "c", "d"])[SPECIES], "backslash"),
    ],
)
def test_what_cannot_be_compiled_says_which_step_and_why(
    db: psycopg.Connection[Any], model: Any, data: Any, target: Any, why: str
) -> None:
    name = register(db, fitted(model, data, target))
    with pytest.raises(errors.NotCompiled, match=why):
        db.execute("SELECT dbml.compile_model(%s, engine => 'sql')", (name,))
    with pytest.raises(errors.NotCompiled, match=why):
        db.execute("SELECT dbml.predict_row(%s, '{}'::jsonb, engine => 'sql')", (name,))
    used = db.execute("SELECT engine, used_for FROM dbml.explain_predict(%s)", (name,)).fetchall()
    assert used[0] == ("sql", []) and sorted(form for _, forms in used[1:] for form in forms) == ["queries", "rows"]


def test_a_large_forest_walks_for_rows_and_is_left_to_others_for_queries(db: psycopg.Connection[Any]) -> None:
    digits, numbers = load_digits(return_X_y=True)
    model = RandomForestClassifier(60, random_state=0).fit(digits, numbers)
    name = register(db, model)
    rows = db.execute("SELECT used_for, why FROM dbml.explain_predict(%s)", (name,)).fetchall()
    assert rows[0][0] == ["rows"] and "nodes, more than the 8000" in rows[0][1] and rows[1][0] + rows[2][0] == ["queries"]
    for row in digits[:5]:
        (got,) = db.execute("SELECT dbml.predict(%s, %s::float8[], 'sql')", (name, row.tolist())).fetchone()  # type: ignore[misc]
        assert got == model.predict([row])[0]


def test_beyond_what_is_faster_sets_are_scored_by_comparisons_where_sql_is_asked_for(db: psycopg.Connection[Any]) -> None:
    """Not by the walk over arrays that single rows have, which is ten times slower."""
    model = GradientBoostingRegressor(n_estimators=130, random_state=0).fit(X, Y)
    db.execute("BEGIN")
    name = register(db, model)
    assert [one.rpartition("_")[2] for one in functions(db, name)] == ["row", "set"]
    chosen = db.execute("SELECT engine, used_for, why FROM dbml.explain_predict(%s)", (name,)).fetchall()
    assert chosen[0][1] == ["rows"] and "comparisons a row, more than the 300" in chosen[0][2]
    assert "queries" in chosen[1][1] + chosen[2][1]
    call = "SELECT expression FROM dbml_channel.score_call(%s, %s, %s, %s, %s)"
    columns = [f"c{i}" for i in range(10)]
    given = (columns, ["double precision"] * 10, ["float8"] * 10)
    (asked,) = db.execute(call, (name, "sql", *given)).fetchone()  # type: ignore[misc]
    assert "_set(" in asked and db.execute(call, (name, None, *given)).fetchone() == (None,)
    check(db, name, model, X[:40])
    db.execute("SELECT dbml.set_model_engine(%s, 'sql')", (name,))
    (asked,) = db.execute(call, (name, None, *given)).fetchone()  # type: ignore[misc]
    assert "_set(" in asked
    db.execute("ROLLBACK")


@pytest.fixture
def ridge(db: psycopg.Connection[Any]) -> Iterator[str]:
    name = register(db, Ridge().fit([[0.0, 1.0], [1.0, 3.0], [2.0, 0.0]], [0.0, 2.0, 4.0]))
    yield name
    db.execute("RESET ROLE")
    db.execute("SELECT dbml.delete_model(%s)", (name,))


@pytest.mark.parametrize("form", ["pickle", "safe"])
def test_what_a_policy_forbids_is_not_scored_by_sql_either(db: psycopg.Connection[Any], form: str) -> None:
    """It was compiled when it was allowed; the policy is of now."""
    workspace = "policy-" + uuid.uuid4().hex
    model = Ridge().fit([[0.0], [1.0]], [0.0, 2.0])
    model.more = argparse.Namespace(a=1)  # of a type that a policy must list
    calls = (
        "SELECT dbml.predict(%s, array[1]::float8[])", "SELECT dbml.predict(%s || ':1', array[1]::float8[])",
        "SELECT dbml.predict_row(%s, jsonb_build_object('a', 1))", "SELECT dbml.predict_json(%s, 'SELECT 1::float8 AS a')",
        "SELECT * FROM dbml.predict(%s, 'SELECT 1::float8 AS a') AS t(a float8, p float8)",
        "SELECT dbml.predict_into(%s, 'SELECT 1::float8 AS a', 'pg_temp.scored')",
    )  # fmt: skip
    engine = "SELECT used_for, why FROM dbml.explain_predict(%s) WHERE engine = 'sql'"
    try:
        db.execute("SELECT dbml.create_workspace(%s), set_config('dbml.workspace', %s, false)", (workspace, workspace))
        db.execute("SELECT dbml.set_model_policy(%s, allowed_types => '{argparse.Namespace}')", (workspace,))
        name = register(db, skops.io.dumps(model) if form == "safe" else model)
        assert certificate(db, name)[0] == "certified"
        forbidding = ["allowed_types => '{xgboost.*}'", f"formats => '{{{'pickle' if form == 'safe' else 'safe'}}}'"]
        for policy in forbidding + (["allowed_types => NULL"] if form == "safe" else []):
            db.execute(f"SELECT dbml.set_model_policy(%s, {policy})", (workspace,))  # type: ignore[arg-type]
            for call in calls:
                with pytest.raises(errors.ModelRefused):
                    db.execute(call, (name,))  # type: ignore[arg-type]
            with pytest.raises(errors.NotCompiled):
                db.execute("SELECT dbml.predict(%s, array[1]::float8[], 'sql')", (name,))
            row = db.execute(engine, (name,)).fetchone()
            assert row is not None and row[0] == [] and "policy" in row[1]
        if form == "safe":  # whether it may be loaded is asked, and then SQL may score
            with pytest.raises(errors.ModelRefused, match=r"argparse\.Namespace"):
                db.execute("SELECT dbml.compile_model(%s)", (name,))
        else:
            db.execute("SELECT dbml.set_model_policy(%s)", (workspace,))
            row = db.execute(engine, (name,)).fetchone()
            assert row is not None and row[0] == [] and "policy has changed since" in row[1]
            db.execute("SELECT dbml.compile_model(%s)", (name,))
            assert db.execute(engine, (name,)).fetchone() == (["rows", "queries"], "it is certified, and the fastest")
    finally:
        db.execute(
            "DELETE FROM dbml._models WHERE workspace_id = (SELECT workspace_id FROM dbml._workspaces WHERE name = %s)",
            (workspace,),
        )
        db.execute("DELETE FROM dbml._workspaces WHERE name = %s", (workspace,))


def test_rows_that_sql_does_not_answer_are_answered_by_the_model(db: psycopg.Connection[Any], ridge: str) -> None:
    (huge,) = db.execute("SELECT dbml.predict(%s, array[1e308, -1e308]::float8[] )", (ridge,)).fetchone()  # type: ignore[misc]
    (own,) = db.execute("SELECT dbml.predict(%s, array[1e308, -1e308]::float8[], 'python')", (ridge,)).fetchone()  # type: ignore[misc]
    assert huge == own
    with pytest.raises(errors.PredictionError, match="contains NaN"):
        db.execute("SELECT dbml.predict(%s, array[1, NULL]::float8[])", (ridge,))
    query = "SELECT g::float8 AS a, CASE g WHEN 3 THEN NULL ELSE 1.0::float8 END AS b FROM generate_series(1, 4) g"
    for call in ("SELECT * FROM dbml.predict(%s, %s) AS t(a float8, b float8, p float8)", "SELECT dbml.predict_json(%s, %s)"):
        with pytest.raises(errors.PredictionError, match="contains NaN"):
            db.execute(call, (ridge, query))
    db.execute("CREATE TEMPORARY TABLE kept (a float8, b float8, prediction float8)")
    with pytest.raises(errors.PredictionError, match="contains NaN"):
        db.execute("SELECT dbml.predict_into(%s, %s, 'kept', 'append')", (ridge, query))
    assert db.execute("SELECT count(*) FROM kept").fetchone() == (0,)


@pytest.fixture
def torn(db: psycopg.Connection[Any]) -> Iterator[str]:
    """A model of one feature, a, that leaves the row 0 to its pickle: there rounding would decide."""
    name = register(db, LogisticRegression().fit(pd.DataFrame({"a": [-1.0, 1.0]}), [0, 1]))
    yield name
    db.execute("SELECT dbml.delete_model(%s)", (name,))


@pytest.mark.parametrize(
    "call",
    [
        "SELECT array_agg((r ->> 'prediction')::int) FROM dbml.predict_json(%s, %s) r",
        "SELECT array_agg(p) FROM dbml.predict(%s, %s) AS t(s bigint, a float8, p int)",
        "SELECT dbml.predict_into(%s, %s, 'pg_temp.told')",
    ],
)
def test_a_query_with_a_row_for_the_model_runs_once(db: psycopg.Connection[Any], torn: str, call: str) -> None:
    db.execute("CREATE TEMPORARY SEQUENCE seen")
    query = "SELECT nextval('pg_temp.seen') AS s, (g - 3)::float8 AS a FROM generate_series(1, 5) g"
    (found,) = db.execute(call, (torn, query)).fetchone()  # type: ignore[arg-type,misc]
    if found == 5:
        (found,) = db.execute("SELECT array_agg(prediction) FROM pg_temp.told").fetchone()  # type: ignore[misc]
    assert found == [0, 0, 0, 1, 1]
    assert db.execute("SELECT last_value FROM pg_temp.seen").fetchone() == (5,)


def test_parallel_workers_score_and_a_row_for_the_model_is_scored_without_them(db: psycopg.Connection[Any], torn: str) -> None:
    (function,) = [name for name in functions(db, torn) if name.endswith("predict_set")]
    table = "many_" + uuid.uuid4().hex[:8]
    db.execute(f"CREATE TABLE {table} AS SELECT (g - 3)::float8 AS a FROM generate_series(1, 20000) g; ANALYZE {table}")  # type: ignore[arg-type]
    try:
        db.execute("SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0")
        db.execute("SET max_parallel_workers_per_gather = 2")
        (query,) = db.execute(
            "SELECT dbml_channel.scored_rows(%s, c.expression, '{double precision}', 'scored.prediction')"
            " FROM dbml_channel.score_call(%s, 'sql', '{a}', '{double precision}', '{float8}') c", (f"SELECT a FROM {table}", torn),
        ).fetchone()  # type: ignore[misc]  # fmt: skip
        plan = [row[0] for row in db.execute(f"EXPLAIN (VERBOSE) {query}").fetchall()]  # type: ignore[arg-type]
        gather = next(i for i, line in enumerate(plan) if "Gather" in line)
        assert any(function in line for line in plan[gather + 2 :]), plan  # below it: in the workers
        assert db.execute("SELECT dbml.predict_into(%s, %s, 'pg_temp.scored')", (torn, f"SELECT * FROM {table}")).fetchone() == (
            20000,
        )
        assert db.execute("SELECT sum(prediction) FROM pg_temp.scored").fetchone() == (20000 - 3,)
        assert db.execute("SHOW max_parallel_workers_per_gather").fetchone() == ("2",)
    finally:
        db.execute(f"DROP TABLE {table}; RESET ALL")  # type: ignore[arg-type]


def answer(model: Any) -> tuple[dict[str, Any], list[str]]:
    head, body = compiled_answer(PythonEngine(model), {"time_limit_s": 20})
    return head, body.decode().split("\n")


def test_a_function_that_differs_is_not_certified(db: psycopg.Connection[Any], ridge: str) -> None:
    model = Ridge().fit([[0.0, 1.0], [1.0, 3.0], [2.0, 0.0]], [0.0, 2.0, 4.0])
    (model_id,) = db.execute("SELECT model_id FROM dbml.models WHERE name = %s", (ridge,)).fetchone()  # type: ignore[misc]
    head, lines = answer(model)
    weight = repr(float(model.coef_[0]))
    assert weight in lines[1]
    lines[1] = lines[1].replace(weight, repr(float(model.coef_[0]) * (1 + 1e-7)))
    db.execute("BEGIN")
    db.execute("SELECT dbml_channel._certify(%s, %s, %s)", (model_id, json.dumps(head), lines))
    status, reason, *_ = certificate(db, ridge)
    assert status == "failed" and "rows differ from the model (predict, form set)" in reason
    assert functions(db, ridge) == []
    db.execute("ROLLBACK")


@pytest.mark.parametrize(
    "body",
    [
        "(select 1)", "pg_sleep(1)", "c1::regclass", "1; drop table x", "'a\\'", "$$", '"x"', "current_user", "lo_import('x')",
        "query_to_xml('x')", "set_config('a', 'b', false)", "begin perform 1; end", "c1 || c2", "casewhen", "v1selectv2",
        "raise notice 'x'", "execute 'x'", "1e5", "'x", "@ c1", "b := b || b;", "substring(c1, 1, 2)", "width_bucket(c1, f)",
            "b := substring('01'::varbit, 3 - width_bucket(c1, '{1}'::float8[]), 1) || b;", "v1 := substring(v1, 1) || substring('1'::varbit, 1, 1);",
            "b := substring('01'::varbit, 3 - width_bucket(pg_sleep(1), '{1}'::float8[]), 1);",
            "b := substring(b, 3 - width_bucket(c1, '{1}'::float8[]), 1);",
    ],
)  # fmt: skip
def test_text_that_is_not_arithmetic_makes_no_function(db: psycopg.Connection[Any], body: str) -> None:
    assert db.execute("SELECT dbml_channel._is_arithmetic(%s)", (body,)).fetchone() == (False,)
    db.execute("BEGIN")
    with pytest.raises(errors.NotCompiled):
        db.execute("SELECT dbml_channel._make_function('m', 'c1 float8', 'float8', 'sql', %s)", (body,))
    db.execute("ROLLBACK")


def test_compiling_has_a_time_limit_and_can_be_left_out(db: psycopg.Connection[Any]) -> None:
    model = GradientBoostingRegressor(n_estimators=300).fit(X, Y)
    db.execute("SET dbml.compile = 'off'")
    name = register(db, model)
    db.execute("RESET dbml.compile")
    assert db.execute("SELECT count(*) FROM dbml.certificates WHERE model = %s", (name,)).fetchone() == (0,)
    with pytest.raises(errors.NotCompiled, match="longer"):
        db.execute("SELECT dbml.compile_model(%s, '10 ms')", (name,))
    with pytest.raises(errors.InvalidArgument, match="time_limit > 0"):
        db.execute("SELECT dbml.compile_model(%s, '0')", (name,))
    assert db.execute("SELECT dbml.compile_model(%s)", (name,)).fetchone() == ("sql",)
    check(db, name, model, X[:30])
