"""XGBoost: float32 features against float32 thresholds, added up in float32, tree by tree.

A compiled sum is in float4 too, in the model's order, so that it is the same float.  Where the objective has a curve, the
model takes expf, whose last bit no rounding of exp gives for certain: such answers are compared to that bit.
https://xgboost.readthedocs.io/en/stable/tutorials/saving_model.html
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dbml.engines.sql.compiler import SINGLE_TIE, SINGLE_TOLERANCE, Column, Compiler, Prediction
from dbml.engines.sql.expressions import Binary, Case, Cast, Choice, Const, Expr, Sum, Tree, call
from dbml.engines.sql.trees import float32_limits, open_columns, whole_codes

_IDENTITY = frozenset(
    {"reg:squarederror", "reg:squaredlogerror", "reg:absoluteerror", "reg:pseudohubererror", "reg:quantileerror",
     "rank:ndcg", "rank:map", "rank:pairwise"}
)  # fmt: skip
_EXPONENTIAL = frozenset({"count:poisson", "reg:gamma", "reg:tweedie"})
_LOGISTIC = frozenset({"binary:logistic", "reg:logistic"})


def margins(compiler: Compiler, estimator: Any, columns: Sequence[Column]) -> tuple[str, list[Expr]]:
    """Return the objective, and what the trees add up to, one a class."""
    missing = getattr(estimator, "missing", np.nan)
    if missing is not None and not np.isnan(missing):
        raise compiler.refusal(f"missing={missing!r}")
    booster = estimator.get_booster()
    learner = json.loads(bytes(booster.save_raw(raw_format="json")))["learner"]
    gradient, about = learner["gradient_booster"], learner["learner_model_param"]
    if gradient["name"] != "gbtree":
        raise compiler.refusal(f"booster={gradient['name']!r}")
    model = gradient["model"]
    if int(about.get("num_target", 1)) > 1:
        raise compiler.refusal("several outputs")
    if (model.get("cats") or {}).get("enc"):
        raise compiler.refusal("categories of a DataFrame, which rows of SQL do not bring along")
    objective = str(learner["objective"]["name"])
    first, last = estimator._get_iteration_range(None)
    indptr = model["iteration_indptr"]
    begin, end = indptr[first], indptr[last if last else len(indptr) - 1]
    groups = max(1, int(about["num_class"]))
    starts = np.broadcast_to(_starts(about["base_score"], objective), (groups,))
    open_columns(compiler, columns, missing=True)
    found: list[list[Tree]] = [[] for _ in range(groups)]
    for group, tree in list(zip(model["tree_info"], model["trees"], strict=True))[begin:end]:
        compiler.check()
        if int(tree["tree_param"].get("size_leaf_vector", 0)) > 1:
            raise compiler.refusal("trees of several outputs")
        found[group].append(_read(tree))
    whole_codes(compiler, columns, [tree for trees in found for tree in trees])
    sums: list[Expr] = []
    for trees, start in zip(found, starts, strict=True):
        sums += compiler.forest(trees, columns, 1, allow_missing=True, starts=(float(start),))
    return objective, sums


def _starts(base_score: Any, objective: str) -> Any:
    """Return the margins before the first tree, float32: what is stored is on the scale of predictions."""
    given = np.atleast_1d(np.asarray(json.loads(base_score) if isinstance(base_score, str) else base_score, dtype=np.float32))
    with np.errstate(divide="ignore"):
        if objective in _LOGISTIC:
            return -np.log(np.float32(1.0) / given - np.float32(1.0))
        return np.log(given) if objective in _EXPONENTIAL else given


def _read(tree: Mapping[str, Any]) -> Tree:
    left = np.asarray(tree["left_children"], dtype=np.int64)
    inner = left >= 0
    conditions = np.asarray(tree["split_conditions"], dtype=np.float32)
    threshold = np.zeros(len(left))
    # Left of it is what is less: not greater than the float32 before it.
    threshold[inner] = float32_limits(np.nextafter(conditions[inner], np.float32(-np.inf)).astype(np.float64))
    categories = {}
    for node, begin, size in zip(
        tree["categories_nodes"], tree["categories_segments"], tree["categories_sizes"], strict=True
    ):  # fmt: skip
        listed = tuple(float(code) for code in tree["categories"][begin : begin + size])
        categories[int(node)] = Choice((), listed, other_left=True)
    return Tree(
        np.where(inner, np.asarray(tree["split_indices"], dtype=np.int64), -1), threshold, left,
        np.asarray(tree["right_children"], dtype=np.int64), np.asarray(tree["default_left"]).astype(bool),
        conditions.astype(float)[:, None], categories,
    )  # fmt: skip


def single(expr: Expr) -> Expr:
    """Round to float32, and go on with that."""
    return Cast(Cast(expr, "single"))


def sigmoid(compiler: Compiler, margin: Expr) -> Expr:
    """Return the logistic curve in float32, cut off as XGBoost does."""
    compiler.loosen(SINGLE_TOLERANCE)
    power = compiler.let(single(call("exp", call("least", -margin, float(np.float32(88.7))))))
    return compiler.let(single(Const(1.0) / single(power + 1.0)))


def softmax(compiler: Compiler, scores: Sequence[Expr]) -> list[Expr]:
    """Return exp(scores) normalized, each power and quotient rounded to float32."""
    compiler.loosen(SINGLE_TOLERANCE)
    most = compiler.let(call("greatest", *scores))
    powers: list[Expr] = []
    for score in scores:
        apart = compiler.let(score - most)
        # Below, float32 has nothing but 0, at which PostgreSQL raises.
        powers.append(compiler.let(Case(((apart < -103.0, Const(0.0)),), single(call("exp", single(apart))))))
    whole = compiler.let(single(Sum(tuple(powers))))
    return [single(power / whole) for power in powers]


def regressor(compiler: Compiler, estimator: Any, columns: Sequence[Column]) -> Prediction:
    """XGBRegressor, XGBRFRegressor, XGBRanker."""
    objective, scores = margins(compiler, estimator, columns)
    if len(scores) != 1:
        raise compiler.refusal("several outputs")
    if objective in _IDENTITY:
        return Prediction(scores[0])
    if objective in _EXPONENTIAL:
        compiler.loosen(SINGLE_TOLERANCE)
        return Prediction(single(call("exp", scores[0])))
    if objective in _LOGISTIC:
        return Prediction(sigmoid(compiler, scores[0]))
    raise compiler.refusal(f"objective={objective!r}")


def classifier(compiler: Compiler, estimator: Any, columns: Sequence[Column]) -> Prediction:
    """XGBClassifier, XGBRFClassifier."""
    labels = compiler.labels(np.asarray(estimator.classes_))
    objective, scores = margins(compiler, estimator, columns)
    if objective == "binary:logistic" and len(scores) == 1 and len(labels) == 2:
        chance = sigmoid(compiler, scores[0])
        value = compiler.by_sign(scores[0], labels[0], labels[1], SINGLE_TIE)
        return Prediction(value, proba=[single(Const(1.0) - chance), chance], scores=scores, classes=labels)
    if objective == "multi:softprob" and len(scores) == len(labels):
        return Prediction(_first(compiler, labels, scores), proba=softmax(compiler, scores), scores=scores, classes=labels)
    raise compiler.refusal(f"objective={objective!r} with {len(labels)} classes")


def _first(compiler: Compiler, labels: Sequence[Any], scores: Sequence[Expr]) -> Expr:
    """Return the first label of the largest score; where another is less by so little that float32 might not tell, nothing."""
    most = compiler.let(call("greatest", *scores))
    near = compiler.let(most - SINGLE_TIE)
    label = Case(
        tuple((score.equals(most), Const(one)) for score, one in zip(scores[:-1], labels[:-1], strict=True)), Const(labels[-1])
    )
    beside = Sum(
        tuple(Case(((Binary("and", score >= near, score < most), Const(1.0)),), Const(0.0)) for score in scores)
    )  # fmt: skip
    return Case(((beside.equals(0.0), label),))


PREDICTORS = {
    "xgboost.XGBRegressor": regressor,
    "xgboost.XGBRFRegressor": regressor,
    "xgboost.XGBRanker": regressor,
    "xgboost.XGBClassifier": classifier,
    "xgboost.XGBRFClassifier": classifier,
}
