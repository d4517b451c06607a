"""Composition: pipelines, transformers of some columns, unions, and choices of columns.

https://scikit-learn.org/stable/modules/compose.html
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dbml.engines.sql.compiler import Column, Compiler, Prediction


def pipeline(compiler: Compiler, estimator: Any, columns: Sequence[Column]) -> list[Column]:
    """Pipeline, as a transformer."""
    found = list(columns)
    for name, step in estimator.steps:
        with compiler.at(name):
            found = compiler.transform(step, found)
    return found


def predicting_pipeline(compiler: Compiler, estimator: Any, columns: Sequence[Column]) -> Prediction:
    """Pipeline whose last step predicts."""
    found = list(columns)
    for name, step in estimator.steps[:-1]:
        with compiler.at(name):
            found = compiler.transform(step, found)
    name, last = estimator.steps[-1]
    with compiler.at(name):
        return compiler.predict(last, found)


def by_column(compiler: Compiler, estimator: Any, columns: Sequence[Column]) -> list[Column]:
    """ColumnTransformer: the columns that each transformer was fitted on, in the order of the transformers."""
    made: list[Column] = []
    for name, transformer, _ in estimator.transformers_:
        indices = estimator._transformer_to_input_indices.get(name, [])
        if transformer == "drop" or len(indices) == 0:
            continue
        with compiler.at(name):
            made += compiler.transform(transformer, [columns[int(i)] for i in indices])
    if estimator.transformer_weights:
        raise compiler.refusal("transformer_weights")
    return made


def union(compiler: Compiler, estimator: Any, columns: Sequence[Column]) -> list[Column]:
    """FeatureUnion: the columns of each, side by side."""
    weights = estimator.transformer_weights or {}
    made: list[Column] = []
    for name, transformer in estimator.transformer_list:
        if transformer == "drop":
            continue
        with compiler.at(name):
            found = compiler.transform(transformer, columns)
        weight = weights.get(name)
        made += found if weight is None else [Column(column.expr * float(weight), column.roots) for column in found]
    return made


def chosen(compiler: Compiler, estimator: Any, columns: Sequence[Column]) -> list[Column]:
    """Choose some of the columns, by SelectKBest and the like; the others must be finite all the same."""
    compiler.need_floats(columns)
    if type(estimator).__name__ == "VarianceThreshold":
        compiler.no_infinity(columns)
    else:
        compiler.need_finite(columns)
    return [columns[int(i)] for i in estimator.get_support(indices=True)]


TRANSFORMERS = {
    "sklearn.Pipeline": pipeline,
    "sklearn.ColumnTransformer": by_column,
    "sklearn.FeatureUnion": union,
    **{f"sklearn.{name}": chosen for name in (
        "SelectKBest", "SelectPercentile", "SelectFpr", "SelectFdr", "SelectFwe", "GenericUnivariateSelect", "VarianceThreshold",
        "SelectFromModel", "RFE", "RFECV", "SequentialFeatureSelector",
    )},
}  # fmt: skip
PREDICTORS = {"sklearn.Pipeline": predicting_pipeline}
