"""Which translator takes which estimator: an explicit list, by the estimator's own class.

A subclass of a listed class is not its parent: it may do anything, so it is refused.  Classes are known by package and
name, so that nothing is imported that a model has not brought along.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dbml.engines.sql import (
    bayes,
    boosting,
    composition,
    discretizers,
    encoders,
    glm,
    histogram,
    imputers,
    lightgbm,
    linear,
    meta,
    neighbours,
    networks,
    projection,
    scalers,
    trees,
    xgboost,
)
from dbml.engines.sql.compiler import Column, Compiler

Translator = Callable[[Compiler, Any, Sequence[Column]], Any]

TRANSFORMERS: Mapping[str, Translator] = {
    **composition.TRANSFORMERS, **scalers.TRANSFORMERS, **imputers.TRANSFORMERS, **encoders.TRANSFORMERS,
    **discretizers.TRANSFORMERS, **projection.TRANSFORMERS,
}  # fmt: skip
PREDICTORS: Mapping[str, Translator] = {
    **composition.PREDICTORS, **linear.PREDICTORS, **glm.PREDICTORS, **trees.PREDICTORS, **boosting.PREDICTORS,
    **histogram.PREDICTORS, **bayes.PREDICTORS, **neighbours.PREDICTORS, **networks.PREDICTORS, **meta.PREDICTORS,
    **xgboost.PREDICTORS, **lightgbm.PREDICTORS,
}  # fmt: skip


def translate(compiler: Compiler, role: str, estimator: Any, columns: Sequence[Column]) -> Any:
    """Translate one estimator as a transformer or a predictor.

    Raises: NotCompiled where no translator takes it.
    """
    cls = type(estimator)
    package = cls.__module__.partition(".")[0]
    found = (TRANSFORMERS if role == "transform" else PREDICTORS).get(f"{package}.{cls.__name__}")
    if found is None:
        raise compiler.refusal(
            f"no translator for {package}.{cls.__name__}" + (" as a transformer" if role == "transform" else "")
        )
    return found(compiler, estimator, columns)
