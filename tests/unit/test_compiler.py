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
from dbml.engines.sql.expressions import Guard, Input, Let, Program, Sum, Var, call, prune
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
