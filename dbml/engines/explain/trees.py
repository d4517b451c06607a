"""Trees: exact Shapley values of the game that each tree is, a player an input column.

What a set S of known columns is worth in a tree is the expectation over its leaves, where a split by a column that is not known
sends a row both ways, in the shares of the training rows that went there (path-dependent, as TreeSHAP has it: Lundberg,
Erion, Lee, 2018, arXiv:1802.03888, algorithm 1).  A leaf of value v under splits by the columns 1..p is then worth the product of
o_j for j in S (1 where the row goes that way at all splits by j, else 0) and z_j for the others (the product of the shares),
times v.  Its Shapley value for i is v (o_i - z_i) times the integral over t from 0 to 1 of the product over j other than i of
(z_j (1 - t) + o_j t): a polynomial of degree p - 1, which ceil(p / 2) Gauss-Legendre nodes integrate exactly.  All columns that a
pipeline has made of one input (one-hot) are one player, so that what an input contributes is exact too, not a sum over its parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dbml.engines.explain.linear import Explain, Explained, Matrix
from dbml.engines.explain.steps import NotTraceable


@dataclass
class Tree:
    """Arrays by node: children are -1 at leaves.  value: (nodes, outputs); single: compare features as float32."""

    feature: npt.NDArray[np.int64]
    threshold: Matrix
    left: npt.NDArray[np.int64]
    right: npt.NDArray[np.int64]
    missing_left: npt.NDArray[np.bool_]
    cover: Matrix
    value: Matrix
    single: bool


def explainer(estimator: Any) -> Explain | None:
    """Return the function that explains a fitted tree or ensemble of trees; None where it is none.

    Raises: NotTraceable for one that splits by categories, begins from another model, or predicts several targets.
    """
    if not type(estimator).__module__.startswith("sklearn."):
        return None
    name = type(estimator).__name__
    if name in ("DecisionTreeRegressor", "ExtraTreeRegressor", "DecisionTreeClassifier", "ExtraTreeClassifier"):
        found = _forest([estimator])
    elif name in ("RandomForestRegressor", "ExtraTreesRegressor", "RandomForestClassifier", "ExtraTreesClassifier"):
        found = _forest(estimator.estimators_)
    elif name in ("GradientBoostingRegressor", "GradientBoostingClassifier"):
        found = _boosted(estimator)
    elif name in ("HistGradientBoostingRegressor", "HistGradientBoostingClassifier"):
        found = _histogram(estimator)
    else:
        return None
    members, start, scale = found

    def explain(values: Matrix, players: Sequence[int | None], width: int) -> Explained:
        contributions = np.zeros((len(values), width, len(start)))
        baseline = start.copy()
        for tree in members:
            _add(tree, values, players, contributions, baseline)
        return contributions, baseline, scale, "trees"

    return explain


def _add(tree: Tree, values: Matrix, players: Sequence[int | None], contributions: Matrix, baseline: Matrix) -> None:
    """Add one tree's Shapley values to contributions (n, columns, outputs) and its expectation to baseline, in place."""
    inner = np.flatnonzero(tree.left >= 0)
    goes_left = np.zeros((len(tree.left), len(values)), dtype=bool)
    with np.errstate(over="ignore"):
        for split in inner:
            column = values[:, tree.feature[split]]
            compared = column.astype(np.float32) if tree.single else column
            goes_left[split] = np.where(np.isnan(column), tree.missing_left[split], compared <= tree.threshold[split])
    stack: list[tuple[int, dict[int | None, tuple[float, Any]]]] = [(0, {})]
    while stack:
        node, path = stack.pop()
        if tree.left[node] < 0:
            _leaf(path, tree.value[node], contributions, baseline)
            continue
        player = players[tree.feature[node]]
        share, follows = path.get(player, (1.0, None))
        for child, way in ((tree.left[node], goes_left[node]), (tree.right[node], ~goes_left[node])):
            part = tree.cover[child] / tree.cover[node] if tree.cover[node] > 0 else 0.5
            stack.append((int(child), {**path, player: (share * part, way if follows is None else follows & way)}))


def _leaf(path: dict[int | None, tuple[float, Any]], value: Matrix, contributions: Matrix, baseline: Matrix) -> None:
    constant = path.get(None)
    if constant is not None:  # a column that is the same for every row: known in any case
        path = {player: found for player, found in path.items() if player is not None}
        if not constant[1].any():
            return
    if not path:
        baseline += value
        return
    shares = np.array([share for share, _ in path.values()])
    baseline += value * shares.prod()
    follows = np.array([way for _, way in path.values()], dtype=float)  # (p, n)
    nodes, weights = np.polynomial.legendre.leggauss((len(path) + 1) // 2)
    total = np.zeros_like(follows)
    for t, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        factors = shares[:, None] * (1 - t) + follows * t
        factors[factors == 0] = 1e-300  # a share of nothing: what is divided by it is multiplied by 0 below
        total += weight * factors.prod(axis=0) / factors
    total *= follows - shares[:, None]
    for k, player in enumerate(path):
        assert player is not None
        contributions[:, player, :] += total[k][:, None] * value[None, :]


def _read(tree: Any, value: Matrix) -> Tree:
    missing = getattr(tree, "missing_go_to_left", None)
    return Tree(
        np.asarray(tree.feature, np.int64), np.asarray(tree.threshold, float), np.asarray(tree.children_left, np.int64),
        np.asarray(tree.children_right, np.int64),
        np.zeros(tree.node_count, bool) if missing is None else np.asarray(missing).astype(bool),
        np.asarray(tree.weighted_n_node_samples, float), value, single=True,
    )  # fmt: skip


def _forest(estimators: Sequence[Any]) -> tuple[list[Tree], Matrix, str]:
    members = []
    for estimator in estimators:
        if estimator.n_outputs_ > 1:
            raise NotTraceable("it predicts several targets")
        value = np.asarray(estimator.tree_.value[:, 0, :], float)
        if hasattr(estimator, "classes_"):
            value = value / value.sum(axis=1, keepdims=True)
        members.append(_read(estimator.tree_, value / len(estimators)))
    classifies = hasattr(estimators[0], "classes_")
    return members, np.zeros(members[0].value.shape[1]), "probability" if classifies else "prediction"


def _boosted(estimator: Any) -> tuple[list[Tree], Matrix, str]:
    if estimator.init not in (None, "zero"):
        raise NotTraceable("it begins from another model")
    # The prior does not look at the row.
    start = np.ravel(estimator._raw_predict_init(np.zeros((1, estimator.n_features_in_)))).astype(float)
    outputs = estimator.estimators_.shape[1]
    members = []
    for stage in estimator.estimators_:
        for k, one in enumerate(stage):
            value = np.zeros((one.tree_.node_count, outputs))
            value[:, k] = estimator.learning_rate * one.tree_.value[:, 0, 0]
            members.append(_read(one.tree_, value))
    return _per_class(members, start, hasattr(estimator, "classes_"), "prediction")


def _histogram(estimator: Any) -> tuple[list[Tree], Matrix, str]:
    if estimator._preprocessor is not None:
        raise NotTraceable("it splits by categories")
    outputs = estimator.n_trees_per_iteration_
    members = []
    for stage in estimator._predictors:
        for k, predictor in enumerate(stage):
            nodes = predictor.nodes
            leaf = nodes["is_leaf"].astype(bool)
            value = np.zeros((len(nodes), outputs))
            value[:, k] = nodes["value"]
            members.append(Tree(
                nodes["feature_idx"].astype(np.int64), nodes["num_threshold"].astype(float),
                np.where(leaf, -1, nodes["left"].astype(np.int64)), np.where(leaf, -1, nodes["right"].astype(np.int64)),
                nodes["missing_go_to_left"].astype(bool), nodes["count"].astype(float), value, single=False,
            ))  # fmt: skip
    classifies = hasattr(estimator, "classes_")
    link = type(estimator._loss.link).__name__
    return _per_class(
        members, np.ravel(estimator._baseline_prediction).astype(float), classifies, "log" if link == "LogLink" else "prediction"
    )


def _per_class(members: list[Tree], start: Matrix, classifies: bool, scale: str) -> tuple[list[Tree], Matrix, str]:
    """Give a binary classifier its second output: what speaks for one class speaks against the other."""
    if not classifies:
        return members, start, scale
    if len(start) == 1:
        for tree in members:
            tree.value = np.hstack([-tree.value, tree.value])
        start = np.array([-start[0], start[0]])
    return members, start, "log-odds"
