"""The nearest of a few centres: k-means and nearest centroids.

https://scikit-learn.org/stable/modules/clustering.html#k-means
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dbml.engines.sql.compiler import TIE, Column, Compiler, Prediction
from dbml.engines.sql.expressions import Expr, Sum, call


def _nearest(compiler: Compiler, labels: Sequence[Any], centres: Any, columns: Sequence[Column]) -> Expr:
    """Return the label of the nearest centre, by 2 x c - c c, as scikit-learn orders them; near a tie the model decides."""
    compiler.need_floats(columns)
    compiler.need_finite(columns)
    cells = [compiler.let(column.expr) if column.expr.children() else column.expr for column in columns]
    found: list[Expr] = []
    for centre in np.asarray(centres, dtype=float):
        compiler.check(4 * len(cells))
        compiler.spans(columns, centre, None)
        terms = [cell * (2.0 * float(middle)) for cell, middle in zip(cells, centre, strict=True)]
        found.append(compiler.let(Sum(tuple(terms)) - float(centre @ centre)))
    largest = np.abs(np.asarray(centres, dtype=float)).max(axis=0)
    # The square of x is in the distance too, which is the same for all centres but rounds them away where it is large.
    sizes = [call("abs", cell) * float(most) + cell * cell for cell, most in zip(cells, largest, strict=True)]
    tie = compiler.let((Sum(tuple(sizes)) + float(largest @ largest)) * TIE)
    return compiler.choose(labels, found, tie)


def k_means(compiler: Compiler, estimator: Any, columns: Sequence[Column]) -> Prediction:
    """KMeans, MiniBatchKMeans, BisectingKMeans is not one of them: it walks a tree."""
    centres = estimator.cluster_centers_
    if centres.dtype != np.float64:
        raise compiler.refusal(f"centres of {centres.dtype}")
    return Prediction(_nearest(compiler, list(range(len(centres))), centres, columns))


def centroid(compiler: Compiler, estimator: Any, columns: Sequence[Column]) -> Prediction:
    """NearestCentroid by euclidean distance, with equal priors."""
    labels = compiler.labels(estimator.classes_)
    if estimator.metric != "euclidean":
        raise compiler.refusal(f"metric={estimator.metric!r}")
    priors = getattr(estimator, "class_prior_", None)
    if priors is not None and not np.isclose(priors, 1 / len(labels)).all():
        raise compiler.refusal("priors that differ")
    return Prediction(_nearest(compiler, labels, estimator.centroids_, columns), classes=labels)


PREDICTORS = {"sklearn.KMeans": k_means, "sklearn.MiniBatchKMeans": k_means, "sklearn.NearestCentroid": centroid}
