"""Every engine answers as the pickle does: estimators x tasks x numbers, gaps and categories, and every kind of step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import psycopg
import pytest
from lightgbm import LGBMClassifier
from psycopg import sql
from psycopg.types.json import Jsonb
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_iris
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from dbml import errors
from dbml.features import feature_places

from .engine_models import FAMILIES, NAMES, NUMBERS_OF, STEPS, certificate, check, fitted, of_family, register

# Models that answer by a curve in float32.
IN_SINGLE = (
    "xgb, poisson",
    "xgboost-binary-numbers",
    "xgboost-multiclass-numbers",
    "xgboost-binary-categorical",
    "xgboost-multiclass-categorical",
)
# What has no graph that is proven, and why; everything else has one.
IN_ORDER = "order of a sum in float32 is not the model's"
NO_GRAPH = {
    **{f"xgboost-{task}-numbers": IN_ORDER for task in NUMBERS_OF},
    **dict.fromkeys(("xgb, poisson", "xgb forest", "xgb, categories"), IN_ORDER),
    "isotonic of probabilities": "is answered where the model raises",
}
CASES = [
    *(f"{family}-{task}-{kind}" for family, (regressor, _) in FAMILIES.items() for task in NUMBERS_OF
      for kind in ("numbers", "categorical") if task != "regression" or regressor is not None),
    *STEPS,
]  # fmt: skip
# SQL of every kind of step runs on each server; the rest on one, and the same steps in front are no other graph.
OF_GRAPHS = [case for case in CASES if not case.endswith("categorical") or case.startswith(("linear", "forest", "lightgbm"))]


@pytest.mark.parametrize(
    ("engine", "case"),
    [
        *(pytest.param("sql", case, marks=[] if case in STEPS else pytest.mark.once) for case in CASES),
        *(pytest.param("python", case, marks=pytest.mark.once) for case in CASES if case not in STEPS),
        *(pytest.param("onnx", case, marks=pytest.mark.once) for case in OF_GRAPHS),
    ],
)
def test_every_engine_answers_as_the_pickle_does(db: psycopg.Connection[Any], engine: str, case: str) -> None:
    model, data, target = STEPS[case] if case in STEPS else of_family(*case.split("-"))
    model = fitted(model, data, target)
    db.execute("BEGIN")
    if engine != "sql":
        db.execute("SET LOCAL dbml.compile = 'off'")
    name = register(db, model)
    if engine == "onnx" and case in NO_GRAPH:
        with pytest.raises(errors.NotCompiled, match=NO_GRAPH[case]):
            db.execute("SELECT dbml.compile_model(%s, engine => 'onnx')", (name,))
        db.execute("ROLLBACK")
        return
    if engine == "onnx":
        assert db.execute("SELECT dbml.compile_model(%s, engine => 'onnx')", (name,)).fetchone() == ("onnx",)
    if engine != "python":
        status, reason, rows, error, tolerance, tried, thresholds = certificate(db, name)
        assert (status, reason) == ("certified", None)
        assert rows > 900 and (error or 0) <= tolerance <= (2.0**-22 if case in IN_SINGLE else 1e-9)
        assert engine == "onnx" or tried == thresholds
    if isinstance(data, pd.DataFrame):
        unseen = data.iloc[100:150].copy()
        unseen.iloc[:5, 0] = "never seen"
    else:
        unseen = data[100:150] + np.random.default_rng(1).normal(size=data[100:150].shape) / 7
    check(db, name, model, unseen, engine)
    db.execute("ROLLBACK")


@pytest.mark.parametrize("engine", ["sql", "python", "onnx"])
def test_columns_with_spaces_are_those_that_lightgbm_was_trained_on(db: psycopg.Connection[Any], engine: str) -> None:
    """In the model they have underscores."""
    flowers = load_iris(as_frame=True).data
    model = LGBMClassifier(n_estimators=5, n_jobs=1, verbose=-1).fit(flowers, NAMES)
    assert model.feature_names_in_[0] == "sepal_length_(cm)"
    db.execute("BEGIN")
    name = register(db, model)
    if engine == "onnx":
        db.execute("SELECT dbml.compile_model(%s, engine => 'onnx')", (name,))
    check(db, name, model, flowers.iloc[::7], engine)
    check(db, name, model, flowers.iloc[::7, ::-1].rename(columns=lambda c: c.replace(" ", "_")).iloc[:, ::-1], engine)
    row = flowers.iloc[60]
    wrong = {"sepal_length_(cm)": float(row.iloc[0]), **row.iloc[1:].to_dict(), "sepal length (cm)": -1000.0}
    for record in (row.to_dict(), wrong):  # a column of the model's own name comes first
        got = db.execute("SELECT dbml.predict_row(%s, %s::jsonb, engine => %s)", (name, Jsonb(record), engine)).fetchone()
        assert got == (model.predict(flowers.iloc[[60]])[0],)
    signature = Jsonb({"features": [{"name": column} for column in flowers]})
    db.execute("SELECT dbml.register_model(%s, dbml.model_bytes(%s), signature => %s)", (name, name, signature))
    if engine == "onnx":
        db.execute("SELECT dbml.compile_model(%s, engine => 'onnx')", (name,))
    check(db, name, model, flowers.iloc[::7], engine)
    for call in ("predict_json(%s, 'SELECT 1.0 AS petal', %s)", "predict_row(%s, '{\"petal\": 1}'::jsonb, engine => %s)"):
        with (
            pytest.raises(errors.DbmlError, match="sepal length") if engine == "python" else pytest.raises(errors.DbmlError),
            db.transaction(),
        ):
            db.execute(f"SELECT dbml.{call}", (name, engine))  # type: ignore[arg-type]
    db.execute("ROLLBACK")


@pytest.mark.parametrize("engine", ["sql", "python"])
def test_a_boolean_is_a_number_or_a_category(db: psycopg.Connection[Any], engine: str) -> None:
    random = np.random.default_rng(2)
    rows = pd.DataFrame({"flag": random.random(90) < 0.5, "kind": random.random(90) < 0.3, "x": random.normal(size=90)})
    steps = make_column_transformer((OneHotEncoder(), ["kind"]), (StandardScaler(), ["x"]), ("passthrough", ["flag"]))
    model = make_pipeline(steps, Ridge()).fit(rows, rows.x * 2 + rows.flag * 5 - rows.kind)
    wanted = model.predict(rows[:6])
    db.execute("BEGIN")
    name = register(db, model)
    given = f"SELECT * FROM jsonb_to_recordset({sql.Literal(rows[:6].to_json(orient='records')).as_string()}) AS t(kind bool, x float8, flag bool)"
    got = db.execute("SELECT r -> 'prediction' FROM dbml.predict_json(%s, %s, %s) r", (name, given, engine)).fetchall()
    np.testing.assert_allclose([float(value) for (value,) in got], wanted, rtol=1e-9)
    got = db.execute(f"SELECT dbml.predict_row(%s, t, %s) FROM ({given}) t", (name, engine)).fetchall()  # type: ignore[arg-type]
    np.testing.assert_allclose([float(value) for (value,) in got], wanted, rtol=1e-9)
    db.execute("ROLLBACK")


def test_sql_and_python_find_features_in_the_same_places(db: psycopg.Connection[Any]) -> None:
    random = np.random.default_rng(5)
    for _ in range(200):
        names = ["".join(random.choice(list("ab _"), size=random.integers(1, 4))) for _ in range(6)]
        features, columns = list(dict.fromkeys(names[:3])), list(dict.fromkeys(names[3:]))
        (places,) = db.execute("SELECT dbml_channel.feature_places(%s::text[], %s::text[])", (features, columns)).fetchone()  # type: ignore[misc]
        assert places == [None if place is None else place + 1 for place in feature_places(features, columns)]
