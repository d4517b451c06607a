"""Naive Bayes and quadratic discriminants: a joint log likelihood a class.

https://scikit-learn.org/stable/modules/naive_bayes.html
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dbml.engines.sql.compiler import TIE, Column, Compiler, Prediction, affine
from dbml.engines.sql.expressions import Case, Const, Expr, Sum


def _from_joint(compiler: Compiler, estimator: Any, joint: list[Expr]) -> Prediction:
    labels = compiler.labels(estimator.classes_)
    return Prediction(compiler.choose(labels, joint, TIE), proba=compiler.softmax(joint), classes=labels)


def gaussian(compiler: Compiler, estimator: Any, columns: Sequence[Column]) -> Prediction:
    """GaussianNB."""
    compiler.need_floats(columns)
    compiler.need_finite(columns)
    cells = [compiler.let(column.expr) if column.expr.children() else column.expr for column in columns]
    joint: list[Expr] = []
    for prior, means, variances in zip(estimator.class_prior_, estimator.theta_, estimator.var_, strict=True):
        compiler.check(6 * len(cells))
        compiler.spans(columns, means, 3 * np.sqrt(variances))
        terms: list[Expr] = []
        for cell, mean, variance in zip(cells, means, variances, strict=True):
            apart = cell - float(mean)
            terms.append(apart * apart / float(variance))
        start = float(np.log(prior) - 0.5 * np.sum(np.log(2.0 * np.pi * variances)))
        joint.append(compiler.let(Const(start) - Sum(tuple(terms)) * 0.5))
    return _from_joint(compiler, estimator, joint)


def counted(compiler: Compiler, estimator: Any, columns: Sequence[Column]) -> Prediction:
    """MultinomialNB."""
    compiler.need_floats(columns)
    weights, priors = estimator.feature_log_prob_, estimator.class_log_prior_
    joint: list[Expr] = []
    for row, prior in zip(weights, priors, strict=True):
        compiler.check(2 * len(row))
        joint.append(compiler.finite_with(columns, affine(columns, row, float(prior))))
    return _from_joint(compiler, estimator, joint)


def complement(compiler: Compiler, estimator: Any, columns: Sequence[Column]) -> Prediction:
    """ComplementNB: the weights of what is not of a class."""
    compiler.need_floats(columns)
    priors = estimator.class_log_prior_ if len(estimator.classes_) == 1 else np.zeros(len(estimator.classes_))
    joint: list[Expr] = []
    for row, prior in zip(estimator.feature_log_prob_, priors, strict=True):
        compiler.check(2 * len(row))
        joint.append(compiler.finite_with(columns, affine(columns, row, float(prior))))
    return _from_joint(compiler, estimator, joint)


def quadratic(compiler: Compiler, estimator: Any, columns: Sequence[Column]) -> Prediction:
    """QuadraticDiscriminantAnalysis: a normal distribution a class, in its own axes."""
    compiler.need_floats(columns)
    compiler.need_finite(columns)
    cells = [compiler.let(column.expr) if column.expr.children() else column.expr for column in columns]
    joint: list[Expr] = []
    for mean, rotation, scaling, prior in zip(
        estimator.means_, estimator.rotations_, estimator.scalings_, estimator.priors_, strict=True
    ):  # fmt: skip
        axes = rotation * scaling ** (-0.5)
        compiler.check(3 * axes.size)
        compiler.spans(columns, mean, 3 * np.sqrt(np.diag(rotation @ np.diag(scaling) @ rotation.T)))
        apart = [compiler.let(cell - float(middle)) for cell, middle in zip(cells, mean, strict=True)]
        squares: list[Expr] = []
        for axis in axes.T:
            along = compiler.let(Sum(tuple(cell * float(weight) for cell, weight in zip(apart, axis, strict=True))))
            squares.append(along * along)
        start = float(np.log(prior) - 0.5 * np.sum(np.log(scaling)))
        joint.append(compiler.let(Const(start) - Sum(tuple(squares)) * 0.5))
    found = _from_joint(compiler, estimator, joint)
    found.scores = [joint[1] - joint[0]] if len(joint) == 2 else joint
    return found


def bernoulli(compiler: Compiler, estimator: Any, columns: Sequence[Column]) -> Prediction:
    """BernoulliNB."""
    compiler.need_floats(columns)
    compiler.need_finite(columns)
    found = list(columns)
    if estimator.binarize is not None:
        limit = float(estimator.binarize)
        for column in columns:
            compiler.cut(column, limit)
        found = [Column(compiler.let(Case(((column.expr > limit, Const(1.0)),), Const(0.0)))) for column in columns]
    absent = np.log(1 - np.exp(estimator.feature_log_prob_))
    weights = estimator.feature_log_prob_ - absent
    joint: list[Expr] = []
    for row, prior, rest in zip(weights, estimator.class_log_prior_, absent.sum(axis=1), strict=True):
        compiler.check(2 * len(row))
        joint.append(compiler.let(affine(found, row, float(prior) + float(rest))))
    return _from_joint(compiler, estimator, joint)


PREDICTORS = {
    "sklearn.GaussianNB": gaussian,
    "sklearn.MultinomialNB": counted,
    "sklearn.ComplementNB": complement,
    "sklearn.BernoulliNB": bernoulli,
    "sklearn.QuadraticDiscriminantAnalysis": quadratic,
}
