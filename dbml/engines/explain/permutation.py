"""Shuffled columns: how much predictions change on average when a column's values are dealt out anew."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from dbml import errors
from dbml.engines.python import PythonEngine

REPEATS = 5


def importance(engine: PythonEngine, rows: Any, names: Sequence[str], columns: Sequence[str], seed: int = 0) -> pd.DataFrame:
    """Return a row a column: the mean absolute change of what is predicted, of REPEATS shuffles with a seed.

    Of a classifier with probabilities: of the probability of the class that it predicts; of one without: the share of labels
    that change.  Raises: InvalidArgument for one row, of which nothing can be shuffled.
    """
    if len(rows) < 2:
        raise errors.InvalidArgument("shuffling needs two rows at least, got 1", hint="a query with more rows")
    random = np.random.default_rng(seed)
    score, scale = _scorer(engine, rows)
    before = score(rows)
    table = []
    for j, name in enumerate(names):
        changes = []
        for _ in range(REPEATS):
            order = random.permutation(len(rows))
            if isinstance(rows, pd.DataFrame):
                shuffled = rows.copy()
                shuffled[name] = rows[name].to_numpy()[order]
            else:
                shuffled = rows.copy()
                shuffled[:, j] = rows[order, j]
            changes.append(_distance(before, score(shuffled)))
        table.append({"feature": name, "contribution": float(np.mean(changes))})
    made = pd.DataFrame(table)
    made["baseline"] = float(np.mean(before)) if before.dtype.kind in "fiu" else np.nan
    made["scale"], made["method"] = scale, "permutation"
    made["row_number"] = pd.Series([pd.NA] * len(made), dtype="Int64")
    for name in ("output", "value"):
        made[name] = pd.Series([None] * len(made), dtype=object)
    made["prediction"] = pd.Series([pd.NA] * len(made), dtype="Float64")
    return made[list(columns)]


def _scorer(engine: PythonEngine, rows: Any) -> tuple[Any, str]:
    first = engine.score("predict", rows)
    if engine.has_proba:
        chosen = np.argmax(engine.score("predict_proba", rows), axis=1)
        return lambda given: engine.score("predict_proba", given)[np.arange(len(chosen)), chosen], "probability"
    scale = "prediction" if first.dtype.kind in "f" and getattr(engine, "classes", None) is None else "share of labels"
    return lambda given: engine.score("predict", given), scale


def _distance(before: npt.NDArray[Any], after: npt.NDArray[Any]) -> float:
    if before.dtype.kind == "f":
        return float(np.mean(np.abs(before - after)))
    return float(np.mean(before != after))
