"""Scalers: one column at a time, missing values pass through.

https://scikit-learn.org/stable/modules/preprocessing.html
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dbml.engines.sql.compiler import Column, Compiler
from dbml.engines.sql.expressions import Case, Const, Expr, Missing, Sum, call


def _open(compiler: Compiler, columns: Sequence[Column]) -> None:
    compiler.need_floats(columns)
    compiler.no_infinity(columns)
    compiler.check(2 * len(columns))


def standard(compiler: Compiler, estimator: Any, columns: Sequence[Column]) -> list[Column]:
    """StandardScaler."""
    _open(compiler, columns)
    mean = estimator.mean_ if estimator.with_mean else None
    compiler.spans(columns, estimator.mean_, None if estimator.scale_ is None else 3 * estimator.scale_)
    return _shifted(columns, mean, estimator.scale_ if estimator.with_std else None)


def robust(compiler: Compiler, estimator: Any, columns: Sequence[Column]) -> list[Column]:
    """RobustScaler."""
    _open(compiler, columns)
    compiler.spans(columns, estimator.center_, None if estimator.scale_ is None else 3 * np.asarray(estimator.scale_))
    return _shifted(columns, estimator.center_ if estimator.with_centering else None,
                    estimator.scale_ if estimator.with_scaling else None)  # fmt: skip


def max_abs(compiler: Compiler, estimator: Any, columns: Sequence[Column]) -> list[Column]:
    """MaxAbsScaler."""
    if getattr(estimator, "clip", False):
        raise compiler.refusal("clip")
    _open(compiler, columns)
    compiler.spans(columns, None, estimator.scale_)
    return _shifted(columns, None, estimator.scale_)


def min_max(compiler: Compiler, estimator: Any, columns: Sequence[Column]) -> list[Column]:
    """MinMaxScaler."""
    _open(compiler, columns)
    compiler.spans(columns, (estimator.data_max_ + estimator.data_min_) / 2, estimator.data_range_ / 2)
    made = []
    for column, scale, low in zip(columns, estimator.scale_, estimator.min_, strict=True):
        expr: Expr = column.expr * float(scale) + float(low)
        if estimator.clip:
            compiler.bar_infinity([column])
            expr = compiler.let(expr)
            first, last = map(float, estimator.feature_range)
            # greatest and least skip NULL: a missing value must stay one.
            expr = Case(((Missing(expr), expr),), call("least", call("greatest", expr, first), last))
        made.append(Column(expr, column.roots))
    return made


def _shifted(columns: Sequence[Column], mean: Any, scale: Any) -> list[Column]:
    made = []
    for i, column in enumerate(columns):
        expr = column.expr
        if mean is not None:
            expr = expr - float(mean[i])
        if scale is not None:
            expr = expr / float(scale[i])
        made.append(Column(expr, column.roots))
    return made


def normalizer(compiler: Compiler, estimator: Any, columns: Sequence[Column]) -> list[Column]:
    """Scale each row to length 1, as Normalizer."""
    compiler.need_floats(columns)
    compiler.need_finite(columns)
    cells = [compiler.let(column.expr) for column in columns]
    match estimator.norm:
        case "l2":
            norm = call("sqrt", Sum(tuple(cell * cell for cell in cells)))
        case "l1":
            norm = Sum(tuple(call("abs", cell) for cell in cells))
        case _:
            norm = call("greatest", *(call("abs", cell) for cell in cells))
    norm = compiler.let(norm)
    norm = compiler.let(Case(((norm.equals(0.0), Const(1.0)),), norm))
    return [Column(cell / norm) for cell in cells]


def binarizer(compiler: Compiler, estimator: Any, columns: Sequence[Column]) -> list[Column]:
    """Binarizer."""
    compiler.need_floats(columns)
    compiler.need_finite(columns)
    for column in columns:
        compiler.cut(column, float(estimator.threshold))
    return [Column(Case(((column.expr > float(estimator.threshold), Const(1.0)),), Const(0.0))) for column in columns]


_KNOWN: dict[Any, Callable[[Compiler, Expr], Expr]] = {
    np.log1p: lambda c, x: Case(((c.let(x + 1.0).equals(1.0), x),), _log1p(c, x)),
    np.log: lambda c, x: call("ln", x),
    np.log10: lambda c, x: call("log10", x),
    np.exp: lambda c, x: call("exp", x),
    np.sqrt: lambda c, x: call("sqrt", x),
    np.abs: lambda c, x: call("abs", x),
    np.square: lambda c, x: x * x,
    np.negative: lambda c, x: -x,
    np.tanh: lambda c, x: call("tanh", x),
}


def _log1p(compiler: Compiler, x: Expr) -> Expr:
    """Return log(1 + x) without losing what 1 + x rounds away (Goldberg 1991, theorem 4)."""
    one_more = compiler.let(x + 1.0)
    return x * call("ln", one_more) / (one_more - 1.0)


def known_function(compiler: Compiler, estimator: Any, columns: Sequence[Column]) -> list[Column]:
    """FunctionTransformer of a known set; PostgreSQL raises where numpy gives NaN, and the row is left to the model."""
    if estimator.kw_args:
        raise compiler.refusal("a FunctionTransformer with kw_args")
    return apply_known(compiler, estimator.func, columns)


def apply_known(compiler: Compiler, function: Any, columns: Sequence[Column]) -> list[Column]:
    """Apply a function of numpy's to each column."""
    if function is None:
        return list(columns)
    known = next((make for each, make in _KNOWN.items() if each is function), None)
    if known is None:
        raise compiler.refusal(f"a FunctionTransformer of {getattr(function, '__name__', type(function).__name__)}")
    compiler.need_floats(columns)
    return [Column(known(compiler, compiler.let(column.expr)), column.roots) for column in columns]


TRANSFORMERS = {
    "sklearn.StandardScaler": standard,
    "sklearn.RobustScaler": robust,
    "sklearn.MaxAbsScaler": max_abs,
    "sklearn.MinMaxScaler": min_max,
    "sklearn.Normalizer": normalizer,
    "sklearn.Binarizer": binarizer,
    "sklearn.FunctionTransformer": known_function,
}
