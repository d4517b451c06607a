"""Histogram gradient boosting: float64 features against float64 thresholds, missing values by a direction of their own.

https://scikit-learn.org/stable/modules/ensemble.html#histogram-based-gradient-boosting
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dbml.engines.sql.boosting import classified
from dbml.engines.sql.compiler import Column, Compiler, Prediction
from dbml.engines.sql.expressions import Choice, Expr, Tree, call


def _members(bits: npt.NDArray[np.uint32]) -> tuple[float, ...]:
    return tuple(float(v) for v in range(32 * len(bits)) if int(bits[v // 32]) >> (v % 32) & 1)


def _read(compiler: Compiler, predictor: Any, known: Any, of_feature: Any) -> Tree:
    nodes = predictor.nodes
    leaf = nodes["is_leaf"].astype(bool)
    categories = {}
    for node in np.flatnonzero(~leaf & nodes["is_categorical"].astype(bool)):
        all_known = _members(known[of_feature[nodes["feature_idx"][node]]])
        goes_left = _members(predictor.raw_left_cat_bitsets[nodes["bitset_idx"][node]])
        others = tuple(sorted({*all_known} - {*goes_left}))
        categories[int(node)] = Choice(goes_left, others, bool(nodes["missing_go_to_left"][node]))  # unknown ones as missing
    compiler.check(len(categories) * 10)
    threshold = np.where(leaf, 0.0, nodes["num_threshold"].astype(float))
    return Tree(
        np.where(leaf, -1, nodes["feature_idx"].astype(np.int64)), threshold, np.where(leaf, -1, nodes["left"].astype(np.int64)),
        np.where(leaf, -1, nodes["right"].astype(np.int64)), nodes["missing_go_to_left"].astype(bool),
        nodes["value"].astype(float)[:, None], categories,
    )  # fmt: skip


def raw_predictions(compiler: Compiler, estimator: Any, columns: Sequence[Column]) -> list[Expr]:
    """Return what the iterations add up to, one an output or a class."""
    found = list(columns)
    if estimator._preprocessor is not None:
        found = compiler.transform(estimator._preprocessor, found)
    compiler.need_floats(found)
    known, of_feature = estimator._bin_mapper.make_known_categories_bitsets()
    start = np.ravel(estimator._baseline_prediction)
    sums: list[Expr] = []
    for k in range(estimator.n_trees_per_iteration_):
        trees = [_read(compiler, stage[k], known, of_feature) for stage in estimator._predictors]
        (added,) = compiler.forest(trees, found, 1, allow_missing=True)
        sums.append(compiler.let(added + float(start[k])))
    return sums


def regressor(compiler: Compiler, estimator: Any, columns: Sequence[Column]) -> Prediction:
    """HistGradientBoostingRegressor, with the loss's link."""
    (value,) = raw_predictions(compiler, estimator, columns)
    link = type(estimator._loss.link).__name__
    if link == "IdentityLink":
        return Prediction(value)
    if link == "LogLink":
        return Prediction(call("exp", value))
    raise compiler.refusal(f"the link {link}")


def classifier(compiler: Compiler, estimator: Any, columns: Sequence[Column]) -> Prediction:
    """HistGradientBoostingClassifier."""
    labels = compiler.labels(estimator.classes_)
    scores = raw_predictions(compiler, estimator, columns)
    return classified(compiler, labels, scores)


PREDICTORS = {"sklearn.HistGradientBoostingRegressor": regressor, "sklearn.HistGradientBoostingClassifier": classifier}
