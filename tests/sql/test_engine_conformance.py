"""Every engine answers as the pickle does: estimators x tasks x numbers, gaps and categories, and every kind of step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import psycopg
import pytest

from dbml import errors

from .engine_models import FAMILIES, NUMBERS_OF, STEPS, certificate, check, fitted, of_family, register

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
