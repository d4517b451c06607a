"""Decision trees and forests of them.

A tree compares the float32 nearest to a feature with a float64 threshold.  The largest float8 that is not greater by that
comparison is found here, once for all nodes, so that SQL compares float8 with float8 and rounds nothing.
https://scikit-learn.org/stable/modules/tree.html
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dbml.engines.sql.compiler import TIE, Column, Compiler, Prediction
from dbml.engines.sql.expressions import Binary, Call, Case, Const, Expr, Input, Missing, Tree, both, call

LARGEST = 3.4028235677973366e38  # what rounds to an infinite float32 is this or larger


def float32_limits(thresholds: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return, for each threshold t, the largest float64 x with float32(x) <= t.

    Halfway between two floats float32 rounds to the one whose last bit is 0 (IEEE 754, roundTiesToEven).
    """
    thresholds = np.asarray(thresholds, dtype=np.float64)
    with np.errstate(over="ignore"):
        below = thresholds.astype(np.float32)
        down = below.astype(np.float64) > thresholds
        below[down] = np.nextafter(below[down], np.float32(-np.inf))
        above = np.nextafter(below, np.float32(np.inf))
        middle = (below.astype(np.float64) + above.astype(np.float64)) / 2
        even = middle.astype(np.float32) == below
        limits = np.where(even, middle, np.nextafter(middle, -np.inf))
        # Beside what is infinite there is no middle: all that is finite rounds down, and the rest is refused before.
        limits = np.where(np.isfinite(above), limits, np.float64(LARGEST))
        check = np.isfinite(limits) & np.isfinite(above)
        assert (limits[check].astype(np.float32).astype(np.float64) <= thresholds[check]).all()
        assert (np.nextafter(limits[check], np.inf).astype(np.float32).astype(np.float64) > thresholds[check]).all()
    return limits


def read_tree(tree: Any, value: npt.NDArray[np.float64]) -> Tree:
    """Read a fitted sklearn.tree._tree.Tree; value: (nodes, outputs) of its leaves."""
    left = np.asarray(tree.children_left)
    inner = left >= 0
    threshold = np.zeros(len(left))
    threshold[inner] = float32_limits(np.asarray(tree.threshold)[inner])
    missing = getattr(tree, "missing_go_to_left", None)
    missing_left = np.zeros(len(left), bool) if missing is None else np.asarray(missing).astype(bool)
    return Tree(np.asarray(tree.feature), threshold, left, np.asarray(tree.children_right), missing_left, value)


def takes_missing(estimator: Any, width: int) -> bool:
    """Find out whether a fitted tree or forest takes a missing value, by giving it one."""
    probe = np.zeros((1, width))
    probe[0, 0] = np.nan
    try:
        estimator.predict(probe)
    except ValueError:
        return False
    return True


def open_columns(compiler: Compiler, columns: Sequence[Column], *, missing: bool) -> None:
    """Leave rows to the model that a tree refuses: missing values where it takes none, and what is no float32."""
    compiler.need_floats(columns)
    conditions: list[Expr] = []
    for column in columns:
        value = column.expr if isinstance(column.expr, Input) else compiler.let(column.expr)
        small: Expr = Binary("<", Call("abs", (value,)), Const(LARGEST))  # not true of NULL and NaN either
        conditions.append(Binary("or", small, Missing(value)) if missing else small)
    compiler.guard(both(conditions))
    if not missing:
        compiler.known_finite(columns)
    compiler.check(2 * len(columns))


def whole_codes(compiler: Compiler, columns: Sequence[Column], trees: Sequence[Tree]) -> None:
    """Leave rows to the model in which a category is no whole number: each library cuts it off in a way of its own."""
    asked = sorted({int(tree.feature[node]) for tree in trees for node in tree.categories})
    for feature in asked:
        value = columns[feature].expr
        value = value if isinstance(value, Input) else compiler.let(value)
        whole = Binary("and", call("floor", value).equals(value), Binary("<", Call("abs", (value,)), Const(2.0**31)))
        compiler.guard(Binary("or", Missing(value), whole))


def grown(compiler: Compiler, estimator: Any, trees: Sequence[Any], columns: Sequence[Column], classes: Any) -> list[Expr]:
    """Return the mean of what trees answer, one an output or a class."""
    missing = takes_missing(estimator, len(columns))
    open_columns(compiler, columns, missing=missing)
    made = []
    for tree in trees:
        compiler.check()
        value = np.asarray(tree.tree_.value)
        if value.shape[1] != 1 and classes is not None:
            raise compiler.refusal("several outputs")
        value = value[:, 0, :] if classes is not None else value[:, :, 0]
        if classes is not None:
            whole = value.sum(axis=1, keepdims=True)
            whole[whole == 0.0] = 1.0
            value = value / whole
        made.append(read_tree(tree.tree_, value))
    binary = classes is not None and made[0].value.shape[1] == 2
    if binary:
        for each in made:
            each.value = each.value[:, :1]
    sums = compiler.forest(made, columns, made[0].value.shape[1], allow_missing=missing)
    means: list[Expr] = [compiler.let(one / float(len(made))) if len(made) > 1 else one for one in sums]
    return [means[0], compiler.let(Const(1.0) - means[0])] if binary else means


def tree_regressor(compiler: Compiler, estimator: Any, columns: Sequence[Column]) -> Prediction:
    """DecisionTreeRegressor, ExtraTreeRegressor."""
    values = grown(compiler, estimator, [estimator], columns, None)
    return Prediction(values[0] if len(values) == 1 else list(values))


def forest_regressor(compiler: Compiler, estimator: Any, columns: Sequence[Column]) -> Prediction:
    """RandomForestRegressor, ExtraTreesRegressor."""
    values = grown(compiler, estimator, estimator.estimators_, columns, None)
    return Prediction(values[0] if len(values) == 1 else list(values))


def tree_classifier(compiler: Compiler, estimator: Any, columns: Sequence[Column]) -> Prediction:
    """DecisionTreeClassifier, ExtraTreeClassifier."""
    return _classified(compiler, estimator, [estimator], columns)


def forest_classifier(compiler: Compiler, estimator: Any, columns: Sequence[Column]) -> Prediction:
    """RandomForestClassifier, ExtraTreesClassifier."""
    return _classified(compiler, estimator, estimator.estimators_, columns)


def _classified(compiler: Compiler, estimator: Any, trees: Sequence[Any], columns: Sequence[Column]) -> Prediction:
    labels = compiler.labels(estimator.classes_)
    proba = grown(compiler, estimator, trees, columns, labels)
    if len(labels) != 2:
        return Prediction(compiler.choose(labels, proba), proba=proba, classes=labels)
    value: Expr = Case(((Binary(">=", proba[0], proba[1]), Const(labels[0])),), Const(labels[1]))
    if len(trees) > 1 and not all(np.isin(tree.tree_.value, (0.0, 1.0)).all() for tree in trees):
        # The second class is not added up for itself here: near a half, rounding has the say.
        value = Case(((call("abs", proba[0] - 0.5) > TIE, value),))
    return Prediction(value, proba=proba, classes=labels)


def isolation(compiler: Compiler, estimator: Any, columns: Sequence[Column]) -> Prediction:
    """IsolationForest: 1 for an inlier, -1 for an outlier."""
    from sklearn.ensemble._iforest import _average_path_length

    inputs = list(columns)
    missing = takes_missing(estimator, len(columns))
    open_columns(compiler, inputs, missing=missing)
    made = []
    for tree, features in zip(estimator.estimators_, estimator.estimators_features_, strict=True):
        compiler.check()
        inner = tree.tree_
        depth = np.zeros(inner.node_count)
        for node in range(inner.node_count):  # parents come before their children
            for child in (inner.children_left[node], inner.children_right[node]):
                if child >= 0:
                    depth[child] = depth[node] + 1
        length = depth + _average_path_length(np.asarray(inner.n_node_samples))
        read = read_tree(inner, length[:, None])
        read.feature = np.where(read.left >= 0, np.asarray(features)[np.maximum(read.feature, 0)], -1)
        made.append(read)
    (depths,) = compiler.forest(made, inputs, 1, allow_missing=missing)
    whole = len(made) * _average_path_length(np.array([estimator._max_samples]))[0]
    # 2 ** -x, as exp: two's power has no function of its own for float8 that rounds better.
    score = -compiler.let(call("power", 2.0, Const(0.0) - depths / float(whole)))
    decision = compiler.let(score - float(estimator.offset_))
    value = Case(((decision < 0.0, Const(-1)),), Const(1))
    return Prediction(value, scores=[decision])


PREDICTORS = {
    "sklearn.DecisionTreeRegressor": tree_regressor,
    "sklearn.ExtraTreeRegressor": tree_regressor,
    "sklearn.RandomForestRegressor": forest_regressor,
    "sklearn.ExtraTreesRegressor": forest_regressor,
    "sklearn.DecisionTreeClassifier": tree_classifier,
    "sklearn.ExtraTreeClassifier": tree_classifier,
    "sklearn.RandomForestClassifier": forest_classifier,
    "sklearn.ExtraTreesClassifier": forest_classifier,
    "sklearn.IsolationForest": isolation,
}
