"""Explanations: what each input column has contributed to a prediction.

Exact for linear models and for trees, through pipelines whose steps keep columns apart; for all else, how much predictions
change when a column is shuffled.  Nothing here reads a database; what is given in and out are frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from dbml import errors
from dbml.engines.explain import boosters, linear, trees
from dbml.engines.explain.permutation import importance
from dbml.engines.explain.steps import NotTraceable, players_of
from dbml.engines.python import PythonEngine
from dbml.features import feature_names, feature_places

COLUMNS = ["row_number", "output", "feature", "value", "contribution", "baseline", "prediction", "scale", "method"]
MOST_CELLS = 2_000_000  # rows of the answer


@dataclass
class Explanation:
    """What columns contribute, (n, columns, outputs), beside a baseline (outputs,); their sum is the prediction on a scale.

    outputs: the classes, None for a regressor.  chosen: (n,), which output is told of each row.
    """

    contributions: npt.NDArray[np.float64]
    baseline: npt.NDArray[np.float64]
    outputs: list[Any] | None
    chosen: npt.NDArray[np.int64]
    scale: str
    method: str


def explain_rows(
    estimator: Any, frame: pd.DataFrame, features: Sequence[str] | None = None, *, one_row: bool = False
) -> pd.DataFrame:
    """Explain the predictions for a frame's rows: a row a row and column, or a row a column where it is by shuffling.

    features: names of the columns where the estimator does not know them; else all, in their order.  Columns: COLUMNS.
    Raises: MissingFeature; InvalidArgument for one row of a model that is explained by shuffling rows; LimitExceeded.
    """
    engine = PythonEngine(estimator)
    names, rows = columns_of(engine, frame, features)
    if len(rows) == 0:
        return pd.DataFrame({name: [] for name in COLUMNS})
    if len(rows) * len(names) > MOST_CELLS:
        raise errors.LimitExceeded(
            f"an explanation has {MOST_CELLS:,} rows at most, {len(rows):,} rows of {len(names)} features have more",
            detail={"limit": "rows", "value": MOST_CELLS}, hint="explain a sample: ... ORDER BY random() LIMIT 1000",
        )  # fmt: skip
    try:
        found = _exact(estimator, engine, rows)
    except NotTraceable as reason:
        if one_row:
            raise errors.InvalidArgument(
                f"one row of this model cannot be explained exactly ({reason}), only by shuffling columns of many",
                detail={"reason": str(reason)}, hint="give a query: SELECT * FROM dbml.explain_prediction('model', 'SELECT ...')",
            ) from None  # fmt: skip
        return importance(engine, rows, names, COLUMNS)
    return _table(found, frame, names)


def columns_of(engine: PythonEngine, frame: pd.DataFrame, features: Sequence[str] | None) -> tuple[list[str], Any]:
    """Return the names that a model's inputs have among a frame's columns, and those columns as the model takes them.

    Raises: MissingFeature; InvalidArgument for a wrong number of columns.
    """
    columns = [str(name) for name in frame.columns]
    names = feature_names(engine.features, features) or columns
    places = feature_places(names, columns)
    missing = [name for name, place in zip(names, places, strict=True) if place is None]
    if missing:
        raise errors.MissingFeature(
            "the rows lack " + ", ".join(f'"{name}"' for name in missing) + " that the model needs",
            detail={"missing": missing, "columns": list(frame.columns)},
        )
    if engine.n_features is not None and len(names) != engine.n_features:
        raise errors.InvalidArgument(
            f"the model takes {engine.n_features} features, got {len(names)} columns",
            detail={"n_features": engine.n_features, "got": len(names)}, hint="select the features alone, in the model's order",
        )  # fmt: skip
    rows = frame.iloc[:, [place for place in places if place is not None]]
    names = list(rows.columns)
    if engine.features is not None:
        return names, rows
    try:
        return names, rows.to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError):
        return names, rows


def _exact(estimator: Any, engine: PythonEngine, rows: Any) -> Explanation:
    steps: list[Any] = []
    last = estimator
    while True:
        if type(last).__name__ == "Pipeline" and hasattr(last, "steps"):
            steps += [step for _, step in last.steps[:-1] if step not in (None, "passthrough")]
            last = last.steps[-1][1]
        elif hasattr(last, "best_estimator_"):
            last = last.best_estimator_
        else:
            break
    n = rows.shape[1]
    players: list[int | None] = list(range(n))
    values = rows
    for step in steps:
        players = players_of(step, players)
        values = step.transform(values)
    if hasattr(values, "toarray"):
        values = values.toarray()
    explain = linear.explainer(last) or trees.explainer(last) or boosters.explainer(last)
    if explain is None:
        raise NotTraceable(f"{type(last).__name__} is neither linear nor of trees")
    try:
        matrix = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise NotTraceable("some columns are no numbers") from None
    answer = engine.score("predict", rows)  # what the model refuses, it says itself
    if matrix.shape[1] != len(players):
        raise NotTraceable(f"{len(players)} columns were expected of the steps, and {matrix.shape[1]} came")
    contributions, baseline, scale, method = explain(matrix, players, n)
    classes = getattr(last, "classes_", None)
    if classes is None:
        return Explanation(contributions, baseline, None, np.zeros(len(matrix), np.int64), scale, method)
    place = {label: i for i, label in enumerate(np.asarray(classes).tolist())}
    chosen = np.array([place[label] for label in np.asarray(answer).tolist()])
    return Explanation(contributions, baseline, list(place), chosen, scale, method)


def _table(found: Explanation, frame: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    n, width = len(frame), len(names)
    rows = np.arange(n)
    told = found.contributions[rows, :, found.chosen]  # (n, width)
    baseline = found.baseline[found.chosen]
    output = [None] * n if found.outputs is None else [str(found.outputs[i]) for i in found.chosen]
    values = [[_text(cell) for cell in frame[name].tolist()] for name in names]
    return pd.DataFrame(
        {
            "row_number": np.repeat(rows + 1, width),
            "output": pd.Series(np.repeat(np.array(output, dtype=object), width), dtype=object),
            "feature": list(names) * n,
            "value": pd.Series([values[j][i] for i in range(n) for j in range(width)], dtype=object),
            "contribution": told.ravel(),
            "baseline": np.repeat(baseline, width),
            "prediction": np.repeat(baseline + told.sum(axis=1), width),
            "scale": found.scale,
            "method": found.method,
        },
        columns=COLUMNS,
    )


def _text(cell: Any) -> str | None:
    return None if cell is None or cell is pd.NA or cell != cell else str(cell)
