"""Bins and polynomials of features.

https://scikit-learn.org/stable/modules/preprocessing.html
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dbml.engines.sql.compiler import Column, Compiler
from dbml.engines.sql.expressions import Binary, Case, Const, Expr


def bins(compiler: Compiler, estimator: Any, columns: Sequence[Column]) -> list[Column]:
    """KBinsDiscretizer: the number of the bin, or a column a bin."""
    compiler.need_floats(columns)
    compiler.need_finite(columns)
    made = []
    for column, edges in zip(columns, estimator.bin_edges_, strict=True):
        inner = [float(edge) for edge in edges[1:-1]]
        for edge in inner:
            compiler.cut(column, edge)
        compiler.span(column, float(edges[0]), float(edges[-1]))
        compiler.check(2 * len(inner))
        branches = [(column.expr < edge, Const(float(i))) for i, edge in enumerate(inner)]
        code: Expr = Case(tuple(branches), Const(float(len(inner)))) if branches else Const(0.0)
        if estimator.encode == "ordinal":
            made.append(Column(code))
            continue
        code = compiler.let(code)
        made += [Column(Case(((code.equals(float(i)), Const(1.0)),), Const(0.0))) for i in range(len(inner) + 1)]
    return made


def polynomial(compiler: Compiler, estimator: Any, columns: Sequence[Column]) -> list[Column]:
    """PolynomialFeatures."""
    compiler.need_floats(columns)
    compiler.need_finite(columns)
    cells = [compiler.let(column.expr) if column.expr.children() else column.expr for column in columns]
    made = []
    for powers in estimator.powers_:
        compiler.check(int(sum(powers)) + 1)
        product: Expr | None = None
        for cell, power in zip(cells, powers, strict=True):
            for _ in range(int(power)):
                product = cell if product is None else Binary("*", product, cell)
        made.append(Column(Const(1.0) if product is None else product))
    return made


TRANSFORMERS = {"sklearn.KBinsDiscretizer": bins, "sklearn.PolynomialFeatures": polynomial}
