"""Explanations, evaluations and intervals through SQL; that the contributions are right is in tests/unit/test_explain.py."""

from __future__ import annotations

import pickle
import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np
import psycopg
import pytest
from sklearn.datasets import load_diabetes, load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import Ridge
from sklearn.metrics import log_loss, root_mean_squared_error

from dbml import errors

Db = psycopg.Connection[Any]
X, Y = load_diabetes(return_X_y=True)
X = np.round(X[:, :3] * 100, 3)
RIDGE = Ridge().fit(X[:200], Y[:200])
FLOWERS, SPECIES = load_iris(return_X_y=True)
NAMES = np.array(["setosa", "versicolor", "virginica"], dtype=object)[SPECIES]
FOREST = RandomForestClassifier(5, max_depth=3, random_state=0).fit(FLOWERS[::2], NAMES[::2])


@pytest.fixture
def mark(db: Db) -> Iterator[str]:
    """Yield a prefix: mark-ridge and mark-forest are models, the tables patients and flowers are temporary."""
    name = uuid.uuid4().hex[:8]
    for kind, model, names in (("ridge", RIDGE, "abc"), ("forest", FOREST, "wxyz")):
        signature = '{"features": [' + ", ".join(f'{{"name": "{c}"}}' for c in names) + "]}"
        db.execute("select dbml.register_model(%s, %s, signature => %s)", [f"{name}-{kind}", pickle.dumps(model), signature])
    db.execute("create temporary table patients (id int, a float8, b float8, c float8, target float8)")
    db.execute("create temporary table flowers (w float8, x float8, y float8, z float8, kind text)")
    with db.cursor() as cursor:
        cursor.executemany(
            "insert into patients values (%s, %s, %s, %s, %s)", [(i, *map(float, X[i]), float(Y[i])) for i in range(200, 442)]
        )
        cursor.executemany(
            "insert into flowers values (%s, %s, %s, %s, %s)",
            [(*map(float, f), n) for f, n in zip(FLOWERS[1::2], NAMES[1::2], strict=True)],
        )
    yield name
    db.execute("delete from dbml._models where name like %s", [f"{name}-%"])


def test_contributions_of_a_query_and_of_a_row(db: Db, mark: str) -> None:
    rows = db.execute(
        "select row_number, feature, value::float8, contribution, baseline, prediction, scale, method, output"
        " from dbml.explain_prediction(%s, 'select * from patients where id < 203 order by id')", [f"{mark}-ridge"],
    ).fetchall()  # fmt: skip
    assert [(row[0], row[1]) for row in rows] == [(i, c) for i in (1, 2, 3) for c in "abc"]
    for i in range(3):
        mine = rows[3 * i : 3 * i + 3]
        assert [row[2] for row in mine] == X[200 + i].tolist()
        assert [row[3] for row in mine] == pytest.approx((RIDGE.coef_ * X[200 + i]).tolist())
        assert mine[0][4] == pytest.approx(RIDGE.intercept_) and mine[0][5] == pytest.approx(RIDGE.predict(X[[200 + i]])[0])
        assert mine[0][6:] == ("prediction", "linear", None)
    of_row = "select e.feature, e.contribution from patients p, dbml.explain_prediction(%s, p) e where p.id = 201"
    assert db.execute(of_row, [f"{mark}-ridge"]).fetchall() == [(row[1], pytest.approx(row[3])) for row in rows[3:6]]  # type: ignore[arg-type]
    flower = db.execute(
        "select output, scale, min(prediction), min(baseline) + sum(contribution) from flowers f, dbml.explain_prediction(%s, to_jsonb(f)) e"
        " where f = (select f from flowers f limit 1) group by 1, 2", [f"{mark}-forest"],
    ).fetchall()  # fmt: skip
    assert flower == [("setosa", "probability", pytest.approx(1.0), pytest.approx(1.0))]
    with pytest.raises(errors.MissingFeature, match='"c"'):
        db.execute("select * from dbml.explain_prediction(%s, 'select a, b from patients')", [f"{mark}-ridge"])
    with pytest.raises(errors.InvalidArgument, match="a row or a JSON object"):
        db.execute("select * from dbml.explain_prediction(%s, 5)", [f"{mark}-ridge"])


def test_a_regressor_is_evaluated_and_the_run_kept(db: Db, mark: str) -> None:
    db.execute("insert into patients (id, a, b, c) values (0, 1, 1, 1)")  # no target
    found = dict(
        db.execute(
            "select metric, value from dbml.evaluate(%s, 'select * from patients', 'target', experiment => %s)",
            [f"{mark}-ridge", f"{mark}-trial"],
        ).fetchall()
    )
    assert found["rmse"] == pytest.approx(root_mean_squared_error(Y[200:], RIDGE.predict(X[200:])))
    assert found["r2"] == pytest.approx(RIDGE.score(X[200:], Y[200:])) and (found["rows"], found["rows_left_out"]) == (242, 1)
    kept = db.execute(
        "select m.value, r.tags ->> 'model', (select count(*) from dbml.artifacts a where a.run_id = r.run_id and a.kind = 'image')"
        " from dbml.runs r join dbml.metrics m using (run_id) where r.experiment = %s and m.name = 'rmse'", [f"{mark}-trial"],
    ).fetchall()  # fmt: skip
    assert kept == [(pytest.approx(found["rmse"]), f"{mark}-ridge:1", 1)]
    for target, said in (("nothing", "must be a column"), (None, "NULL")):
        with pytest.raises(errors.InvalidArgument, match=said):
            db.execute("select * from dbml.evaluate(%s, 'select * from patients', %s)", [f"{mark}-ridge", target])


def test_a_classifier_is_evaluated(db: Db, mark: str) -> None:
    found = db.execute(
        "select metric, value, details from dbml.evaluate(%s, 'select * from flowers', 'kind')", [f"{mark}-forest"]
    ).fetchall()
    single = {metric: value for metric, value, details in found if details is None}
    truth, rows = NAMES[1::2], FLOWERS[1::2]
    assert single["accuracy"] == pytest.approx(FOREST.score(rows, truth))
    proba = np.clip(FOREST.predict_proba(rows), np.finfo(float).eps, 1)
    assert single["log_loss"] == pytest.approx(log_loss(truth, proba), rel=1e-6)
    assert 0.9 < single["roc_auc"] <= 1 and 0.8 < single["f1"] <= 1
    cells = {(d["actual"], d["predicted"]): value for metric, value, d in found if metric == "confusion"}
    assert len(cells) == 9 and sum(cells.values()) == 75 and cells["setosa", "setosa"] == 25
    assert sum(d["rows"] for metric, _, d in found if metric == "calibration") == 3 * 75


def test_intervals_hold_what_they_promise(db: Db, mark: str) -> None:
    held_out = "select a, b, c, target from patients where id < 340"
    (version, half, n, least, most) = db.execute(  # type: ignore[misc]
        "select * from dbml.calibrate(%s, %s, 'target', 0.8)", [f"{mark}-ridge", held_out]
    ).fetchone()
    off = np.sort(np.abs(RIDGE.predict(X[200:340]) - Y[200:340]))
    assert (version, n, least) == (1, 140, 0.8) and half == pytest.approx(off[int(np.ceil(141 * 0.8)) - 1])
    assert most == pytest.approx(0.8 + 1 / 141)
    inside = db.execute(
        "select avg((p.target between i.lower and i.upper)::int)::float8, max(abs((i.lower + i.upper) / 2 - i.prediction))"
        " from patients p, dbml.predict_interval(%s, array[p.a, p.b, p.c], 0.8) i where p.id >= 340", [f"{mark}-ridge"],
    ).fetchone()  # fmt: skip
    assert inside is not None and 0.68 < inside[0] < 0.92 and inside[1] < 1e-9
    with pytest.raises(errors.NothingFound, match="not calibrated for coverage"):
        db.execute("select * from dbml.predict_interval(%s, array[1, 2, 3.0], 0.5)", [f"{mark}-ridge"])
    for coverage, said in ((1.0, "between 0 and 1"), (0.999, "at least 999 rows")):
        with pytest.raises(errors.InvalidArgument, match=said):
            db.execute("select * from dbml.calibrate(%s, %s, 'target', %s)", [f"{mark}-ridge", held_out, coverage])
    with pytest.raises(errors.InvalidArgument, match="of numbers"):
        db.execute("select * from dbml.calibrate(%s, 'select * from flowers', 'kind')", [f"{mark}-forest"])
