"""Projections: principal components and their kin.

https://scikit-learn.org/stable/modules/decomposition.html
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dbml.engines.sql.compiler import Column, Compiler, affine


def principal(compiler: Compiler, estimator: Any, columns: Sequence[Column]) -> list[Column]:
    """PCA: centred before the projection, which loses less than after it, as scikit-learn does."""
    compiler.need_floats(columns)
    compiler.need_finite(columns)
    compiler.spans(columns, estimator.mean_, 3 * np.sqrt(estimator.explained_variance_.max()))
    centred = [Column(compiler.let(column.expr - float(m))) for column, m in zip(columns, estimator.mean_, strict=True)]
    scale = np.ones(len(estimator.components_))
    if estimator.whiten:
        scale = np.maximum(np.sqrt(estimator.explained_variance_), np.finfo(np.float64).eps)
    return _projected(compiler, centred, estimator.components_, scale)


def truncated(compiler: Compiler, estimator: Any, columns: Sequence[Column]) -> list[Column]:
    """TruncatedSVD."""
    compiler.need_floats(columns)
    compiler.need_finite(columns)
    return _projected(compiler, columns, estimator.components_, np.ones(len(estimator.components_)))


def _projected(compiler: Compiler, columns: Sequence[Column], components: Any, scale: Any) -> list[Column]:
    made = []
    for component, length in zip(components, scale, strict=True):
        compiler.check(2 * len(columns))
        expr = affine(columns, component, 0.0)
        made.append(Column(compiler.let(expr if float(length) == 1.0 else expr / float(length))))
    return made


TRANSFORMERS = {"sklearn.PCA": principal, "sklearn.TruncatedSVD": truncated}
