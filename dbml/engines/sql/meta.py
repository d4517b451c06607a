"""Predictors made of predictors: transformed targets, votes, stacks, calibrated classifiers, searches.

https://scikit-learn.org/stable/modules/ensemble.html
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dbml.engines.sql.compiler import TIE, Column, Compiler, Prediction
from dbml.engines.sql.expressions import Binary, Case, Const, Expr, Sum, call
from dbml.engines.sql.scalers import apply_known


def _single(compiler: Compiler, prediction: Prediction) -> Expr:
    if isinstance(prediction.value, list):
        raise compiler.refusal("several outputs")
    return prediction.value


def transformed_target(compiler: Compiler, estimator: Any, columns: Sequence[Column]) -> Prediction:
    """TransformedTargetRegressor, with the inverse of a known function or of a scaler."""
    value = compiler.let(_single(compiler, compiler.predict(estimator.regressor_, columns)))
    transformer = estimator.transformer_
    match type(transformer).__name__:
        case "FunctionTransformer":
            if transformer.inverse_func is np.expm1:
                near = Case(((call("abs", value) < 1e-5, value + value * value / 2.0 + value * value * value / 6.0),),
                            call("exp", value) - 1.0)  # fmt: skip
                return Prediction(near)
            return Prediction(apply_known(compiler, transformer.inverse_func, [Column(value)])[0].expr)
        case "StandardScaler":
            scaled = value * float(transformer.scale_[0]) if transformer.with_std else value
            return Prediction(scaled + float(transformer.mean_[0]) if transformer.with_mean else scaled)
        case name:
            raise compiler.refusal(f"the inverse of a {name}")


def voting_regressor(compiler: Compiler, estimator: Any, columns: Sequence[Column]) -> Prediction:
    """VotingRegressor: a weighted mean."""
    values = [_single(compiler, compiler.predict(each, columns)) for each in estimator.estimators_]
    return Prediction(_mean(compiler, values, estimator._weights_not_none))


def _mean(compiler: Compiler, values: Sequence[Expr], weights: Any) -> Expr:
    given = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=float)
    terms = [value if weight == 1.0 else value * float(weight) for value, weight in zip(values, given, strict=True)]
    return compiler.let(Sum(tuple(terms)) / float(given.sum()))


def voting_classifier(compiler: Compiler, estimator: Any, columns: Sequence[Column]) -> Prediction:
    """VotingClassifier: by probabilities (soft), or by counting votes (hard)."""
    if estimator.voting != "soft":
        return _counted(compiler, estimator, columns)
    labels = compiler.labels(estimator.classes_)
    each = [_probabilities(compiler, member, columns) for member in estimator.estimators_]
    proba = [_mean(compiler, [one[k] for one in each], estimator._weights_not_none) for k in range(len(labels))]
    return Prediction(compiler.choose(labels, proba, TIE), proba=proba, classes=labels)


def _counted(compiler: Compiler, estimator: Any, columns: Sequence[Column]) -> Prediction:
    labels = compiler.labels(estimator.classes_)
    weights = estimator._weights_not_none
    given = np.ones(len(estimator.estimators_)) if weights is None else np.asarray(weights, dtype=float)
    votes: list[Expr] = []  # numbers of classes
    for member in estimator.estimators_:
        vote = compiler.let(_single(compiler, compiler.predict(member, columns)))
        if vote.kind != "int":
            raise compiler.refusal(f"a {type(member).__name__} that votes for no number of a class")
        compiler.guard(vote.equals(vote))  # not true of NULL: a member that does not know leaves the row to the model
        votes.append(vote)
    counts: list[Expr] = []
    for k in range(len(labels)):
        terms = [
            Case(((Binary("=", vote, Const(k)), Const(float(one))),), Const(0.0)) for vote, one in zip(votes, given, strict=True)
        ]
        counts.append(Sum(tuple(terms)))
    # Whole numbers add up without rounding, and of two that are equal the first wins.
    exact = bool((given == np.round(given)).all())
    return Prediction(compiler.choose(labels, counts, None if exact else TIE), classes=labels)


def _probabilities(compiler: Compiler, estimator: Any, columns: Sequence[Column]) -> list[Expr]:
    proba = compiler.predict(estimator, columns).proba
    if proba is None:
        raise compiler.refusal(f"a {type(estimator).__name__} without probabilities")
    return [compiler.let(each) for each in proba]


def calibrated(compiler: Compiler, estimator: Any, columns: Sequence[Column]) -> Prediction:
    """CalibratedClassifierCV, by sigmoid or isotonic."""
    labels = compiler.labels(estimator.classes_)
    members: list[list[Expr]] = []
    for member in estimator.calibrated_classifiers_:
        if member.method not in ("sigmoid", "isotonic"):
            raise compiler.refusal(f"method={member.method!r}")
        inner = compiler.predict(member.estimator, columns)
        if hasattr(member.estimator, "decision_function"):
            scores = inner.scores
        else:
            scores = inner.proba if inner.proba is None or len(inner.proba) != 2 else inner.proba[1:]
        if scores is None:
            raise compiler.refusal(f"a {type(member.estimator).__name__} whose scores have no translator")
        curves: list[Expr] = []
        for calibrator, score in zip(member.calibrators, scores, strict=True):
            if member.method == "sigmoid":
                curve = compiler.sigmoid(-(score * float(calibrator.a_) + float(calibrator.b_)))
            else:
                curve = _steps(compiler, calibrator, compiler.let(score))
            curves.append(compiler.let(curve))
        if len(labels) == 2:
            members.append([compiler.let(Const(1.0) - curves[0]), curves[0]])
        else:
            whole = compiler.let(Sum(tuple(curves)))
            uniform = Const(1.0 / len(labels))
            members.append([compiler.let(Case(((whole.equals(0.0), uniform),), curve / whole)) for curve in curves])
    proba = [_mean(compiler, [member[k] for member in members], None) for k in range(len(labels))]
    return Prediction(compiler.choose(labels, proba, TIE), proba=proba, classes=labels)


def _steps(compiler: Compiler, isotonic: Any, score: Expr) -> Expr:
    """Return an IsotonicRegression's answer: straight lines between its points, level beyond them."""
    xs, ys = np.asarray(isotonic.X_thresholds_, dtype=float), np.asarray(isotonic.y_thresholds_, dtype=float)
    if isotonic.out_of_bounds != "clip":
        raise compiler.refusal(f"out_of_bounds={isotonic.out_of_bounds!r}")
    compiler.check(4 * len(xs))
    branches: list[tuple[Expr, Expr]] = [(score <= float(xs[0]), Const(float(ys[0])))]
    for low, high, from_, to in zip(xs[:-1], xs[1:], ys[:-1], ys[1:], strict=True):
        line: Expr = Const(float(from_))
        if to != from_:
            line = (score - float(low)) * float((to - from_) / (high - low)) + float(from_)
        branches.append((score <= float(high), line))
    return Case(tuple(branches), Const(float(ys[-1])))


def _stacked(compiler: Compiler, estimator: Any, columns: Sequence[Column]) -> list[Column]:
    made: list[Column] = []
    for member, method in zip(estimator.estimators_, estimator.stack_method_, strict=True):
        found = compiler.predict(member, columns)
        if method == "predict_proba":
            if found.proba is None:
                raise compiler.refusal(f"a {type(member).__name__} without probabilities")
            kept = found.proba[1:] if len(found.proba) == 2 else found.proba
        elif method == "decision_function":
            if found.scores is None:
                raise compiler.refusal(f"a {type(member).__name__} without a decision function")
            kept = found.scores
        else:
            kept = [_single(compiler, found)]
        made += [Column(compiler.let(each)) for each in kept]
    return [*made, *columns] if estimator.passthrough else made


def stacking(compiler: Compiler, estimator: Any, columns: Sequence[Column]) -> Prediction:
    """StackingRegressor, StackingClassifier."""
    found = compiler.predict(estimator.final_estimator_, _stacked(compiler, estimator, columns))
    if hasattr(estimator, "classes_") and found.classes is not None:
        # The last estimator was fitted on numbers of classes.
        labels = compiler.labels(estimator.classes_)
        if found.classes != list(range(len(labels))) and found.classes != labels:
            raise compiler.refusal("classes that the last estimator does not know")
        value = _single(compiler, found)
        if found.classes != labels:
            number = compiler.let(value)
            found.value = Case(tuple((Binary("=", number, Const(i)), Const(label)) for i, label in enumerate(labels)))
        found.classes = labels
    return found


def searched(compiler: Compiler, estimator: Any, columns: Sequence[Column]) -> Prediction:
    """GridSearchCV, RandomizedSearchCV: the best estimator."""
    return compiler.predict(estimator.best_estimator_, columns)


PREDICTORS = {
    "sklearn.TransformedTargetRegressor": transformed_target,
    "sklearn.VotingRegressor": voting_regressor,
    "sklearn.VotingClassifier": voting_classifier,
    "sklearn.CalibratedClassifierCV": calibrated,
    "sklearn.StackingRegressor": stacking,
    "sklearn.StackingClassifier": stacking,
    "sklearn.GridSearchCV": searched,
    "sklearn.RandomizedSearchCV": searched,
}
