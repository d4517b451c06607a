"""What the tests of engines share: data, estimators by what they do, and a model registered and compared with its pickle."""

from __future__ import annotations

import json
import pickle
import uuid
import warnings
from typing import Any

import numpy as np
import pandas as pd
import psycopg
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.compose import TransformedTargetRegressor, make_column_transformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine
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
from sklearn.neighbors import NearestCentroid
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
from sklearn.svm import LinearSVC, LinearSVR
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from xgboost import XGBClassifier, XGBRegressor, XGBRFRegressor

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
WINES, CULTIVARS = load_wine(return_X_y=True)
CELLS, IS_BENIGN = load_breast_cancer(return_X_y=True)
CELLS, IS_BENIGN = CELLS[:250, :8], IS_BENIGN[:250]
DIGITS, NUMBERS = load_digits(return_X_y=True)


def with_gaps(rows: Any) -> Any:
    """Leave out a tenth of the values, always the same ones."""
    return np.where(np.random.default_rng(3).random(rows.shape) < 0.1, np.nan, rows)


def houses(n: int) -> tuple[Any, Any]:
    """A table like California's: incomes, ages with gaps, rooms, bedrooms, people, occupancy, places; and values."""
    random = np.random.default_rng(11)
    age = np.where(random.random(n) < 0.05, np.nan, random.integers(1, 53, n))
    rows = np.c_[
        np.exp(random.random(n) * 2.5), age, 1 + random.random(n) * 9, 0.7 + random.random(n), random.integers(3, 5000, n),
        1 + random.random(n) * 5, 32 + random.random(n) * 10, -124 + random.random(n) * 10,
    ]  # fmt: skip
    return rows, rows[:, 0] * 0.4 + np.cos(rows[:, 6]) - rows[:, 5] * 0.1


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
STEPS: dict[str, tuple[Any, Any, Any]] = {
    "LinearRegression": (LinearRegression(), X, Y),
    "several outputs": (LinearRegression(), X, np.c_[Y, X[:, 0]]),
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
    "extra trees": (ExtraTreesRegressor(10, max_depth=5), X, Y),
    "scaled boosting": (make_pipeline(StandardScaler(), GradientBoostingRegressor(n_estimators=5)), X, Y),
    "stack": (StackingRegressor([("a", Ridge()), ("b", DecisionTreeRegressor(max_depth=3))], cv=2), X, Y),
    "logistic, binary": (LogisticRegression(max_iter=500), FLOWERS, IS_FIRST),
    "RidgeClassifier": (RidgeClassifier(), FLOWERS, NAMES),
    "SGD, log loss": (make_pipeline(StandardScaler(), SGDClassifier(loss="log_loss")), FLOWERS, SPECIES),
    "LinearSVC": (LinearSVC(), FLOWERS, SPECIES),
    "calibrated": (CalibratedClassifierCV(LinearSVC(), cv=2), FLOWERS, NAMES),
    "BernoulliNB": (BernoulliNB(binarize=2.0), FLOWERS, SPECIES),
    "NearestCentroid": (NearestCentroid(), FLOWERS, NAMES),
    "KMeans": (KMeans(3, n_init=1, random_state=0), FLOWERS, None),
    "isolation": (IsolationForest(n_estimators=10), FLOWERS, None),
    "selected": (make_pipeline(SelectKBest(k=3), Normalizer(), LogisticRegression()), FLOWERS, NAMES),
    "network": (make_pipeline(StandardScaler(), MLPClassifier((6,), max_iter=20)), FLOWERS, NAMES),
    "votes": (VotingClassifier([("a", GaussianNB()), ("b", DecisionTreeClassifier(max_depth=3))], voting="soft"), FLOWERS, NAMES),
    "rare categories": (rare(Ridge()), MIXED, MIXED_TARGET),
    "complement": (make_pipeline(MinMaxScaler(), ComplementNB()), FLOWERS, NAMES),
    "quadratic": (QuadraticDiscriminantAnalysis(), FLOWERS, NAMES),
    "quadratic, binary": (QuadraticDiscriminantAnalysis(), FLOWERS, IS_FIRST | (RANDOM.random(150) < 0.2)),
    "hard votes": (
        VotingClassifier([("a", GaussianNB()), ("b", DecisionTreeClassifier(max_depth=3)), ("c", RidgeClassifier())]), FLOWERS, NAMES,
    ),
    "isotonic": (CalibratedClassifierCV(LinearSVC(), cv=2, method="isotonic"), FLOWERS, NAMES),
    "isotonic of probabilities": (CalibratedClassifierCV(GaussianNB(), cv=2, method="isotonic"), FLOWERS, IS_FIRST),
    "xgb, poisson": (XGBRegressor(n_estimators=8, objective="count:poisson", n_jobs=1), X, Y),
    "xgb forest": (XGBRFRegressor(n_estimators=8, max_depth=4, n_jobs=1), X, Y),
    "xgb, categories": (
        XGBRegressor(n_estimators=8, feature_types=["c", "q"], enable_categorical=True, max_cat_to_onehot=1, n_jobs=1),
        CODES, CODES[:, 0] % 3 * 10 + CODES[:, 1],
    ),
    "lgbm of gaps": (LGBMRegressor(n_estimators=10, objective="poisson", n_jobs=1, verbose=-1), GAPS, Y),
    "lgbm, categories": (
        LGBMRegressor(n_estimators=8, categorical_feature=[0], n_jobs=1, verbose=-1), CODES, CODES[:, 0] % 3 * 10 + CODES[:, 1],
    ),
    "digits": (RandomForestClassifier(6, max_depth=6), DIGITS[:400], NUMBERS[:400]),
    "houses": (HistGradientBoostingRegressor(max_iter=8, max_leaf_nodes=8), *houses(400)),
}  # fmt: skip
FAMILIES: dict[str, tuple[Any, Any]] = {  # a regressor and a classifier of each, small
    "linear": (Ridge(), LogisticRegression(max_iter=300)),
    "bayes": (None, GaussianNB()),
    "tree": (DecisionTreeRegressor(max_depth=5), DecisionTreeClassifier(max_depth=4)),
    "forest": (RandomForestRegressor(6, max_depth=4), RandomForestClassifier(5, max_depth=4)),
    "boosting": (GradientBoostingRegressor(n_estimators=10), GradientBoostingClassifier(n_estimators=5)),
    "histogram": (HistGradientBoostingRegressor(max_iter=6), HistGradientBoostingClassifier(max_iter=4)),
    "xgboost": (XGBRegressor(n_estimators=8, max_depth=4, n_jobs=1), XGBClassifier(n_estimators=5, max_depth=3, n_jobs=1)),
    "lightgbm": (LGBMRegressor(n_estimators=8, n_jobs=1, verbose=-1), LGBMClassifier(n_estimators=5, n_jobs=1, verbose=-1)),
}
TAKES_GAPS = ("tree", "forest", "histogram", "xgboost", "lightgbm")
NUMBERS_OF: dict[str, tuple[Any, Any]] = {
    "regression": (X, Y), "binary": (CELLS, IS_BENIGN == 1), "multiclass": (WINES, np.array(["a", "b's", "Ω"], dtype=object)[CULTIVARS]),
}  # fmt: skip
OF_MIXED: dict[str, Any] = {
    "regression": MIXED_TARGET, "binary": MIXED_TARGET.to_numpy() > 0,
    "multiclass": np.array(["low", "it's", "Ω"], dtype=object)[np.digitize(MIXED_TARGET, [-500, 500])],
}  # fmt: skip


def of_family(family: str, task: str, kind: str) -> tuple[Any, Any, Any]:
    """Return an estimator, rows and a target; kind: numbers (with gaps) or categorical."""
    last = clone(FAMILIES[family][0 if task == "regression" else 1])
    if kind == "categorical":
        target = OF_MIXED[task]
        return mixed(last), MIXED, codes_of(target) if family == "xgboost" and task != "regression" else target
    rows, target = NUMBERS_OF[task]
    if family == "xgboost" and task != "regression":
        target = codes_of(target)
    if family not in TAKES_GAPS:
        last = make_pipeline(SimpleImputer(add_indicator=True), StandardScaler(), last)
    return last, with_gaps(rows), target


def codes_of(labels: Any) -> Any:
    """XGBoost takes the labels 0, 1 and so on alone."""
    return np.unique(np.asarray(labels), return_inverse=True)[1]


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


def functions(db: psycopg.Connection[Any], name: str) -> list[str]:
    return [
        row[0] for row in db.execute(
            "SELECT f.value FROM dbml._certificates c JOIN dbml._models m USING (model_id), jsonb_each(c.functions) e,"
            " jsonb_each_text(e.value) f WHERE m.name = %s ORDER BY 1", (name,))
    ]  # fmt: skip


def query_of(data: Any) -> str:
    """Write rows as a query, missing values as NULL."""
    frame = data if isinstance(data, pd.DataFrame) else pd.DataFrame(data, columns=[f"c{i}" for i in range(data.shape[1])])
    rows = json.dumps([{k: None if pd.isna(v) else v for k, v in row.items()} for row in frame.to_dict("records")])
    types = ", ".join(
        f'"{c}" {"text" if frame[c].dtype.kind == "O" or str(frame[c].dtype) == "str" else "float8"}' for c in frame
    )
    return f"SELECT * FROM jsonb_to_recordset('{rows.replace(chr(39), chr(39) * 2)}') AS t({types})"


def check(db: psycopg.Connection[Any], name: str, model: Any, data: Any, engine: str = "sql", rows: int = 3) -> None:
    """Compare an engine with the pickle on rows that its certificate has not seen; probabilities of so many of them alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = model.predict(data)
        proba = model.predict_proba(data) if hasattr(model, "predict_proba") else None
    scored = db.execute(
        "SELECT r -> 'prediction' FROM dbml.predict_json(%s, %s, %s) r", (name, query_of(data), engine)
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
        for row, answer in list(zip(data, proba, strict=True))[:rows]:
            features = [None if np.isnan(v) else float(v) for v in row]
            (found,) = db.execute("SELECT dbml.predict_proba(%s, %s::float8[], %s)", (name, features, engine)).fetchone()  # type: ignore[misc]
            np.testing.assert_allclose(found, answer, rtol=1e-9, atol=1e-12)
