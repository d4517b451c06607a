"""Engines: every estimator that compiles answers as its pickle does, and what does not compile says why."""

from __future__ import annotations

import argparse
import json
import pickle
import threading
import time
import uuid
import warnings
from collections.abc import Iterator
from typing import Any

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pandas as pd
import psycopg
import pytest
import skops.io
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.compose import TransformedTargetRegressor, make_column_transformer
from sklearn.datasets import load_diabetes, load_digits, load_iris
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from sklearn.ensemble import (
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingRegressor,
    VotingClassifier,
)
from sklearn.feature_selection import SelectKBest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import (
    ElasticNet,
    Lasso,
    LinearRegression,
    LogisticRegression,
    PoissonRegressor,
    Ridge,
    RidgeClassifier,
    SGDClassifier,
    TweedieRegressor,
)
from sklearn.naive_bayes import BernoulliNB, ComplementNB, GaussianNB
from sklearn.neighbors import KNeighborsRegressor, NearestCentroid
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import (
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    RobustScaler,
    StandardScaler,
)
from sklearn.svm import SVC, LinearSVC, LinearSVR
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from xgboost import XGBClassifier, XGBRegressor, XGBRFRegressor

from dbml import errors
from dbml.engines.python import PythonEngine
from dbml.worker.compiling import compiled_answer

RANDOM = np.random.default_rng(5)
X, Y = load_diabetes(return_X_y=True)
X = X[:200] * 100
Y = Y[:200]
FLOWERS, SPECIES = load_iris(return_X_y=True)
NAMES = np.array(["setosa", "versi'color", "Ωvirginica"], dtype=object)[SPECIES]
IS_FIRST = SPECIES == 0
GAPS = np.where(RANDOM.random(X.shape) < 0.1, np.nan, X)
FLOWER_GAPS = np.where(RANDOM.random(FLOWERS.shape) < 0.1, np.nan, FLOWERS)
EPOCHS = np.c_[1.7e9 + RANDOM.integers(0, 10**8, 200), X[:, 0]]
MIXED = pd.DataFrame(
    {
        "colour": pd.Series(RANDOM.choice(["red", "it's", "blue"], 200), dtype="str"),
        "size": pd.Series(RANDOM.choice(["s", "m", "Ω"], 200), dtype="str").mask(RANDOM.random(200) < 0.1),
        "x": np.where(RANDOM.random(200) < 0.1, np.nan, RANDOM.normal(size=200)),
        "y": RANDOM.normal(size=200) * 1000,
    }
)
MIXED_TARGET = MIXED.y * 2 + (MIXED.colour == "red") * 500


def mixed(last: Any) -> Any:
    return make_pipeline(
        make_column_transformer(
            (make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")), ["size"]),
            (OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), ["colour"]),
            (make_pipeline(SimpleImputer(add_indicator=True), StandardScaler()), ["x", "y"]),
        ),
        last,
    )


def rare(last: Any) -> Any:
    return make_pipeline(
        make_column_transformer(
            (OneHotEncoder(min_frequency=60, handle_unknown="infrequent_if_exist", sparse_output=False), ["size"]),
            (OneHotEncoder(max_categories=2, handle_unknown="ignore", drop="first", sparse_output=False), ["colour"]),
            (OrdinalEncoder(max_categories=2, handle_unknown="use_encoded_value", unknown_value=-1), ["colour"]),
            (SimpleImputer(), ["x", "y"]),
        ),
        last,
    )


CODES = np.c_[RANDOM.integers(0, 9, 200), RANDOM.normal(size=200)].astype(float)
CASES: dict[str, tuple[Any, Any, Any]] = {
    "LinearRegression": (LinearRegression(), X, Y),
    "several outputs": (LinearRegression(), X, np.c_[Y, X[:, 0]]),
    "Ridge": (make_pipeline(StandardScaler(), Ridge()), X, Y),
    "Lasso": (make_pipeline(MinMaxScaler(clip=True), Lasso()), X, Y),
    "ElasticNet": (make_pipeline(RobustScaler(), ElasticNet()), X, Y),
    "LinearSVR": (make_pipeline(MaxAbsScaler(), LinearSVR()), X, Y),
    "Poisson": (make_pipeline(StandardScaler(), PoissonRegressor()), X, Y),
    "Tweedie": (make_pipeline(StandardScaler(), TweedieRegressor(power=1.5)), X, Y),
    "epochs": (make_pipeline(StandardScaler(), Ridge()), EPOCHS, Y),
    "imputed": (make_pipeline(SimpleImputer(add_indicator=True), Ridge()), GAPS, Y),
    "polynomial": (make_pipeline(StandardScaler(), PolynomialFeatures(2), Ridge()), FLOWERS, SPECIES),
    "bins": (make_pipeline(KBinsDiscretizer(4), Ridge()), X, Y),
    "union": (make_pipeline(FeatureUnion([("p", PCA(2)), ("s", StandardScaler())]), Ridge()), X, Y),
    "target": (TransformedTargetRegressor(Ridge(), func=np.log1p, inverse_func=np.expm1), X / 100, Y),
    "tree": (DecisionTreeRegressor(max_depth=5), X, Y),
    "tree of gaps": (DecisionTreeRegressor(max_depth=5), GAPS, Y),
    "extra trees": (ExtraTreesRegressor(10, max_depth=5), X, Y),
    "boosting": (GradientBoostingRegressor(n_estimators=20), X, Y),
    "scaled boosting": (make_pipeline(StandardScaler(), GradientBoostingRegressor(n_estimators=5)), X, Y),
    "histogram of gaps": (HistGradientBoostingRegressor(max_iter=10), GAPS, Y),
    "stack": (StackingRegressor([("a", Ridge()), ("b", DecisionTreeRegressor(max_depth=3))], cv=2), X, Y),
    "logistic, text": (make_pipeline(StandardScaler(), LogisticRegression()), FLOWERS, NAMES),
    "logistic, binary": (LogisticRegression(max_iter=500), FLOWERS, IS_FIRST),
    "RidgeClassifier": (RidgeClassifier(), FLOWERS, NAMES),
    "SGD, log loss": (make_pipeline(StandardScaler(), SGDClassifier(loss="log_loss")), FLOWERS, SPECIES),
    "LinearSVC": (LinearSVC(), FLOWERS, SPECIES),
    "calibrated": (CalibratedClassifierCV(LinearSVC(), cv=2), FLOWERS, NAMES),
    "GaussianNB": (GaussianNB(), FLOWERS, NAMES),
    "BernoulliNB": (BernoulliNB(binarize=2.0), FLOWERS, SPECIES),
    "NearestCentroid": (NearestCentroid(), FLOWERS, NAMES),
    "KMeans": (KMeans(3, n_init=1, random_state=0), FLOWERS, None),
    "isolation": (IsolationForest(n_estimators=10), FLOWERS, None),
    "selected": (make_pipeline(SelectKBest(k=3), Normalizer(), LogisticRegression()), FLOWERS, NAMES),
    "network": (make_pipeline(StandardScaler(), MLPClassifier((6,), max_iter=20)), FLOWERS, NAMES),
    "tree, text": (DecisionTreeClassifier(max_depth=4), FLOWERS, NAMES),
    "forest of gaps": (RandomForestClassifier(8, max_depth=4), FLOWER_GAPS, NAMES),
    "boosted classes": (GradientBoostingClassifier(n_estimators=8), FLOWERS, NAMES),
    "histogram classes": (HistGradientBoostingClassifier(max_iter=6), FLOWER_GAPS, NAMES),
    "votes": (VotingClassifier([("a", GaussianNB()), ("b", DecisionTreeClassifier(max_depth=3))], voting="soft"), FLOWERS, NAMES),
    "mixed": (mixed(Ridge()), MIXED, MIXED_TARGET),
    "rare categories": (rare(Ridge()), MIXED, MIXED_TARGET),
    "complement": (make_pipeline(MinMaxScaler(), ComplementNB()), FLOWERS, NAMES),
    "quadratic": (QuadraticDiscriminantAnalysis(), FLOWERS, NAMES),
    "quadratic, binary": (QuadraticDiscriminantAnalysis(), FLOWERS, IS_FIRST | (RANDOM.random(150) < 0.2)),
    "hard votes": (
        VotingClassifier([("a", GaussianNB()), ("b", DecisionTreeClassifier(max_depth=3)), ("c", RidgeClassifier())]), FLOWERS, NAMES,
    ),
    "isotonic": (CalibratedClassifierCV(LinearSVC(), cv=2, method="isotonic"), FLOWERS, NAMES),
    "isotonic of probabilities": (CalibratedClassifierCV(GaussianNB(), cv=2, method="isotonic"), FLOWERS, IS_FIRST),
    "xgb": (XGBRegressor(n_estimators=30, max_depth=4, n_jobs=1), X, Y),
    "xgb of gaps": (XGBRegressor(n_estimators=10, max_depth=3, n_jobs=1), GAPS, Y),
    "xgb, poisson": (XGBRegressor(n_estimators=8, objective="count:poisson", n_jobs=1), X, Y),
    "xgb forest": (XGBRFRegressor(n_estimators=8, max_depth=4, n_jobs=1), X, Y),
    "xgb, categories": (
        XGBRegressor(n_estimators=8, feature_types=["c", "q"], enable_categorical=True, max_cat_to_onehot=1, n_jobs=1),
        CODES, CODES[:, 0] % 3 * 10 + CODES[:, 1],
    ),
    "xgb, binary": (XGBClassifier(n_estimators=10, max_depth=3, n_jobs=1), FLOWER_GAPS, (SPECIES == 1).astype(int)),
    "xgb, classes": (make_pipeline(StandardScaler(), XGBClassifier(n_estimators=6, max_depth=3, n_jobs=1)), FLOWERS, SPECIES),
    "lgbm": (LGBMRegressor(n_estimators=20, n_jobs=1, verbose=-1), X, Y),
    "lgbm of gaps": (LGBMRegressor(n_estimators=10, objective="poisson", n_jobs=1, verbose=-1), GAPS, Y),
    "lgbm, categories": (
        LGBMRegressor(n_estimators=8, categorical_feature=[0], n_jobs=1, verbose=-1), CODES, CODES[:, 0] % 3 * 10 + CODES[:, 1],
    ),
    "lgbm, binary": (LGBMClassifier(n_estimators=8, n_jobs=1, verbose=-1), FLOWER_GAPS, IS_FIRST),
    "lgbm, text": (LGBMClassifier(n_estimators=6, n_jobs=1, verbose=-1), FLOWER_GAPS, NAMES),
    "mixed forest": (mixed(RandomForestClassifier(5, max_depth=4)), MIXED, np.where(MIXED_TARGET > 0, "up", "down")),
}  # fmt: skip


# Models that answer by a curve in float32.
IN_SINGLE = ("xgb, poisson", "xgb, binary", "xgb, classes")


def fitted(model: Any, data: Any, target: Any) -> Any:
    model = clone(model).set_params(
        **{key: 7 for key in model.get_params() if key.endswith("random_state") and model.get_params()[key] is None}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(data) if target is None else model.fit(data, target)


def register(db: psycopg.Connection[Any], model: Any) -> str:
    name = "e-" + uuid.uuid4().hex
    db.execute("SELECT dbml.register_model(%s, %s)", (name, model if isinstance(model, bytes) else pickle.dumps(model)))
    return name


def certificate(db: psycopg.Connection[Any], name: str) -> tuple[Any, ...]:
    found = db.execute(
        "SELECT status, reason, rows_compared, max_relative_error, tolerance, thresholds_tried, thresholds"
        " FROM dbml.certificates WHERE model = %s",
        (name,),
    ).fetchone()
    assert found is not None
    return found


def query_of(data: Any) -> str:
    """Write rows as a query, missing values as NULL."""
    frame = data if isinstance(data, pd.DataFrame) else pd.DataFrame(data, columns=[f"c{i}" for i in range(data.shape[1])])
    rows = json.dumps([{k: None if pd.isna(v) else v for k, v in row.items()} for row in frame.to_dict("records")])
    types = ", ".join(
        f'"{c}" {"text" if frame[c].dtype.kind == "O" or str(frame[c].dtype) == "str" else "float8"}' for c in frame
    )
    return f"SELECT * FROM jsonb_to_recordset('{rows.replace(chr(39), chr(39) * 2)}') AS t({types})"


def check(db: psycopg.Connection[Any], name: str, model: Any, data: Any) -> None:
    """Compare engine sql with the pickle on rows that its certificate has not seen."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = model.predict(data)
        proba = model.predict_proba(data) if hasattr(model, "predict_proba") else None
    scored = db.execute(
        "SELECT r -> 'prediction' FROM dbml.predict_json(%s, %s, engine => 'sql') r", (name, query_of(data))
    ).fetchall()
    got = [value for (value,) in scored]
    if np.asarray(wanted).dtype.kind == "f":
        np.testing.assert_allclose(np.array(got, dtype=float), wanted, rtol=1e-9, atol=1e-9 * float(np.median(np.abs(wanted))))
    else:
        assert got == np.asarray(wanted).tolist()
    if isinstance(data, pd.DataFrame):
        return
    # NearestCentroid has probabilities that have no translator.
    if proba is not None and not isinstance(model, NearestCentroid):
        for row, answer in list(zip(data, proba, strict=True))[:10]:
            features = [None if np.isnan(v) else float(v) for v in row]
            (found,) = db.execute("SELECT dbml.predict_proba(%s, %s::float8[], 'sql')", (name, features)).fetchone()  # type: ignore[misc]
            np.testing.assert_allclose(found, answer, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("case", list(CASES))
def test_every_estimator_answers_as_its_pickle_does(db: psycopg.Connection[Any], case: str) -> None:
    model, data, target = CASES[case]
    model = fitted(model, data, target)
    db.execute("BEGIN")
    name = register(db, model)
    status, reason, rows, error, tolerance, tried, thresholds = certificate(db, name)
    assert (status, reason) == ("certified", None)
    assert rows > 900 and (error or 0) <= tolerance <= (2.0**-22 if case in IN_SINGLE else 1e-9) and tried == thresholds
    unseen = (
        data.iloc[100:160].copy()
        if isinstance(data, pd.DataFrame)
        else data[100:160] + RANDOM.normal(size=data[100:160].shape) / 7
    )
    if isinstance(data, pd.DataFrame):
        unseen.iloc[:5, 0] = "never seen"
    check(db, name, model, unseen)
    db.execute("ROLLBACK")


@hypothesis.given(st.data())
@hypothesis.settings(
    max_examples=40,
    derandomize=True,
    database=None,
    phases=[hypothesis.Phase.generate],
    suppress_health_check=list(hypothesis.HealthCheck),
)
def test_random_pipelines_answer_as_their_pickles_do(db: psycopg.Connection[Any], data: st.DataObject) -> None:
    """Of all kinds of steps: numbers with gaps, or text and numbers with gaps; to a number, or to labels of any type."""
    text, numeric = data.draw(st.booleans()), data.draw(st.booleans())
    if text:
        encoder = data.draw(st.sampled_from([OneHotEncoder(handle_unknown="ignore", sparse_output=False),
            OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2),
            OneHotEncoder(max_categories=2, handle_unknown="infrequent_if_exist", sparse_output=False)]))  # fmt: skip
        first: Any = make_column_transformer(
            (encoder, ["colour", "size"]), (SimpleImputer(add_indicator=data.draw(st.booleans())), ["x", "y"])
        )
        rows, target = MIXED, (MIXED_TARGET if numeric else data.draw(st.sampled_from(
            [MIXED_TARGET.to_numpy() > 0, np.digitize(MIXED_TARGET, [-500, 500]), np.array(["low", "it's", "Ω"])[np.digitize(MIXED_TARGET, [-500, 500])]])))  # fmt: skip
    else:
        first = SimpleImputer(strategy=data.draw(st.sampled_from(["mean", "median"])), add_indicator=data.draw(st.booleans()))
        rows, target = (GAPS, Y) if numeric else (FLOWER_GAPS, data.draw(st.sampled_from([SPECIES, NAMES, IS_FIRST])))
    steps = [
        first,
        *data.draw(st.lists(st.sampled_from([StandardScaler(), RobustScaler(), MinMaxScaler(), MaxAbsScaler()]), max_size=2)),
        *data.draw(st.lists(st.sampled_from([PCA(3), SelectKBest(k=3), PolynomialFeatures(2), KBinsDiscretizer(3, encode="onehot-dense")]), max_size=1)),
        data.draw(st.sampled_from(
            [Ridge(), Lasso(), DecisionTreeRegressor(max_depth=4), RandomForestRegressor(4, max_depth=3), LinearSVR(),
             GradientBoostingRegressor(n_estimators=4), HistGradientBoostingRegressor(max_iter=3), PoissonRegressor(),
             XGBRegressor(n_estimators=4, max_depth=3, n_jobs=1), LGBMRegressor(n_estimators=4, n_jobs=1, verbose=-1)]
            if numeric else
            [LogisticRegression(), RandomForestClassifier(4, max_depth=3), GradientBoostingClassifier(n_estimators=3),
             HistGradientBoostingClassifier(max_iter=3), RidgeClassifier(), GaussianNB(), DecisionTreeClassifier(max_depth=3),
             CalibratedClassifierCV(RidgeClassifier(), cv=2), LGBMClassifier(n_estimators=3, n_jobs=1, verbose=-1),
             VotingClassifier([("a", GaussianNB()), ("b", DecisionTreeClassifier(max_depth=3))], voting="soft")])),
    ]  # fmt: skip
    if numeric and type(steps[-1]).__name__ == "PoissonRegressor":
        target = np.abs(np.asarray(target)) / 100
    model = fitted(make_pipeline(*steps), rows, target)
    db.execute("BEGIN")
    try:
        name = register(db, model)
        assert certificate(db, name)[:2] == ("certified", None)
        check(db, name, model, rows[:20])
    finally:
        db.execute("ROLLBACK")


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


def functions(db: psycopg.Connection[Any], name: str) -> list[str]:
    return [
        row[0] for row in db.execute(
            "SELECT f.value FROM dbml._certificates c JOIN dbml._models m USING (model_id), jsonb_each(c.functions) e,"
            " jsonb_each_text(e.value) f WHERE m.name = %s ORDER BY 1", (name,))
    ]  # fmt: skip


def test_functions_come_and_go_with_the_version(db: psycopg.Connection[Any], ridge: str) -> None:
    there = "SELECT count(*) FROM pg_proc WHERE pronamespace = 'dbml_models'::regnamespace AND proname = ANY (%s)"
    db.execute("BEGIN")
    name = register(db, Ridge().fit([[0.0], [1.0]], [0.0, 2.0]))
    made = functions(db, name)
    assert len(made) == 2 and db.execute(there, (made,)).fetchone() == (2,)
    assert db.execute("SELECT dbml.predict(%s, array[1.0]::float8[], 'sql')", (name,)).fetchone() is not None
    db.execute("ROLLBACK")
    assert db.execute(there, (made,)).fetchone() == (0,)
    db.execute("BEGIN")
    made = functions(db, ridge)
    db.execute("SELECT dbml.delete_model(%s)", (ridge,))
    assert db.execute(there, (made,)).fetchone() == (0,)
    db.execute("ROLLBACK")
    assert db.execute(there, (made,)).fetchone() == (2,)


def test_one_row_needs_no_worker_and_no_write(installed: str, db: psycopg.Connection[Any], ridge: str) -> None:
    db.execute("BEGIN READ ONLY")
    assert db.execute("SELECT dbml.predict(%s, array[1, 2]::float8[], 'sql')", (ridge,)).fetchone() is not None
    db.execute("ROLLBACK")
    with psycopg.connect(installed, autocommit=True) as without:  # no worker has registered
        name = register(without, Ridge().fit([[0.0], [1.0]], [0.0, 2.0]))
        assert certificate(without, name)[:2] == ("refused", "no worker has registered with this database yet")


def test_a_function_is_for_those_who_may_predict_with_its_model(db: psycopg.Connection[Any], ridge: str) -> None:
    role = "scorer_" + uuid.uuid4().hex[:8]
    db.execute(f"CREATE ROLE {role} NOLOGIN")  # type: ignore[arg-type]
    call = f"SELECT dbml_models.{functions(db, ridge)[0]}(array[1, 2]::float8[])"
    query = "SELECT p FROM dbml.predict(%s, 'SELECT 1::float8 AS a, 2::float8 AS b', 'sql') AS t(a float8, b float8, p float8)"
    try:
        db.execute(f"SET ROLE {role}")  # type: ignore[arg-type]
        for statement in (call, f"SELECT dbml.predict('{ridge}', array[1, 2]::float8[])"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                db.execute(statement)  # type: ignore[arg-type]
        db.execute("RESET ROLE")
        db.execute("SELECT dbml.grant_model(%s, %s, 'predict')", (ridge, role))
        db.execute(f"SET ROLE {role}")  # type: ignore[arg-type]
        assert db.execute(call).fetchone() == db.execute(query, (ridge,)).fetchone()  # type: ignore[arg-type]
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            db.execute("SELECT dbml.export_sql(%s)", (ridge,))
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            db.execute("SELECT dbml.compile_model(%s)", (ridge,))
        db.execute("RESET ROLE")
        db.execute("SELECT dbml.revoke_model(%s, %s)", (ridge, role))
        db.execute(f"SET ROLE {role}")  # type: ignore[arg-type]
        for statement in (call, f"SELECT dbml.predict('{ridge}', array[1, 2]::float8[])"):
            with pytest.raises((psycopg.errors.InsufficientPrivilege, errors.ModelNotFound, errors.WorkspaceNotFound)):
                db.execute(statement)  # type: ignore[arg-type]
    finally:
        db.execute("RESET ROLE")
        db.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")  # type: ignore[arg-type]


def test_the_public_has_nothing_of_models(db: psycopg.Connection[Any], ridge: str) -> None:
    assert db.execute(
        "SELECT count(*) FROM pg_proc p, aclexplode(coalesce(proacl, acldefault('f', proowner))) a"
        " WHERE pronamespace = 'dbml_models'::regnamespace AND a.grantee = 0"
    ).fetchone() == (0,)


def test_argument_and_setting_choose_the_engine(db: psycopg.Connection[Any], ridge: str) -> None:
    explain = "SELECT engine FROM dbml.explain_predict(%s) WHERE used_for = '{rows,queries}'"
    assert db.execute(explain, (ridge,)).fetchone() == ("sql",)
    db.execute("SELECT dbml.set_model_engine(%s, 'python')", (ridge,))
    assert db.execute(explain, (ridge,)).fetchone() == ("python",)
    db.execute("SELECT dbml.set_model_engine(%s, NULL)", (ridge,))
    assert db.execute(explain, (ridge,)).fetchone() == ("sql",)
    for statement in ("SELECT dbml.predict(%s, array[1, 2]::float8[], 'fast')", "SELECT dbml.set_model_engine(%s, 'fast')"):
        with pytest.raises(errors.InvalidArgument, match="engine must be"):
            db.execute(statement, (ridge,))
    with pytest.raises(errors.NotCompiled, match="never converted"):
        db.execute("SELECT dbml.predict(%s, array[1, 2]::float8[], 'onnx')", (ridge,))
    with pytest.raises(errors.NotCompiled, match="never converted"):
        db.execute("SELECT dbml.set_model_engine(%s, 'onnx')", (ridge,))


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


def test_a_certificate_of_another_version_counts_for_nothing(db: psycopg.Connection[Any], ridge: str) -> None:
    explain = "SELECT why FROM dbml.explain_predict(%s) WHERE engine = 'sql'"
    own = "FROM dbml._models m WHERE m.model_id = c.model_id AND m.name = %s"
    db.execute("BEGIN")
    db.execute(f"UPDATE dbml._certificates c SET server_version = 140000 {own}", (ridge,))  # type: ignore[arg-type]
    assert "certified on server version 140000" in db.execute(explain, (ridge,)).fetchone()[0]  # type: ignore[index]
    db.execute("ROLLBACK")
    db.execute("BEGIN")
    db.execute("""UPDATE dbml._worker SET packages = '{"scikit-learn": "0.1"}'""")
    assert "the worker now has" in db.execute(explain, (ridge,)).fetchone()[0]  # type: ignore[index]
    with pytest.raises(errors.NotCompiled):
        db.execute("SELECT dbml.predict(%s, array[1, 2]::float8[], 'sql')", (ridge,))
    db.execute("ROLLBACK")


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


@pytest.mark.parametrize("engine", ["sql", "python", "onnx"])
def test_no_statement_mixes_versions(db: psycopg.Connection[Any], connect: Any, engine: str) -> None:
    """The alias moves while the statement is at its middle row, held there by a lock; the next one has the new version."""
    name, key = "upgraded-" + uuid.uuid4().hex, uuid.uuid4().int % 2**31
    frame = pd.DataFrame({"a": [0.0, 1.0]})
    calls = (
        f"SELECT array_agg(dbml.predict('{name}@live', array[a]::float8[], '{engine}')) FROM ({{}}) q",
        f"SELECT array_agg((r ->> 'prediction')::float8) FROM dbml.predict_json('{name}@live', $${{}}$$, '{engine}') r",
        f"SELECT array_agg(p) FROM dbml.predict('{name}@live', $${{}}$$, '{engine}') AS t(a float8, free boolean, p float8)",
    )
    query = f"SELECT g::float8 AS a, CASE WHEN g = 700 THEN pg_advisory_lock_shared({key}) IS NULL END AS free FROM generate_series(1, 1400) g"
    try:
        for version in (1, 2):
            db.execute("SELECT dbml.register_model(%s, %s)", (name, pickle.dumps(LinearRegression().fit(frame, [version] * 2))))
            if engine == "onnx":
                db.execute("SELECT dbml.compile_model(%s, engine => 'onnx')", (f"{name}:{version}",))
        for call in calls:
            db.execute("SELECT dbml.set_model_alias(%s, 'live'), pg_advisory_lock(%s)", (name + ":1", key))
            found: list[Any] = []

            def ask(found: list[Any] = found, call: str = call) -> None:
                with connect() as other:
                    found.append(other.execute(call.format(query)).fetchone()[0])

            thread = threading.Thread(target=ask)
            thread.start()
            waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid::bigint = %s"
            while thread.is_alive() and db.execute(waits, (key,)).fetchone() == (0,):
                time.sleep(0.01)
            assert thread.is_alive()
            db.execute("SELECT dbml.set_model_alias(%s, 'live'), pg_advisory_unlock(%s)", (name + ":2", key))
            thread.join()
            assert [round(value) for value in found[0]] == [1] * 1400
            (after,) = db.execute(f"SELECT dbml.predict('{name}@live', array[5]::float8[], '{engine}')").fetchone()  # type: ignore[arg-type,misc]
            assert round(after) == 2
    finally:
        db.execute("SELECT pg_advisory_unlock_all(), dbml.delete_model(%s), dbml.delete_model(%s)", (name + ":1", name + ":2"))


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
        "raise notice 'x'", "execute 'x'", "1e5", "'x", "@ c1",
    ],
)  # fmt: skip
def test_text_that_is_not_arithmetic_makes_no_function(db: psycopg.Connection[Any], body: str) -> None:
    assert db.execute("SELECT dbml_channel._is_arithmetic(%s)", (body,)).fetchone() == (False,)
    db.execute("BEGIN")
    with pytest.raises(errors.NotCompiled):
        db.execute("SELECT dbml_channel._make_function('m', 'c1 float8', 'float8', 'sql', %s)", (body,))
    db.execute("ROLLBACK")


def test_an_exported_model_answers_without_dbml(db: psycopg.Connection[Any], empty: str) -> None:
    model = fitted(*CASES["logistic, text"])
    name = register(db, model)
    (text,) = db.execute("SELECT dbml.export_sql(%s, 'Which flower')", (name,)).fetchone()  # type: ignore[misc]
    with psycopg.connect(empty) as plain:
        plain.execute(text)
        assert plain.execute("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'dbml%'").fetchone() == (0,)
        for row in FLOWERS[::30]:
            found = plain.execute('SELECT "Which flower"(%s, %s, %s, %s)', row.tolist()).fetchone()
            assert found == (model.predict([row])[0],)
            (proba,) = plain.execute('SELECT "Which flower_proba_of_array"(%s::float8[])', (row.tolist(),)).fetchone()  # type: ignore[misc]
            np.testing.assert_allclose(proba, model.predict_proba([row])[0], rtol=1e-9)


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
