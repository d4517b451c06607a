"""Linear models: a column contributes its coefficient times its value, and the intercept is the baseline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]
Explained = tuple[Matrix, Matrix, str, str]  # contributions (n, columns, outputs), baseline (outputs,), scale, method
Explain = Callable[[Matrix, Sequence[int | None], int], Explained]

_LOG = ("PoissonRegressor", "GammaRegressor", "TweedieRegressor")


def explainer(estimator: Any) -> Explain | None:
    """Return the function that explains a fitted linear model; None where it is none."""
    module, name = type(estimator).__module__, type(estimator).__name__
    of_linear = module.startswith(("sklearn.linear_model.", "sklearn.discriminant_analysis")) or name in (
        "LinearSVC",
        "LinearSVR",
    )
    if not of_linear or not hasattr(estimator, "coef_") or name == "QuadraticDiscriminantAnalysis":
        return None
    classes = getattr(estimator, "classes_", None)
    coefficients = np.atleast_2d(
        np.asarray(estimator.coef_.toarray() if hasattr(estimator.coef_, "toarray") else estimator.coef_)
    )
    if classes is None and coefficients.shape[0] > 1:
        return None  # several targets
    intercept = np.broadcast_to(np.ravel(estimator.intercept_), coefficients.shape[0])
    if classes is not None and len(coefficients) == 1:
        coefficients, intercept = np.vstack([-coefficients, coefficients]), np.array([-intercept[0], intercept[0]])
    scale = "prediction"
    if classes is not None:
        scale = "log-odds" if name in ("LogisticRegression", "LogisticRegressionCV", "LinearDiscriminantAnalysis") else "decision"
    elif name in _LOG and type(estimator._base_loss.link).__name__ == "LogLink":
        scale = "log"

    def explain(values: Matrix, players: Sequence[int | None], width: int) -> Explained:
        contributions = np.zeros((len(values), width, len(coefficients)))
        baseline = np.repeat(intercept[None, :].astype(float), 1, axis=0)[0].copy()
        for j, player in enumerate(players):
            if player is None:  # a constant of the pipeline
                baseline += coefficients[:, j] * values[0, j]
            else:
                contributions[:, player, :] += values[:, j, None] * coefficients[None, :, j]
        return contributions, baseline, scale, "linear"

    return explain
