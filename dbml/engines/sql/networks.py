"""Small multi-layer perceptrons.

https://scikit-learn.org/stable/modules/neural_networks_supervised.html
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dbml.engines.sql.compiler import TIE, Column, Compiler, Prediction, affine
from dbml.engines.sql.expressions import Const, Expr, call


def _layers(compiler: Compiler, estimator: Any, columns: Sequence[Column]) -> list[Expr]:
    compiler.need_floats(columns)
    compiler.need_finite(columns)
    found = [Column(compiler.let(column.expr) if column.expr.children() else column.expr) for column in columns]
    last = len(estimator.coefs_) - 1
    for i, (weights, biases) in enumerate(zip(estimator.coefs_, estimator.intercepts_, strict=True)):
        compiler.check(2 * weights.size)
        cells = [compiler.let(affine(found, weights[:, k], float(biases[k]))) for k in range(weights.shape[1])]
        if i < last:
            cells = [compiler.let(_activation(compiler, estimator.activation, cell)) for cell in cells]
        found = [Column(cell) for cell in cells]
    return [column.expr for column in found]


def _activation(compiler: Compiler, name: str, z: Expr) -> Expr:
    match name:
        case "relu":
            return call("greatest", z, 0.0)
        case "tanh":
            return call("tanh", z)
        case "logistic":
            return compiler.sigmoid(z)
        case "identity":
            return z
    raise compiler.refusal(f"activation={name!r}")


def regressor(compiler: Compiler, estimator: Any, columns: Sequence[Column]) -> Prediction:
    """MLPRegressor."""
    values = _layers(compiler, estimator, columns)
    if estimator.out_activation_ != "identity":
        raise compiler.refusal(f"out_activation_={estimator.out_activation_!r}")
    return Prediction(values[0] if len(values) == 1 else values)


def classifier(compiler: Compiler, estimator: Any, columns: Sequence[Column]) -> Prediction:
    """MLPClassifier."""
    labels = compiler.labels(estimator.classes_)
    values = _layers(compiler, estimator, columns)
    if estimator.out_activation_ == "logistic" and len(values) == 1:
        chance = compiler.let(compiler.sigmoid(values[0]))
        return Prediction(compiler.by_sign(values[0], labels[0], labels[1]),
                          proba=[Const(1.0) - chance, chance], classes=labels)  # fmt: skip
    if estimator.out_activation_ != "softmax":
        raise compiler.refusal(f"out_activation_={estimator.out_activation_!r}")
    proba: list[Expr] = [compiler.let(each) for each in compiler.softmax(values)]
    return Prediction(compiler.choose(labels, proba, TIE), proba=proba, classes=labels)


PREDICTORS = {"sklearn.MLPRegressor": regressor, "sklearn.MLPClassifier": classifier}
