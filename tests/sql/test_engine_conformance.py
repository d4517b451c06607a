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
    **{f"xgboost-{task}-{kind}": IN_ORDER for task in NUMBERS_OF for kind in ("numbers", "categorical")},
    **dict.fromkeys(("xgb, poisson", "xgb forest", "xgb, categories"), IN_ORDER),
    "isotonic of probabilities": "is answered where the model raises",
}
CASES = [
    *(f"{family}-{task}-{kind}" for family, (regressor, _) in FAMILIES.items() for task in NUMBERS_OF
      for kind in ("numbers", "categorical") if task != "regression" or regressor is not None),
    *STEPS,
]  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_every_engine_answers_as_the_pickle_does(db: psycopg.Connection[Any], case: str, subtests: pytest.Subtests) -> None:
    model, data, target = STEPS[case] if case in STEPS else of_family(*case.split("-"))
    model = fitted(model, data, target)
    db.execute("BEGIN")
    name = register(db, model)
    if isinstance(data, pd.DataFrame):
        unseen = data.iloc[100:150].copy()
        unseen.iloc[:5, 0] = "never seen"
    else:
        unseen = data[100:150] + np.random.default_rng(1).normal(size=data[100:150].shape) / 7
    with subtests.test("sql"):
        status, reason, rows, error, tolerance, tried, thresholds = certificate(db, name)
        assert (status, reason) == ("certified", None)
        assert rows > 900 and (error or 0) <= tolerance <= (2.0**-22 if case in IN_SINGLE else 1e-9) and tried == thresholds
        check(db, name, model, unseen, "sql")
    with subtests.test("python"):
        check(db, name, model, unseen[:10], "python", rows=1)
    with subtests.test("onnx"):
        if case in NO_GRAPH:
            with pytest.raises(errors.NotCompiled, match=NO_GRAPH[case]):
                db.execute("SELECT dbml.compile_model(%s, engine => 'onnx')", (name,))
        else:
            assert db.execute("SELECT dbml.compile_model(%s, engine => 'onnx')", (name,)).fetchone() == ("onnx",)
            about = db.execute(
                "SELECT status, rows_compared > 900, coalesce(max_relative_error, 0) <= tolerance AND tolerance <= 1e-9"
                " FROM dbml.certificates WHERE model = %s AND engine = 'onnx'", (name,),
            ).fetchone()  # fmt: skip
            assert about == ("certified", True, True)
            check(db, name, model, unseen[:20], "onnx", rows=1)
    db.execute("ROLLBACK")
