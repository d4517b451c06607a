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
    plain = [float(value) if isinstance(value, bool) else value for value in values.tolist()]
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
        elif not text and isinstance(value, int | float):
            made.append(column.expr.equals(float(value)))
        else:
            raise compiler.refusal(f"a category of type {type(value).__name__} in a column of {'text' if text else 'numbers'}")
    compiler.check(2 * len(made))
    return made


def one_hot(compiler: Compiler, estimator: Any, columns: Sequence[Column]) -> list[Column]:
    """OneHotEncoder; an unknown category that it would raise at leaves the row to the model."""
    compiler.no_infinity([column for column in columns if column.expr.kind == "float"])
    dropping = getattr(estimator, "_drop_idx_after_grouping", None)
    if dropping is None:
        dropping = estimator.drop_idx_
    made = []
    for i, column in enumerate(columns):
        conditions = categories_of(compiler, estimator.categories_[i], column)
        groups = _groups(estimator, i, len(conditions))
        if estimator.handle_unknown not in ("ignore", "infrequent_if_exist", "warn"):
            _known(compiler, conditions)
        dropped = None if dropping is None else dropping[i]
        rare = max(groups) if _infrequent(estimator, i) else None
        for group in range(max(groups) + 1):
            if group == dropped:
                continue
            own = [condition for condition, of in zip(conditions, groups, strict=True) if of == group]
            if group == rare and estimator.handle_unknown != "ignore":  # with the unknown ones: what is none of the others
                others = [condition for condition, of in zip(conditions, groups, strict=True) if of != group]
                cell: Expr = Case(((either(others), Const(0.0)),), Const(1.0)) if others else Const(1.0)
            else:
                cell = Case(((either(own), Const(1.0)),), Const(0.0))
            made.append(Column(cell))
    return made


def _infrequent(estimator: Any, i: int) -> bool:
    """Tell whether a feature has categories that share a column because they are rare."""
    return bool(getattr(estimator, "_infrequent_enabled", False)) and estimator._default_to_infrequent_mappings[i] is not None


def _groups(estimator: Any, i: int, count: int) -> list[int]:
    """Return the number of the column that each category goes to."""
    return [int(of) for of in estimator._default_to_infrequent_mappings[i]] if _infrequent(estimator, i) else list(range(count))


def ordinal(compiler: Compiler, estimator: Any, columns: Sequence[Column]) -> list[Column]:
    """OrdinalEncoder."""
    compiler.no_infinity([column for column in columns if column.expr.kind == "float"])
    made = []
    for i, (column, values) in enumerate(zip(columns, estimator.categories_, strict=True)):
        conditions = categories_of(compiler, values, column)
        branches: list[tuple[Expr, Expr]] = []
        for k, condition in zip(_groups(estimator, i, len(conditions)), conditions, strict=True):
            code = float(estimator.encoded_missing_value) if isinstance(condition, Missing) else float(k)
            branches.append((condition, Const(code)))
        if estimator.handle_unknown == "use_encoded_value":
            made.append(Column(Case(tuple(branches), Const(float(estimator.unknown_value)))))
        else:
            _known(compiler, conditions)
            made.append(Column(Case(tuple(branches), Const(float("nan")))))
    return made


def either(conditions: Sequence[Expr]) -> Expr:
    """Join conditions by or."""
    found = conditions[0]
    for condition in conditions[1:]:
        found = Binary("or", found, condition)
    return found


def _known(compiler: Compiler, conditions: Sequence[Expr]) -> None:
    compiler.guard(either(conditions))


def is_text(categories: Any) -> bool:
    """Tell whether an encoder's categories are text."""
    return any(isinstance(value, str) for value in np.asarray(categories, dtype=object).tolist())


TRANSFORMERS = {"sklearn.OneHotEncoder": one_hot, "sklearn.OrdinalEncoder": ordinal}
