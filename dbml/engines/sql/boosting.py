"""Gradient boosting by scikit-learn's trees.

https://scikit-learn.org/stable/modules/ensemble.html#gradient-boosting
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dbml.engines.sql.compiler import TIE, Column, Compiler, Prediction
from dbml.engines.sql.expressions import Const, Expr
from dbml.engines.sql.trees import open_columns, read_tree


def raw_predictions(compiler: Compiler, estimator: Any, columns: Sequence[Column]) -> list[Expr]:
    """Return what the stages add up to, one an output or a class."""
    open_columns(compiler, columns, missing=False)
    stages = estimator.estimators_
    probe = np.zeros((1, len(columns)))
    start = estimator._raw_predict_init(probe)[0]
    if estimator.init_ != "zero" and type(estimator.init_).__name__ not in ("DummyClassifier", "DummyRegressor"):
        raise compiler.refusal(f"init={type(estimator.init_).__name__}")
    rate = float(estimator.learning_rate)
    sums: list[Expr] = []
    for k in range(stages.shape[1]):
        trees = []
        for stage in stages[:, k]:
            compiler.check()
            trees.append(read_tree(stage.tree_, np.asarray(stage.tree_.value)[:, 0, :] * rate))
        (added,) = compiler.forest(trees, columns, 1, allow_missing=False)
        sums.append(compiler.let(added + float(start[k])))
    return sums


def regressor(compiler: Compiler, estimator: Any, columns: Sequence[Column]) -> Prediction:
    """GradientBoostingRegressor."""
    (value,) = raw_predictions(compiler, estimator, columns)
    return Prediction(value)


def classifier(compiler: Compiler, estimator: Any, columns: Sequence[Column]) -> Prediction:
    """GradientBoostingClassifier."""
    labels = compiler.labels(estimator.classes_)
    scores = raw_predictions(compiler, estimator, columns)
    return classified(compiler, labels, scores, exponential=estimator.loss == "exponential")


def classified(compiler: Compiler, labels: list[Any], scores: list[Expr], *, exponential: bool = False) -> Prediction:
    """Return labels and probabilities of raw predictions on the logistic scale."""
    if len(scores) == 1:
        z = scores[0] * 2.0 if exponential else scores[0]
        chance = compiler.let(compiler.sigmoid(z))
        value = compiler.by_sign(scores[0], labels[0], labels[1], zero_is_high=True)
        return Prediction(value, proba=[Const(1.0) - chance, chance], scores=scores, classes=labels)
    return Prediction(compiler.choose(labels, scores, TIE), proba=compiler.softmax(scores), scores=scores, classes=labels)


PREDICTORS = {"sklearn.GradientBoostingRegressor": regressor, "sklearn.GradientBoostingClassifier": classifier}
