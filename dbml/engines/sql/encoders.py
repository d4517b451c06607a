"""Encoders of categories: one column a category, or one number.

https://scikit-learn.org/stable/modules/preprocessing.html#preprocessing-categorical-features
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dbml.engines.sql.compiler import Column, Compiler
from dbml.engines.sql.expressions import Binary, Case, Const, Expr, Input, Missing


def categories_of(compiler: Compiler, values: Any, column: Column) -> list[Expr]:
    """Return a condition a category: that the column is it.

    Raises: NotCompiled where the categories are not of the column's kind.
    """
    plain = values.tolist()
    if isinstance(column.expr, Input):
        known = [value for value in plain if value is not None and value == value]
        compiler.hints.categories.setdefault(column.expr.position, known)
    text = column.expr.kind == "text"
    made: list[Expr] = []
    for value in plain:
        if value is None or (isinstance(value, float) and value != value):
            made.append(Missing(column.expr))
        elif text and isinstance(value, str):
            if "\\" in value or (value and not value.isprintable()):
                raise compiler.refusal("a category with a backslash or a character that is not printable")
            made.append(column.expr.equals(value))
        elif not text and isinstance(value, int | float) and not isinstance(value, bool):
            made.append(column.expr.equals(float(value)))
        else:
            raise compiler.refusal(f"a category of type {type(value).__name__} in a column of {'text' if text else 'numbers'}")
    compiler.check(2 * len(made))
    return made


def one_hot(compiler: Compiler, estimator: Any, columns: Sequence[Column]) -> list[Column]:
    """OneHotEncoder; an unknown category that it would raise at leaves the row to the model."""
    if getattr(estimator, "_infrequent_enabled", False):
        raise compiler.refusal("infrequent categories")
    compiler.no_infinity([column for column in columns if column.expr.kind == "float"])
    made = []
    for i, column in enumerate(columns):
        conditions = categories_of(compiler, estimator.categories_[i], column)
        if estimator.handle_unknown not in ("ignore", "infrequent_if_exist"):
            _known(compiler, conditions)
        dropped = None if estimator.drop_idx_ is None else estimator.drop_idx_[i]
        made += [Column(Case(((condition, Const(1.0)),), Const(0.0))) for k, condition in enumerate(conditions) if k != dropped]
    return made


def ordinal(compiler: Compiler, estimator: Any, columns: Sequence[Column]) -> list[Column]:
    """OrdinalEncoder."""
    if getattr(estimator, "_infrequent_enabled", False):
        raise compiler.refusal("infrequent categories")
    compiler.no_infinity([column for column in columns if column.expr.kind == "float"])
    made = []
    for column, values in zip(columns, estimator.categories_, strict=True):
        conditions = categories_of(compiler, values, column)
        branches: list[tuple[Expr, Expr]] = []
        for k, condition in enumerate(conditions):
            code = float(estimator.encoded_missing_value) if isinstance(condition, Missing) else float(k)
            branches.append((condition, Const(code)))
        if estimator.handle_unknown == "use_encoded_value":
            made.append(Column(Case(tuple(branches), Const(float(estimator.unknown_value)))))
        else:
            _known(compiler, conditions)
            made.append(Column(Case(tuple(branches), Const(float("nan")))))
    return made


def _known(compiler: Compiler, conditions: Sequence[Expr]) -> None:
    found = conditions[0]
    for condition in conditions[1:]:
        found = Binary("or", found, condition)
    compiler.guard(found)


def is_text(categories: Any) -> bool:
    """Tell whether an encoder's categories are text."""
    return any(isinstance(value, str) for value in np.asarray(categories, dtype=object).tolist())


TRANSFORMERS = {"sklearn.OneHotEncoder": one_hot, "sklearn.OrdinalEncoder": ordinal}
