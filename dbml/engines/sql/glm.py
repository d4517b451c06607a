"""Generalized linear models: a weighted sum through the inverse of a link.

https://scikit-learn.org/stable/modules/linear_model.html#generalized-linear-models
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dbml.engines.sql.compiler import Column, Compiler, Prediction
from dbml.engines.sql.expressions import call
from dbml.engines.sql.linear import sums


def generalized(compiler: Compiler, estimator: Any, columns: Sequence[Column]) -> Prediction:
    """PoissonRegressor, GammaRegressor, TweedieRegressor."""
    (z,) = sums(compiler, estimator, columns)
    link = type(estimator._base_loss.link).__name__
    if link == "IdentityLink":
        return Prediction(z)
    if link == "LogLink":
        return Prediction(call("exp", z))
    raise compiler.refusal(f"the link {link}")


PREDICTORS = {f"sklearn.{name}": generalized for name in ("PoissonRegressor", "GammaRegressor", "TweedieRegressor")}
