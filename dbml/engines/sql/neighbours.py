"""The nearest of a few centres: k-means and nearest centroids.

https://scikit-learn.org/stable/modules/clustering.html#k-means
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dbml.engines.sql.compiler import Column, Compiler, Prediction
from dbml.engines.sql.expressions import Expr, Sum


def _nearness(compiler: Compiler, centres: Any, columns: Sequence[Column]) -> list[Expr]:
    """Return what orders the centres by distance: 2 x c - c c, as scikit-learn computes it, so that ties are the same."""
    compiler.need_floats(columns)
    compiler.need_finite(columns)
    cells = [compiler.let(column.expr) if column.expr.children() else column.expr for column in columns]
    found: list[Expr] = []
    for centre in np.asarray(centres, dtype=float):
        compiler.check(4 * len(cells))
        compiler.spans(columns, centre, None)
        terms = [cell * (2.0 * float(middle)) for cell, middle in zip(cells, centre, strict=True)]
        found.append(compiler.let(Sum(tuple(terms)) - float(centre @ centre)))
    return found


def k_means(compiler: Compiler, estimator: Any, columns: Sequence[Column]) -> Prediction:
    """KMeans, MiniBatchKMeans, BisectingKMeans is not one of them: it walks a tree."""
    centres = estimator.cluster_centers_
    if centres.dtype != np.float64:
        compiler.refuse(f"centres of {centres.dtype}")
    nearness = _nearness(compiler, centres, columns)
    return Prediction(compiler.choose(list(range(len(centres))), nearness))


def centroid(compiler: Compiler, estimator: Any, columns: Sequence[Column]) -> Prediction:
    """NearestCentroid by euclidean distance, with equal priors."""
    labels = compiler.labels(estimator.classes_)
    if estimator.metric != "euclidean":
        compiler.refuse(f"metric={estimator.metric!r}")
    priors = getattr(estimator, "class_prior_", None)
    if priors is not None and not np.isclose(priors, 1 / len(labels)).all():
        compiler.refuse("priors that differ")
    return Prediction(compiler.choose(labels, _nearness(compiler, estimator.centroids_, columns)), classes=labels)


PREDICTORS = {"sklearn.KMeans": k_means, "sklearn.MiniBatchKMeans": k_means, "sklearn.NearestCentroid": centroid}
