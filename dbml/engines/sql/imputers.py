"""Imputers: what stands for a missing value, and columns that say where one was.

https://scikit-learn.org/stable/modules/impute.html
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dbml.engines.sql.compiler import Column, Compiler
from dbml.engines.sql.expressions import Case, Const, Expr, Missing


def simple(compiler: Compiler, estimator: Any, columns: Sequence[Column]) -> list[Column]:
    """SimpleImputer, of numbers or of text."""
    if not _is_nan(estimator.missing_values):
        raise compiler.refusal(f"missing_values={estimator.missing_values!r}")
    compiler.no_infinity([column for column in columns if column.expr.kind == "float"])
    made = []
    for column, filling in zip(columns, estimator.statistics_, strict=True):
        if _is_nan(filling) or filling is None:
            if estimator.strategy == "constant" or getattr(estimator, "keep_empty_features", False):
                raise compiler.refusal("a column without a value to put in")
            continue  # a column that was empty in training is dropped
        compiler.check(1)
        constant: Expr = Const(str(filling)) if column.expr.kind == "text" else Const(float(filling))
        made.append(Column(Case(((Missing(column.expr), constant),), column.expr)))
    if getattr(estimator, "indicator_", None) is not None:
        made += indicator(compiler, estimator.indicator_, columns)
    return made


def indicator(compiler: Compiler, estimator: Any, columns: Sequence[Column]) -> list[Column]:
    """MissingIndicator; one that raises on a column that had no missing value in training leaves such rows to the model."""
    if not _is_nan(estimator.missing_values):
        raise compiler.refusal(f"missing_values={estimator.missing_values!r}")
    chosen = [int(i) for i in estimator.features_]
    if estimator.error_on_new and estimator.features == "missing-only":
        compiler.need_finite([column for i, column in enumerate(columns) if i not in set(chosen)])
    return [Column(Case(((Missing(columns[i].expr), Const(1.0)),), Const(0.0))) for i in chosen]


def _is_nan(value: Any) -> bool:
    return isinstance(value, float | np.floating) and bool(np.isnan(value))


TRANSFORMERS = {"sklearn.SimpleImputer": simple, "sklearn.MissingIndicator": indicator}
