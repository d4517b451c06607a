"""The compiler's parts that need no database: thresholds of float32, what steps are kept, how floats are written."""

from __future__ import annotations

import re

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from dbml import errors
from dbml.engines.python import PythonEngine
from dbml.engines.sql import compile_model
from dbml.engines.sql.blocks import cut
from dbml.engines.sql.expressions import Guard, Input, Let, Program, Sum, Tree, Var, call, prune
from dbml.engines.sql.render import Renderer, number
from dbml.engines.sql.trees import float32_limits


@given(st.floats(-1e37, 1e37), st.floats(-1e37, 1e37))
def test_a_limit_decides_as_float32_against_the_threshold(threshold: float, x: float) -> None:
    (limit,) = float32_limits(np.array([threshold]))
    single = np.float32(threshold)
    near = [x, threshold, float(single), float(np.nextafter(single, np.float32(np.inf))), limit]
    for value in near:
        for beside in (value, float(np.nextafter(value, np.inf)), float(np.nextafter(value, -np.inf))):
            assert (np.float64(np.float32(beside)) <= threshold) == (beside <= limit), (threshold, beside)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_is_written_with_the_digits_that_read_back(value: float) -> None:
    text = number(value)
    assert float(text.removeprefix("'").removesuffix("'::float8")) == value


def test_steps_that_the_result_does_not_need_are_dropped() -> None:
    kept, other = Var(1), Var(2)
    steps = [Let(kept, Input(0) * 2.0), Let(other, call("exp", Input(0))), Guard(kept > 0.0)]
    assert prune(Program(list(steps), kept + 1.0)).steps == [steps[0], steps[2]]


def test_a_linear_model_is_one_expression_that_names_each_input_once() -> None:
    model = make_pipeline(StandardScaler(), Ridge()).fit(np.eye(4), np.arange(4.0))
    (body,) = [f.body for f in compile_model(PythonEngine(model)).functions if f.form == "set"]
    assert body.language == "sql"  # so PostgreSQL can inline it
    assert sorted(re.findall(r"\bc[0-9]+\b", body.text)) == ["c1", "c2", "c3", "c4"]


def test_long_sums_are_not_deep() -> None:
    text = Renderer(array=False, walk=0).expr(Sum(tuple(Input(i) for i in range(4000))))
    deepest = depth = 0
    for mark in text:
        depth += (mark == "(") - (mark == ")")
        deepest = max(deepest, depth)
    assert deepest <= 4 and text.count("c") == 4000


def test_a_subclass_is_not_taken_for_its_parent() -> None:
    class Mine(Ridge):
        pass

    with pytest.raises(errors.NotCompiled, match="no translator"):
        compile_model(PythonEngine(Mine().fit([[0.0], [1.0]], [0.0, 1.0])))


def grown(seed: int, most: int) -> Tree:
    """Grow a tree at random: a leaf alone, lopsided or bushy; the value of a leaf is its number."""
    random = np.random.default_rng(seed)
    left, right = [-1], [-1]
    leaves = [0]
    for _ in range(int(random.integers(0, most))):
        node = leaves.pop(int(random.integers(len(leaves))) if seed % 2 else -1)
        left[node], right[node] = len(left), len(left) + 1
        leaves += [len(left), len(left) + 1]
        left += [-1, -1]
        right += [-1, -1]
    n = len(left)
    feature = np.where(np.array(left) < 0, -2, random.integers(0, 3, n))
    return Tree(
        feature, random.random(n), np.array(left), np.array(right), random.random(n) < 0.5, np.arange(float(n))[:, None]
    )  # fmt: skip


def descend(tree: Tree, row: list[float | None]) -> float:
    node = 0
    while tree.left[node] >= 0:
        x = row[tree.feature[node]]
        goes_left = bool(tree.missing_left[node]) if x is None else x <= tree.threshold[node]
        node = int(tree.left[node] if goes_left else tree.right[node])
    return float(tree.value[node, 0])


@given(st.lists(st.tuples(st.integers(0, 10_000), st.sampled_from([1, 2, 40])), min_size=1, max_size=4), st.integers(0, 10_000))
def test_a_walk_by_blocks_ends_at_the_leaf_of_a_walk_by_nodes(kinds: list[tuple[int, int]], seed: int) -> None:
    trees = [grown(*kind) for kind in kinds]
    blocks = cut(trees)
    row = [None if x < 0.2 else float(x) for x in np.random.default_rng(seed).random(3)]
    bits = [
        limits.missing_left if x is None else x <= threshold
        for limits in blocks.limits
        for x in [row[limits.feature]]
        for threshold in limits.thresholds
    ]
    for t, tree in enumerate(trees):
        n = t + 1
        while n > 0:
            place = 0
            while place < blocks.bit.shape[1]:
                place = 2 * place + (1 if bits and bits[blocks.bit[n - 1, place]] else 2)
            n = int(blocks.child[n - 1, place - blocks.bit.shape[1]])
        assert blocks.value[-n - 1, 0] == descend(tree, row)
    assert len(blocks.value) == sum(int((tree.left < 0).sum()) for tree in trees)
