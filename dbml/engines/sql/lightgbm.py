"""LightGBM: float64 features against float64 thresholds; what a missing value is, each node says for itself.

https://lightgbm.readthedocs.io/en/stable/Advanced-Topics.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dbml.engines.sql.boosting import classified
from dbml.engines.sql.compiler import Column, Compiler, Prediction
from dbml.engines.sql.expressions import Case, Choice, Const, Expr, Tree, call
from dbml.engines.sql.trees import whole_codes

_CATEGORICAL, _DEFAULT_LEFT = 1, 2  # bits of a node's decision_type; two more hold the type of missing values
_ZERO, _NAN = 1, 2
_NOTHING = float(np.float32(1e-35))  # kZeroThreshold: what is no further from 0 is read as 0
_IDENTITY = frozenset({"regression", "regression_l1", "huber", "fair", "quantile", "mape", "lambdarank", "rank_xendcg"})
_EXPONENTIAL = frozenset({"poisson", "gamma", "tweedie"})


def raw_scores(compiler: Compiler, estimator: Any, columns: Sequence[Column]) -> tuple[list[str], list[Expr]]:
    """Return the words of the objective, and what the trees add up to, one a class."""
    booster = estimator.booster_
    if getattr(booster, "pandas_categorical", None):
        raise compiler.refusal("categories of a DataFrame, which rows of SQL do not bring along")
    compiler.need_floats(columns)
    head, trees = _sections(booster.model_to_string())
    groups = int(head["num_tree_per_iteration"])
    found: list[list[Tree]] = [[] for _ in range(groups)]
    for i, tree in enumerate(trees):
        compiler.check()
        found[i % groups].append(_read(compiler, tree))
    whole_codes(compiler, columns, [tree for trees_ in found for tree in trees_])
    sums: list[Expr] = []
    for trees_ in found:
        (added,) = compiler.forest(trees_, columns, 1, allow_missing=True)
        sums.append(compiler.let(added / float(len(trees_))) if "average_output" in head else added)
    return head.get("objective", "").split(), sums


def _sections(text: str) -> tuple[dict[str, str], list[dict[str, str]]]:
    """Read a model's text: what is said of it, and of each tree."""
    head: dict[str, str] = {}
    trees: list[dict[str, str]] = []
    here = head
    for line in text.splitlines():
        if line == "end of trees":
            break
        if line.startswith("Tree="):
            here = {}
            trees.append(here)
        name, _, value = line.partition("=")
        here[name] = value
    return head, trees


def _numbers(tree: Mapping[str, str], name: str, kind: Any = np.int64) -> npt.NDArray[Any]:
    return np.array(tree.get(name, "").split(), dtype=kind)


def _read(compiler: Compiler, tree: Mapping[str, str]) -> Tree:
    if tree.get("is_linear", "0") != "0":
        raise compiler.refusal("linear_tree=True")
    leaf = _numbers(tree, "leaf_value", float)
    feature, decision = _numbers(tree, "split_feature"), _numbers(tree, "decision_type")
    inner = len(feature)

    def child(name: str) -> npt.NDArray[Any]:
        numbers = _numbers(tree, name)  # a leaf is ~its number
        return np.concatenate([np.where(numbers >= 0, numbers, inner + ~numbers), np.full(len(leaf), -1)]).astype(np.int64)

    threshold = _numbers(tree, "threshold", float)
    missing = decision >> 2 & 3
    categorical = decision & _CATEGORICAL == 1
    if (missing[~categorical] == _ZERO).any():
        raise compiler.refusal("zero_as_missing=True")
    near = (np.abs(threshold) <= _NOTHING) & ~categorical
    threshold = np.where(near, np.where(threshold < 0, np.nextafter(-_NOTHING, -np.inf), _NOTHING), threshold)
    # Where training saw no missing value, one counts as 0; a category that is missing goes right.
    left = np.where(missing == _NAN, decision & _DEFAULT_LEFT != 0, threshold >= 0.0) & ~categorical
    boundaries, bits = _numbers(tree, "cat_boundaries"), _numbers(tree, "cat_threshold")
    categories = {}
    for node in np.flatnonzero(categorical):
        which = int(threshold[node])
        words = bits[boundaries[which] : boundaries[which + 1]]
        listed = tuple(float(code) for code in range(32 * len(words)) if int(words[code // 32]) >> (code % 32) & 1)
        categories[int(node)] = Choice(listed, (), other_left=False)
    nothing = np.zeros(len(leaf))
    return Tree(
        np.concatenate([feature, nothing - 1]).astype(np.int64), np.concatenate([threshold, nothing]), child("left_child"),
        child("right_child"), np.concatenate([left, nothing]).astype(bool), np.concatenate([np.zeros(inner), leaf])[:, None],
        categories,
    )  # fmt: skip


def regressor(compiler: Compiler, estimator: Any, columns: Sequence[Column]) -> Prediction:
    """LGBMRegressor, LGBMRanker."""
    objective, scores = raw_scores(compiler, estimator, columns)
    name = objective[0] if objective else "none"
    if len(scores) != 1:
        raise compiler.refusal("several outputs")
    (score,) = scores
    if name in _EXPONENTIAL:
        return Prediction(call("exp", score))
    if name not in _IDENTITY:
        raise compiler.refusal(f"objective={name!r}")
    if "sqrt" in objective[1:]:
        score = compiler.let(score)
        return Prediction(Case(((score < 0.0, -(score * score)),), score * score))
    return Prediction(score)


def classifier(compiler: Compiler, estimator: Any, columns: Sequence[Column]) -> Prediction:
    """LGBMClassifier."""
    labels = compiler.labels(np.asarray(estimator.classes_))
    objective, scores = raw_scores(compiler, estimator, columns)
    settings = dict(word.partition(":")[::2] for word in objective[1:])
    name = objective[0] if objective else "none"
    if name == "binary" and len(scores) == 1 and len(labels) == 2:
        slope = float(settings.get("sigmoid", 1))
        scaled = scores[0] if slope == 1.0 else compiler.let(scores[0] * slope)
        chance = compiler.let(compiler.sigmoid(scaled))
        # Of two that are equal the first.
        value = compiler.by_sign(scores[0], labels[0], labels[1])
        return Prediction(value, proba=[Const(1.0) - chance, chance], scores=scores, classes=labels)
    if name == "multiclass" and len(scores) == len(labels):
        return classified(compiler, labels, scores)
    raise compiler.refusal(f"objective={name!r} with {len(labels)} classes")


PREDICTORS = {
    "lightgbm.LGBMRegressor": regressor,
    "lightgbm.LGBMRanker": regressor,
    "lightgbm.LGBMClassifier": classifier,
}
