"""Linear models: a weighted sum, and what classifiers make of it.

https://scikit-learn.org/stable/modules/linear_model.html
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dbml.engines.sql.compiler import TIE, Column, Compiler, Prediction, affine
from dbml.engines.sql.expressions import Case, Const, Expr, Sum


def sums(compiler: Compiler, estimator: Any, columns: Sequence[Column], clip: None = None) -> list[Expr]:
    """Return X @ coef_.T + intercept_, one a row of coef_; rows that are not finite are left to the model."""
    compiler.need_floats(columns)
    weights = np.atleast_2d(np.asarray(estimator.coef_, dtype=float))
    intercepts = np.broadcast_to(np.ravel(np.asarray(estimator.intercept_, dtype=float)), (weights.shape[0],))
    if weights.shape[1] != len(columns):
        raise compiler.refusal(f"{weights.shape[1]} weights for {len(columns)} columns")
    found: list[Expr] = []
    for row, intercept in zip(weights, intercepts, strict=True):
        compiler.check(2 * len(row))
        found.append(compiler.finite_with(columns, affine(columns, row, intercept)))
    return found


def regression(compiler: Compiler, estimator: Any, columns: Sequence[Column]) -> Prediction:
    """LinearRegression and its kin."""
    values = sums(compiler, estimator, columns)
    return Prediction(values[0] if len(values) == 1 else values)


def by_decision(compiler: Compiler, estimator: Any, columns: Sequence[Column]) -> Prediction:
    """Classifiers that answer the class of the largest decision, and no probabilities."""
    return _classified(compiler, estimator, sums(compiler, estimator, columns))


def _classified(compiler: Compiler, estimator: Any, scores: list[Expr]) -> Prediction:
    labels = compiler.labels(estimator.classes_)
    tie = TIE * max(1.0, float(np.max(np.abs(estimator.coef_))), float(np.max(np.abs(estimator.intercept_))))
    if len(scores) == 1:
        value = compiler.by_sign(scores[0], labels[0], labels[1], tie)
    elif len(scores) == len(labels):
        value = compiler.choose(labels, scores, tie)
    else:
        raise compiler.refusal(f"{len(scores)} decisions for {len(labels)} classes")
    return Prediction(value, scores=scores, classes=labels)


def logistic(compiler: Compiler, estimator: Any, columns: Sequence[Column]) -> Prediction:
    """LogisticRegression, binary and multinomial; several classes one against the rest where liblinear fitted them."""
    found = by_decision(compiler, estimator, columns)
    assert found.scores is not None
    one_against_rest = estimator.solver == "liblinear" or getattr(estimator, "multi_class", None) == "ovr"
    if len(found.scores) == 1 and getattr(estimator, "multi_class", None) == "multinomial":
        found.proba = compiler.softmax([-found.scores[0], found.scores[0]])
    elif len(found.scores) == 1 or one_against_rest:
        found.proba = against_rest(compiler, found.scores)
    else:
        found.proba = compiler.softmax(found.scores)
    return found


def against_rest(compiler: Compiler, scores: Sequence[Expr]) -> list[Expr]:
    """Return the probabilities of one logistic curve a class, normalized."""
    curves: list[Expr] = [compiler.let(compiler.sigmoid(score)) for score in scores]
    if len(curves) == 1:
        return [Const(1.0) - curves[0], curves[0]]
    whole = compiler.let(Sum(tuple(curves)))
    return [Case(((whole.equals(0.0), Const(1.0 / len(curves))),), curve / whole) for curve in curves]


def stochastic(compiler: Compiler, estimator: Any, columns: Sequence[Column]) -> Prediction:
    """SGDClassifier, whose loss says whether it has probabilities."""
    found = by_decision(compiler, estimator, columns)
    assert found.scores is not None
    if estimator.loss == "log_loss":
        found.proba = against_rest(compiler, found.scores)
    return found


def discriminant(compiler: Compiler, estimator: Any, columns: Sequence[Column]) -> Prediction:
    """LinearDiscriminantAnalysis, as a classifier."""
    found = by_decision(compiler, estimator, columns)
    assert found.scores is not None
    found.proba = against_rest(compiler, found.scores) if len(found.scores) == 1 else compiler.softmax(found.scores)
    return found


PREDICTORS = {
    **{f"sklearn.{name}": regression for name in (
        "LinearRegression", "Ridge", "RidgeCV", "Lasso", "LassoCV", "ElasticNet", "ElasticNetCV", "Lars", "LarsCV", "LassoLars",
        "LassoLarsCV", "LassoLarsIC", "OrthogonalMatchingPursuit", "OrthogonalMatchingPursuitCV", "BayesianRidge",
        "ARDRegression", "HuberRegressor", "QuantileRegressor", "TheilSenRegressor", "SGDRegressor", "LinearSVR",
        "PassiveAggressiveRegressor", "MultiTaskLasso", "MultiTaskElasticNet", "MultiTaskLassoCV", "MultiTaskElasticNetCV",
    )},
    **{f"sklearn.{name}": by_decision for name in (
        "RidgeClassifier", "RidgeClassifierCV", "LinearSVC", "Perceptron", "PassiveAggressiveClassifier",
    )},
    "sklearn.LogisticRegression": logistic,
    "sklearn.LogisticRegressionCV": logistic,
    "sklearn.SGDClassifier": stochastic,
    "sklearn.LinearDiscriminantAnalysis": discriminant,
}  # fmt: skip
