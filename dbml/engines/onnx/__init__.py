"""The engine `onnx`: a graph that ONNX Runtime computes.

A model may have come as such a file, and is then nothing else; or `convert` has made the file of a fitted estimator, and
the two stand together: what the graph leaves out, the estimator answers.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from dbml import errors
from dbml.engines.contract import Engine, Rows
from dbml.engines.python import PythonEngine, type_of_kind

KEY = "dbml"  # of the metadata in a file of ours
ANSWERED = "answered"  # the output that says which rows the graph answers
MISSING_TEXT = "\ufdd0"  # stands for a missing text, which ONNX has no value for; no character of any text
LARGEST = 3.4028235677973366e38  # as in `dbml.engines.sql.trees`: beyond, estimators refuse a value
_FLOATS = {"tensor(float)": np.float32, "tensor(double)": np.float64}
_NUMBERS: dict[str, Any] = {
    **_FLOATS, "tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(int16)": np.int16, "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8, "tensor(bool)": np.bool_,
}  # fmt: skip


class OnnxEngine(Engine):
    """Scores with a session of ONNX Runtime.

    It takes one input of rows (n, n_features), or an input of (n, 1) or (n,) for each feature, by whose names columns are
    found.  The first output is the prediction; probabilities are the output of that name, or a second one (n, k).
    """

    def __init__(self, session: Any) -> None:
        self._session = session
        about = session.get_modelmeta().custom_metadata_map.get(KEY)
        self._about: dict[str, Any] = json.loads(about) if about else {}
        self._inputs = list(session.get_inputs())
        self._outputs = list(session.get_outputs())
        self._as_matrix = len(self._inputs) == 1 and len(self._inputs[0].shape or []) == 2 and self._inputs[0].shape[1] != 1
        for one in self._inputs:
            shape = one.shape or []
            if one.type not in (*_NUMBERS, "tensor(string)") or not 1 <= len(shape) <= 2 or (
                len(shape) == 2 and not self._as_matrix and shape[1] != 1
            ):  # fmt: skip
                raise errors.ModelLoadError(
                    f"an ONNX model must take rows of features, input {one.name} is a {one.type} of shape {shape}"
                )
        width = self._inputs[0].shape[1] if self._as_matrix else len(self._inputs)
        self.n_features = width if isinstance(width, int) else None
        self.features = self._about.get("features") or (None if self._as_matrix else [one.name for one in self._inputs])
        self.needs_names = not self._as_matrix
        self.classes = self._about.get("classes")
        self._proba = next((o.name for o in self._outputs if o.name == "probabilities"), None)
        if self._proba is None and len(self._outputs) > 1 and ANSWERED not in {o.name for o in self._outputs}:
            second = self._outputs[1]
            if len(second.shape or []) == 2 and second.type in _FLOATS:
                self._proba = second.name
        self.has_proba = self._proba is not None
        first = self._outputs[0]
        if first.type not in (*_NUMBERS, "tensor(string)") or len(first.shape or []) > 2:
            raise errors.ModelLoadError(f"an ONNX model must predict numbers or text, output {first.name} is a {first.type}")
        kind = "float8" if first.type in _FLOATS else "bool" if first.type == "tensor(bool)" else (
            "text" if first.type == "tensor(string)" else "int8"
        )  # fmt: skip
        several = len(first.shape or []) == 2 and first.shape[1] != 1
        self._kind = self._about.get("kind") or (("textarray" if kind == "text" else f"array:{kind}") if several else kind)

    @property
    def kind(self) -> str:
        """Return the kind of a prediction, by the type and shape of the first output."""
        return str(self._kind)

    @property
    def type(self) -> str:
        """Return the PostgreSQL type of a prediction."""
        return type_of_kind(self.kind)

    def score(self, method: str, rows: Rows) -> npt.NDArray[Any]:
        """Return the answers (n,) or (n, k) to rows (n, n_features), as the graph has them.

        Raises: PredictionError with ONNX Runtime's own words; InvalidArgument for a wrong number of features.
        """
        values, answered = self.answers(method, rows)
        if not answered.all():
            raise errors.PredictionError("the ONNX form leaves a row to the model that it was made of")
        return values

    def answers(self, method: str, rows: Rows) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        """Return the answers, and which of them count: the others are for the estimator that the graph was made of."""
        if self.n_features is not None and rows.shape[1] != self.n_features:
            raise errors.InvalidArgument(
                f"the model takes {self.n_features} features, got {rows.shape[1]}",
                detail={"n_features": self.n_features, "got": rows.shape[1]},
            )
        if method != "predict" and not self.has_proba:
            raise errors.PredictionError(
                "the ONNX model has no output of probabilities", detail={"method": method}, hint="use dbml.predict"
            )
        wanted = self._outputs[0].name if method == "predict" else self._proba
        says = any(output.name == ANSWERED for output in self._outputs)
        try:
            feed = self._feed(rows)
            found = self._session.run([wanted, *([ANSWERED] if says else [])], feed)
        except MemoryError:
            raise
        except Exception as error:  # ONNX Runtime has classes of its own for each thing that may be wrong
            raise errors.PredictionError(f"ONNX Runtime raised {type(error).__name__}: {str(error)[:500]}") from None
        values = np.asarray(found[0])
        if values.dtype in (np.float16, np.float32):
            values = values.astype(np.float64)
        if values.ndim == 2 and values.shape[1] == 1 and method == "predict":
            values = values[:, 0]
        if values.ndim not in (1, 2) or values.shape[0] != len(rows):
            raise errors.PredictionError(f"the model answered an array of shape {values.shape} for {len(rows)} rows")
        answered = np.ones(len(rows), bool)
        if says:
            answered = np.asarray(found[1]).reshape(-1)
        elif self._about.get("finite_only"):
            answered = _finite_rows(feed)
            if self._about.get("bounds") and self._as_matrix:
                low, high = np.asarray(self._about["bounds"]).T
                (cells,) = feed.values()
                answered &= ((cells >= low) & (cells <= high)).all(axis=1)
        if self._about and values.dtype.kind == "f":
            answered = answered & np.isfinite(values.reshape(len(values), -1)).all(axis=1)
        return values, answered

    def _feed(self, rows: Rows) -> dict[str, npt.NDArray[Any]]:
        if isinstance(rows, pd.DataFrame) and self.features is not None and set(self.features) <= set(rows.columns):
            rows = rows[self.features]
        if self._as_matrix:
            (one,) = self._inputs
            if one.type == "tensor(string)":
                return {one.name: _texts(np.asarray(rows, dtype=object))}
            return {one.name: np.ascontiguousarray(_numbers(rows), dtype=_NUMBERS[one.type])}
        feed = {}
        for i, one in enumerate(self._inputs):
            column = rows.iloc[:, i] if isinstance(rows, pd.DataFrame) else rows[:, i]
            cells = _texts(np.asarray(column, dtype=object)) if one.type == "tensor(string)" else (
                _numbers(column).astype(_NUMBERS[one.type])
            )  # fmt: skip
            feed[one.name] = cells.reshape(-1, 1) if len(one.shape) == 2 else cells
        return feed


class PairedEngine(Engine):
    """Scores with a graph, and what that leaves out with the estimator that it was made of."""

    def __init__(self, python: PythonEngine, onnx: OnnxEngine) -> None:
        self._python, self._onnx = python, onnx
        self.features, self.n_features, self.classes = python.features, python.n_features, python.classes
        self.has_proba, self.needs_names = python.has_proba, python.needs_names

    @property
    def kind(self) -> str:
        """Return the kind of a prediction, the estimator's."""
        return self._python.kind

    @property
    def type(self) -> str:
        """Return the PostgreSQL type of a prediction."""
        return self._python.type

    def score(self, method: str, rows: Rows) -> npt.NDArray[Any]:
        """Return the answers to rows; errors are the estimator's own."""
        if method == "predict_proba" and not self._onnx.has_proba:
            return self._python.score(method, rows)
        try:
            values, answered = self._onnx.answers(method, rows)
        except errors.DbmlError:
            return self._python.score(method, rows)
        if answered.all():
            return values
        left = rows[~answered]
        rest = self._python.score(method, left)
        if not answered.any():
            return rest
        merged = values.astype(object) if rest.dtype.kind in "OU" else values.copy()
        merged[~answered] = rest
        return merged


def _finite_rows(feed: dict[str, npt.NDArray[Any]]) -> npt.NDArray[np.bool_]:
    """Tell which rows hold nothing that an estimator might refuse."""
    found: npt.NDArray[np.bool_] | None = None
    for cells in feed.values():
        whole = cells.reshape(len(cells), -1)
        fine = (whole != MISSING_TEXT).all(axis=1) if whole.dtype.kind == "O" else (np.abs(whole) < LARGEST).all(axis=1)
        found = fine if found is None else found & fine
    assert found is not None
    return found


def _texts(cells: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.array([MISSING_TEXT if pd.isna(cell) else str(cell) for cell in cells.ravel()], dtype=object).reshape(cells.shape)


def _numbers(cells: Any) -> npt.NDArray[np.float64]:
    if isinstance(cells, pd.DataFrame | pd.Series):
        found: npt.NDArray[np.float64] = cells.to_numpy(dtype=np.float64, na_value=np.nan)
        return found
    return np.asarray(cells, dtype=np.float64)
