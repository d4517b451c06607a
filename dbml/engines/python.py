"""The engine that always works: the unpickled estimator itself.

Most scikit-learn estimators look at columns by position, so rows go in as one float64 array.  Where a step looks
columns up by name, or is not scikit-learn's own, rows go in as a DataFrame with the names it was fitted with.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from dbml import errors
from dbml.engines.contract import Engine, Rows

_BY_NAME = frozenset({"ColumnTransformer", "FunctionTransformer"})
_TYPES = {
    "float8": "double precision", "int8": "bigint", "bool": "boolean", "text": "text", "array:float8": "double precision[]",
    "array:int8": "bigint[]", "array:bool": "boolean[]", "textarray": "text[]",
}  # fmt: skip


class PythonEngine(Engine):
    """Scores with an estimator.

    features: names in the model's order, None where it does not know them; n_features: how many, None likewise.
    classes: a classifier's labels.  needs_names: rows must be a DataFrame.  has_proba: there is predict_proba.
    """

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator
        names = getattr(estimator, "feature_names_in_", None)
        self.features: list[str] | None = None if names is None else [str(name) for name in names]
        count = getattr(estimator, "n_features_in_", None)
        if count is None and self.features is not None:
            count = len(self.features)
        self.n_features: int | None = None if count is None else int(count)
        self.has_proba = callable(getattr(estimator, "predict_proba", None))
        classes = getattr(estimator, "classes_", None)
        self.classes: list[Any] | None = None
        self._kind: str | None = None
        if isinstance(classes, np.ndarray) and classes.ndim == 1:
            self.classes = classes.tolist()
            self._kind = value_kind(classes)
        self.needs_names = not _is_positional(estimator)

    @property
    def kind(self) -> str:
        """Return the kind of a prediction: float8, int8, bool or text, or an array of them for several outputs.

        Found by predicting where the estimator does not tell.
        """
        if self._kind is None:
            self._kind = self._guess_kind()
        return self._kind

    @property
    def type(self) -> str:
        """Return the PostgreSQL type of a prediction."""
        return _TYPES[self.kind]

    def score(self, method: str, rows: Rows) -> npt.NDArray[Any]:
        """Return the predictions (n,) or (n, k) of rows (n, n_features), by predict or predict_proba.

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
                f"a {type(self.estimator).__name__} has no {method}",
                detail={"method": method}, hint=None if method == "predict" else "use dbml.predict",
            )  # fmt: skip
        if self.needs_names and self.features is not None and isinstance(rows, np.ndarray):
            rows = pd.DataFrame(rows, columns=self.features)
        try:
            answer = np.asarray(function(rows))
        except MemoryError:
            raise
        except BaseException as error:  # a model may raise anything; it must not end its scorer
            raise errors.PredictionError(
                f"{type(self.estimator).__name__}.{method} raised {type(error).__name__}: {error}",
                detail={"type": type(error).__qualname__},
            ) from None
        if answer.ndim not in (1, 2) or answer.shape[0] != rows.shape[0]:
            raise errors.PredictionError(f"the model answered an array of shape {answer.shape} for {rows.shape[0]} rows")
        if answer.dtype in (np.float16, np.float32):
            answer = answer.astype(np.float64)  # which holds it exactly; its own shortest digits are another number as float8
        return answer[:, 0] if answer.ndim == 2 and answer.shape[1] == 1 and method == "predict" else answer

    def _guess_kind(self) -> str:
        with warnings.catch_warnings():  # what a probe provokes is nobody's concern
            warnings.simplefilter("ignore")
            return self._probe()

    def _probe(self) -> str:
        if self.n_features is not None:
            for probe in (np.zeros((1, self.n_features)), np.full((1, self.n_features), "", dtype=object)):
                try:
                    return value_kind(self.score("predict", probe))
                except errors.DbmlError:
                    continue
        last = self.estimator
        while (steps := getattr(last, "steps", None)) and isinstance(steps, list):
            last = steps[-1][1]
        several = getattr(last, "n_outputs_", 1)
        if np.ndim(getattr(last, "coef_", 0)) == 2:
            several = np.shape(last.coef_)[0]
        return "array:float8" if isinstance(several, int) and several > 1 else "float8"


def value_kind(values: npt.NDArray[Any]) -> str:
    """Return the kind of predictions, (n,) or (n, k): of an array of them where there are several a row."""
    code: str = values.dtype.kind
    if code == "O":
        code = _object_code(values)
    kind = {"f": "float8", "i": "int8", "u": "int8", "b": "bool"}.get(code, "text")
    if values.ndim == 1:
        return kind
    return "textarray" if kind == "text" else "array:" + kind


def type_of_kind(kind: str) -> str:
    """Return the PostgreSQL type of a kind that `value_kind` gives."""
    return _TYPES[kind]


def _object_code(values: npt.NDArray[Any]) -> str:
    """Return numpy's code for what an array of objects holds, O for text and mixtures."""
    codes = {
        "b" if isinstance(value, bool | np.bool_) else "i" if isinstance(value, int | np.integer)
        else "f" if isinstance(value, float | np.floating) else "O" for value in values.ravel()[:1000]
    }  # fmt: skip
    if codes == {"i", "f"}:
        return "f"
    return codes.pop() if len(codes) == 1 else "O"


def _is_positional(estimator: Any) -> bool:
    """Tell whether every step of an estimator looks at columns by position only."""
    cls = type(estimator)
    if not cls.__module__.startswith("sklearn.") or cls.__name__ in _BY_NAME:
        return False
    return all(_is_positional(inner) for value in vars(estimator).values() for inner in _estimators(value))


def _estimators(value: Any) -> Iterator[Any]:
    """Yield the estimators in an attribute: of an ensemble the first, for its members are alike."""
    if isinstance(value, np.ndarray) and value.dtype == object:
        value = value.ravel()[:1].tolist()
    if hasattr(value, "get_params") and not isinstance(value, type):
        yield value
    elif isinstance(value, list | tuple):
        alike = len({type(item) for item in value}) == 1 and hasattr(value[0], "get_params")
        for item in value[:1] if alike else value[:1000]:
            yield from _estimators(item)
