"""Contributions of columns: against brute force over all sets of columns, and they sum up to the model's own answer."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_diabetes, load_iris
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, PoissonRegressor, Ridge
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, PolynomialFeatures, StandardScaler
from sklearn.tree import DecisionTreeRegressor
from xgboost import DMatrix, XGBClassifier, XGBRegressor, XGBRFRegressor

from dbml import errors
from dbml.engines.explain import explain_rows, trees

X, Y = load_diabetes(return_X_y=True, as_frame=True)
X = X.iloc[:150, :5] * 100
Y = Y[:150]
FLOWERS, SPECIES = load_iris(return_X_y=True, as_frame=True)
NAMES = SPECIES.map({0: "setosa", 1: "versicolor", 2: "virginica"})
MIXED = pd.DataFrame({"city": ["a", "b", "c"] * 50, "x": X["age"].to_numpy(), "y": X["bmi"].to_numpy()})
GAPS = MIXED.assign(x=MIXED.x.where(np.arange(150) % 7 > 0))


def total(told: pd.DataFrame) -> np.ndarray:
    grouped = told.groupby("row_number")
    return (grouped.contribution.sum() + grouped.baseline.first()).to_numpy()


REGRESSORS: dict[str, tuple[Any, pd.DataFrame, Any]] = {
    "ridge": (make_pipeline(StandardScaler(), Ridge()), X, lambda m, x: m.predict(x)),
    "mixed": (
        make_pipeline(
            make_column_transformer(
                (OneHotEncoder(drop="first"), ["city"]), (make_pipeline(SimpleImputer(add_indicator=True), StandardScaler()), ["x"]),
                remainder="passthrough",
            ), Ridge(),
        ), GAPS, lambda m, x: m.predict(x)),
    "poisson": (PoissonRegressor(), X, lambda m, x: np.log(m.predict(x))),
    "tree": (DecisionTreeRegressor(max_depth=5, random_state=0), X, lambda m, x: m.predict(x)),
    "forest of mixed": (
        make_pipeline(make_column_transformer((OneHotEncoder(), ["city"]), remainder="passthrough"),
                      RandomForestRegressor(7, max_depth=5, random_state=0)), MIXED, lambda m, x: m.predict(x)),
    "boosting": (GradientBoostingRegressor(n_estimators=15, random_state=0), X, lambda m, x: m.predict(x)),
    "histogram": (HistGradientBoostingRegressor(max_iter=12), X.where(X > -4), lambda m, x: m.predict(x)),
}  # fmt: skip
CLASSIFIERS: dict[str, tuple[Any, Any]] = {
    "logistic": (LogisticRegression(max_iter=1000), lambda m, x: m.decision_function(x)),
    "trees": (ExtraTreesClassifier(7, max_depth=4, random_state=0), lambda m, x: m.predict_proba(x)),
    "boosting": (GradientBoostingClassifier(n_estimators=5, random_state=0), lambda m, x: m.decision_function(x)),
    "histogram": (HistGradientBoostingClassifier(max_iter=5), lambda m, x: m.decision_function(x)),
}


@pytest.mark.parametrize("name", REGRESSORS)
def test_what_columns_contribute_adds_up_to_the_prediction(name: str) -> None:
    model, rows, answer = REGRESSORS[name]
    model.fit(rows, Y)
    told = explain_rows(model, rows.head(20).assign(other="ignored"))
    np.testing.assert_allclose(total(told), answer(model, rows.head(20)), rtol=1e-9)
    np.testing.assert_allclose(told.groupby("row_number").prediction.first(), answer(model, rows.head(20)), rtol=1e-9)
    assert set(told.feature) == set(rows.columns) and told.method.iloc[0] in ("linear", "trees")


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_of_a_classifier_the_class_that_it_predicts_is_explained(name: str, binary: bool) -> None:
    model, answer = CLASSIFIERS[name]
    some = FLOWERS.iloc[50:] if binary else FLOWERS
    model.fit(some, NAMES.loc[some.index])
    rows = some.iloc[::9]
    told = explain_rows(model, rows)
    labels = model.predict(rows)
    assert told.groupby("row_number").output.first().tolist() == labels.tolist()
    scores = answer(model, rows)
    if scores.ndim == 1:
        wanted = np.where(labels == model.classes_[1], scores, -scores)
    else:
        wanted = scores[np.arange(len(rows)), np.searchsorted(model.classes_, labels)]
    np.testing.assert_allclose(total(told), wanted, rtol=1e-9, atol=1e-12)


def worth(tree: trees.Tree, row: np.ndarray, known: set[int], players: list[int], node: int = 0) -> float:
    """Return what a set of columns is worth, as its definition has it."""
    if tree.left[node] < 0:
        return float(tree.value[node, 0])
    left, right = int(tree.left[node]), int(tree.right[node])
    if players[tree.feature[node]] in known:
        goes_left = np.float32(row[tree.feature[node]]) <= tree.threshold[node]
        return worth(tree, row, known, players, left if goes_left else right)
    parts = (
        tree.cover[left] * worth(tree, row, known, players, left),
        tree.cover[right] * worth(tree, row, known, players, right),
    )
    return float(sum(parts) / tree.cover[node])


@pytest.mark.parametrize("players", [[0, 1, 2, 3, 4], [0, 1, 1, 2, 0]], ids=["each", "groups"])
def test_trees_have_the_shapley_values_of_brute_force(players: list[int]) -> None:
    model = DecisionTreeRegressor(max_depth=6, random_state=1).fit(X.to_numpy(), Y, sample_weight=1 + np.arange(len(Y)) % 3)
    (tree,), _, _ = trees._forest([model])
    explain = trees.explainer(model)
    assert explain is not None
    width = max(players) + 1
    contributions, baseline, _, _ = explain(X.to_numpy()[:6], players, width)
    for i, row in enumerate(X.to_numpy()[:6]):
        assert worth(tree, row, set(), players) == pytest.approx(baseline[0], rel=1e-12)
        for player in range(width):
            others = [p for p in range(width) if p != player]
            value = 0.0
            for size in range(width):
                weight = math.factorial(size) * math.factorial(width - size - 1) / math.factorial(width)
                for subset in itertools.combinations(others, size):
                    gain = worth(tree, row, {*subset, player}, players) - worth(tree, row, set(subset), players)
                    value += weight * gain
            assert contributions[i, player, 0] == pytest.approx(value, rel=1e-9, abs=1e-9)


LIGHT: dict[str, Any] = {"n_estimators": 12, "n_jobs": 1, "verbose": -1}
BOOSTERS: dict[str, tuple[Any, pd.DataFrame, str]] = {
    "xgboost": (XGBRegressor(n_estimators=12, max_depth=4, n_jobs=1), X.where(X > -4), "prediction"),
    "xgboost, poisson": (XGBRegressor(n_estimators=12, objective="count:poisson", n_jobs=1), X, "log"),
    "xgboost, forest": (XGBRFRegressor(n_estimators=12, n_jobs=1), X, "prediction"),
    "xgboost, one-hot": (
        make_pipeline(make_column_transformer((OneHotEncoder(), ["city"]), remainder="passthrough"), XGBRegressor(n_estimators=8, n_jobs=1)),
        GAPS, "prediction"),
    "lightgbm": (LGBMRegressor(**LIGHT), X.where(X > -4), "prediction"),
    "lightgbm, gamma": (LGBMRegressor(objective="gamma", **LIGHT), X, "log"),
    "lightgbm, forest": (LGBMRegressor(boosting_type="rf", bagging_freq=1, bagging_fraction=0.5, **LIGHT), X, "prediction"),
}  # fmt: skip


@pytest.mark.parametrize("name", BOOSTERS)
def test_boosters_of_others_contribute_what_adds_up_to_their_prediction(name: str) -> None:
    model, rows, scale = BOOSTERS[name]
    model = clone(model).fit(rows, Y)
    told = explain_rows(model, rows.head(30))
    wanted = np.asarray(model.predict(rows.head(30)), float)
    np.testing.assert_allclose(total(told), np.log(wanted) if scale == "log" else wanted, rtol=1e-5 if "xgb" in name else 1e-9)
    assert (told.scale.unique().tolist(), told.method.unique().tolist()) == ([scale], ["trees"])
    assert set(told.feature) == set(rows.columns) and (told.contribution != 0).sum() > len(rows.columns)


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("package", ["xgboost", "lightgbm"])
def test_boosters_of_others_explain_the_margin_of_the_class_that_they_predict(package: str, binary: bool) -> None:
    rows, labels = (FLOWERS.iloc[50:], SPECIES.iloc[50:] - 1) if binary else (FLOWERS, SPECIES)
    rows = rows.set_axis(list("abcd"), axis=1)
    if package == "xgboost":
        model = XGBClassifier(n_estimators=6, max_depth=3, n_jobs=1).fit(rows, labels)
        margin = model.get_booster().predict(DMatrix(rows), output_margin=True)
    else:
        labels = NAMES.loc[rows.index]
        model = LGBMClassifier(**LIGHT).fit(rows, labels)
        margin = model.predict(rows, raw_score=True)
    told = explain_rows(model, rows)
    predicted = model.predict(rows)
    assert told.groupby("row_number").output.first().tolist() == [str(label) for label in predicted]
    place = np.searchsorted(model.classes_, predicted)
    wanted = np.where(place == 1, margin, -margin) if binary else margin[np.arange(len(rows)), place]
    np.testing.assert_allclose(total(told), wanted, rtol=1e-4, atol=1e-5)
    assert told.scale.unique().tolist() == ["log-odds"]


def test_a_tree_of_xgboost_has_the_shapley_values_of_the_same_tree_elsewhere() -> None:
    """One tree grown by scikit-learn's rule of squared error and by XGBoost without shrinking is the same tree."""
    rows, target = X.to_numpy().astype(np.float32)[:, :3], Y.to_numpy().astype(float)
    exact = XGBRegressor(
        n_estimators=1, max_depth=3, learning_rate=1.0, reg_lambda=0.0, min_child_weight=0.0, tree_method="exact", n_jobs=1
    )
    theirs = explain_rows(exact.fit(rows, target), pd.DataFrame(rows[:25]))
    own = explain_rows(DecisionTreeRegressor(max_depth=3).fit(rows, target), pd.DataFrame(rows[:25]))
    np.testing.assert_allclose(theirs.contribution, own.contribution, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "model",
    [
        LGBMRegressor(linear_tree=True, **LIGHT),
        LGBMRegressor(reg_sqrt=True, **LIGHT),
        LGBMRegressor(objective=lambda y, p: (p - y, np.ones_like(y)), **LIGHT),
        make_pipeline(PolynomialFeatures(degree=1), XGBRegressor(n_estimators=5, n_jobs=1)),
    ],
    ids=["linear trees", "root", "objective of the user's own", "a constant column"],
)
def test_boosters_that_cannot_be_told_apart_are_shuffled(model: Any) -> None:
    told = explain_rows(model.fit(X, Y), X)
    assert told.method.unique().tolist() == ["permutation"]


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (KNeighborsRegressor(), "neither linear nor of trees"),
        (make_pipeline(PCA(2), Ridge()), "PCA"),
        (make_pipeline(PolynomialFeatures(), Ridge()), "multiplies"),
    ],
)
def test_of_the_rest_columns_are_shuffled(model: Any, why: str) -> None:
    model.fit(X, Y)
    told = explain_rows(model, X.assign(unused=1.0))
    assert told.method.unique().tolist() == ["permutation"] and told.feature.tolist() == list(X.columns)
    assert (told.contribution >= 0).all() and told.contribution.sum() > 0 and told.row_number.isna().all()
    with pytest.raises(errors.InvalidArgument, match=why):
        explain_rows(model, X.head(1), one_row=True)


def test_a_column_that_is_constant_in_the_pipeline_is_of_the_baseline() -> None:
    model = make_pipeline(PolynomialFeatures(degree=1), Ridge(fit_intercept=False)).fit(X, Y)
    told = explain_rows(model, X.head(3))
    np.testing.assert_allclose(total(told), model.predict(X.head(3)), rtol=1e-9)


def test_missing_columns_and_no_rows() -> None:
    model = Ridge().fit(X, Y)
    with pytest.raises(errors.MissingFeature, match='"bmi"'):
        explain_rows(model, X.drop(columns="bmi"))
    assert len(explain_rows(model, X.head(0))) == 0
    with pytest.raises(errors.InvalidArgument, match="5 features"):
        explain_rows(Ridge().fit(X.to_numpy(), Y), X.assign(other=1.0))
