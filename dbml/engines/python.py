"""The engine that always works: the unpickled estimator itself.

Most scikit-learn estimators look at numbers by position, so rows go in as one float64 array.  Where a step looks
columns up by name, or is not scikit-learn's own, rows go in as a DataFrame with the names it was fitted with.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from dbml import errors

# What fitted with names warns of when it is given an array in the same order.
warnings.filterwarnings("ignore", message="X does not have valid feature names")
warnings.filterwarnings("ignore", message="X has feature names")

_BY_NAME = frozenset({"ColumnTransformer", "FunctionTransformer", "FeatureUnion"})


class PythonEngine:
    """Scores with an estimator.

    features: names in the model's order, None where it does not know them; n_features: how many, None likewise.
    kind, type: of a prediction: float8, int8, bool, text, or array:float8 where the model predicts several values.
    """

    def __init__(self, estimator: Any, signature: dict[str, Any] | None = None) -> None:
        self.estimator = estimator
        names = getattr(estimator, "feature_names_in_", None)
        given = [feature["name"] for feature in (signature or {}).get("features") or []]
        self.features: list[str] | None = [str(name) for name in names] if names is not None else given or None
        count = getattr(estimator, "n_features_in_", None)
        if count is None and self.features is not None:
            count = len(self.features)
        self.n_features: int | None = None if count is None else int(count)
        self.has_proba = callable(getattr(estimator, "predict_proba", None))
        classes = getattr(estimator, "classes_", None)
        self.classes: list[Any] | None = None
        if isinstance(classes, np.ndarray) and classes.ndim == 1:
            self.classes = classes.tolist()
        self.needs_names = self.features is not None and names is not None and not _is_positional(estimator)
        self._kind: str | None = _label_kind(classes) if self.classes is not None else None

    @property
    def kind(self) -> str:
        """Return the kind of a prediction, found by predicting where the estimator does not tell."""
        if self._kind is None:
            self._kind = self._guess_kind()
        return self._kind

    @property
    def type(self) -> str:
        """Return the PostgreSQL type of a prediction."""
        return {"float8": "double precision", "int8": "bigint", "bool": "boolean", "text": "text"}.get(
            self.kind, "double precision[]"
        )

    def score(self, method: str, rows: np.ndarray[Any, Any] | pd.DataFrame) -> np.ndarray[Any, Any]:
        """Return the predictions (n,) or (n, k) of rows (n, n_features).

        Raises: PredictionError with the estimator's own words; InvalidArgument for a wrong number of features.
        """
        if self.n_features is not None and rows.shape[1] != self.n_features:
            raise errors.InvalidArgument(
                f"the model takes {self.n_features} features, got {rows.shape[1]}",
                detail={"n_features": self.n_features, "got": rows.shape[1]},
            )
        function = getattr(self.estimator, method, None)
        if function is None:
            raise errors.PredictionError(
                f"a {type(self.estimator).__name__} has no {method}", hint="use dbml.predict" if method != "predict" else None
            )
        if self.needs_names and isinstance(rows, np.ndarray):
            rows = pd.DataFrame(rows, columns=self.features)
        try:
            answer = np.asarray(function(rows))
        except Exception as error:
            raise errors.PredictionError(
                f"{type(self.estimator).__name__}.{method} raised {type(error).__name__}: {error}",
                detail={"type": type(error).__qualname__},
            ) from None
        if answer.shape[:1] != (rows.shape[0],):
            raise errors.PredictionError(f"the model answered {answer.shape} for {rows.shape[0]} rows")
        return answer[:, 0] if answer.ndim == 2 and answer.shape[1] == 1 and method == "predict" else answer

    def _guess_kind(self) -> str:
        if self.n_features is None:
            return "float8"
        try:
            zeros: Any = np.zeros((1, self.n_features))
            return value_kind(self.score("predict", zeros))
        except errors.DbmlError:
            return "float8"


def value_kind(values: np.ndarray[Any, Any]) -> str:
    """Return the kind of predictions."""
    if values.ndim > 1:
        return "array:float8"
    return _label_kind(values)


def _label_kind(values: Any) -> str:
    code = np.asarray(values).dtype.kind
    if code == "f":
        return "float8"
    if code in "iu":
        return "int8"
    if code == "b":
        return "bool"
    return "text"


def _is_positional(estimator: Any) -> bool:
    """Tell whether every step of an estimator looks at columns by position only."""
    cls = type(estimator)
    if not cls.__module__.startswith("sklearn.") or cls.__name__ in _BY_NAME:
        return False
    inner: list[Any] = []
    for _, value in sorted(vars(estimator).items()):
        inner.extend(_estimators(value))
    return all(_is_positional(each) for each in inner)


def _estimators(value: Any) -> Sequence[Any]:
    if hasattr(value, "get_params") and not isinstance(value, type):
        return [value]
    if isinstance(value, list | tuple) and len(value) < 1000:
        return [found for item in value for found in _estimators(item)]
    return []
