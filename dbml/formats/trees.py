"""Trees: check the numbers by which scikit-learn's compiled code finds its way in a tree, before it uses them.

A file of format safe can hold any numbers, and scikit-learn trusts a tree's: a child that is not there is read all the
same.  With these checked, the types of trees are as good as those that skops trusts by itself.

Source: scikit-learn, sklearn/tree/_tree.pyx (_apply_dense), sklearn/ensemble/_hist_gradient_boosting/_predictor.pyx.
"""

from __future__ import annotations

import gc
import types
from collections.abc import Iterator
from typing import Any

import numpy as np

from dbml import errors

CHECKED = ("sklearn.tree._tree.Tree", "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor")
_PLAIN = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, str, bytes, int, float)


def check_trees(model: Any) -> None:
    """Check every tree that a model reaches.

    Raises: errors.ModelLoadError where one would lead astray.
    """
    for held in _reachable(model):
        kind = f"{type(held).__module__}.{type(held).__qualname__}"
        if kind == CHECKED[0]:
            _check_tree(held)
        elif kind == CHECKED[1]:
            _check_predictor(held)
        else:
            _check_holder(held)


def _reachable(model: Any) -> Iterator[Any]:
    """Yield every object that a model holds, directly or through others; classes and functions are not the model's."""
    seen = {id(model)}
    waiting = [model]
    while waiting:
        held = waiting.pop()
        yield held
        referents = held.ravel().tolist() if isinstance(held, np.ndarray) and held.dtype == object else gc.get_referents(held)
        for inner in referents:
            if id(inner) not in seen and not isinstance(inner, _PLAIN):
                seen.add(id(inner))
                waiting.append(inner)


def _check_tree(tree: Any) -> None:
    count = tree.node_count
    left, right, feature = np.asarray(tree.children_left), np.asarray(tree.children_right), np.asarray(tree.feature)
    leaf = left == -1
    own = np.arange(count)
    good = leaf | ((left > own) & (left < count) & (right > own) & (right < count) & (feature >= 0) & (feature < tree.n_features))
    if count < 1 or len(left) != count or not good.all() or len(tree.value) != count:
        raise errors.ModelLoadError("a tree of the model names nodes or features that are not there")


def _check_predictor(predictor: Any) -> None:
    nodes = predictor.nodes
    try:
        leaf = nodes["is_leaf"] != 0
        left, right, feature = nodes["left"].astype(np.int64), nodes["right"].astype(np.int64), nodes["feature_idx"]
        category, sets = nodes["bitset_idx"].astype(np.int64), nodes["is_categorical"] != 0
    except (TypeError, ValueError, IndexError):
        raise errors.ModelLoadError("a tree of the model has no nodes as they should be") from None
    count, own = len(nodes), np.arange(len(nodes))
    good = leaf | ((left > own) & (left < count) & (right > own) & (right < count) & (feature >= 0))
    known = min(len(predictor.raw_left_cat_bitsets), len(predictor.binned_left_cat_bitsets))
    good &= leaf | ~sets | (category < known)
    if count < 1 or nodes.ndim != 1 or not good.all():
        raise errors.ModelLoadError("a tree of the model names nodes or features that are not there")


def _check_holder(held: Any) -> None:
    """Check that what hands rows to a tree hands as many features as the tree looks at."""
    own = getattr(held, "__dict__", None)
    if not isinstance(own, dict):
        return
    width = own.get("n_features_in_")
    tree = own.get("tree_")
    if tree is not None and hasattr(tree, "n_features") and tree.n_features != width:
        raise errors.ModelLoadError(f"a tree of the model looks at {tree.n_features} features, its estimator at {width}")
    members = own.get("estimators_")
    if isinstance(members, list | np.ndarray):
        for member in members.ravel().tolist() if isinstance(members, np.ndarray) else members:
            inner = getattr(member, "n_features_in_", width)
            if isinstance(inner, int) and isinstance(width, int) and inner > width:
                raise errors.ModelLoadError(f"a member of the model looks at {inner} features, the model at {width}")
    predictors = own.get("_predictors")
    if isinstance(predictors, list):
        for predictor in (one for several in predictors for one in several):
            nodes = getattr(predictor, "nodes", None)
            if nodes is not None and len(nodes) and int(nodes["feature_idx"].max()) >= (width or 0):
                raise errors.ModelLoadError("a tree of the model names features that are not there")
