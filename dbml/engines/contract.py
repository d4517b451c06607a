"""What an engine is: a fitted model in, scores out.

`python`, the model itself, is the first engine and the oracle of all others: `tests/sql/test_engine_conformance.py` holds each
of them to the answers of the pickle.  An engine that runs inside the database (`sql`) has no object of this class there: it is
the functions that `dbml.engines.sql` writes, and keeps the same contract.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, TypeAlias

import numpy.typing as npt
import pandas as pd

Rows: TypeAlias = "npt.NDArray[Any] | pd.DataFrame"


class Engine(ABC):
    """Scores rows with one fitted model.

    An engine is made for one model and never changes: the same rows give the same answers, in whatever chunks they come,
    and a row's answer does not depend on the rows beside it.  It is used by one thread at a time.

    features: names in the model's order, None where it does not know them; n_features: how many, None likewise.
    classes: a classifier's labels.  has_proba: whether there is predict_proba.  needs_names: rows must be a DataFrame.
    """

    features: list[str] | None
    n_features: int | None
    classes: list[Any] | None
    has_proba: bool
    needs_names: bool

    @property
    @abstractmethod
    def kind(self) -> str:
        """Return the kind of a prediction: float8, int8, bool or text, or an array of them (`array:float8`, `textarray`)."""

    @property
    @abstractmethod
    def type(self) -> str:
        """Return the PostgreSQL type of a prediction."""

    @abstractmethod
    def score(self, method: str, rows: Rows) -> npt.NDArray[Any]:
        """Return the answers (n,) or (n, k) to rows (n, n_features), by predict or predict_proba.

        A missing value is NaN (None in a column of text).  A model that does not take one raises; an engine never puts
        something in its place.  A category that training has not seen is what the model's own encoder makes of it.
        Floats are the model's to 1e-9 of their size (1e-12 for trees), labels are the same.
        Raises: PredictionError with the model's own words; InvalidArgument for a wrong number of features.
        """
