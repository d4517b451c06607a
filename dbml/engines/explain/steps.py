"""Which input column each column behind a preprocessing step is of.

A step is known here, or the columns behind it cannot be told apart: then an explanation must not guess.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Players = list[int | None]  # of each column the input it is of, None for a constant


class NotTraceable(Exception):
    """A step mixes columns, or is not known; the text says which."""


def players_of(step: Any, players: Sequence[int | None]) -> Players:
    """Return the inputs of the columns that a fitted step makes of columns that are of `players`.

    Raises: NotTraceable.
    """
    if step is None or isinstance(step, str):
        return [] if step == "drop" else list(players)
    if hasattr(step, "get_support"):  # SelectKBest and the like, VarianceThreshold
        return [players[i] for i in step.get_support(indices=True)]
    known = _STEPS.get(type(step).__name__) if type(step).__module__.startswith("sklearn.") else None
    if known is None:
        raise NotTraceable(f"what {type(step).__name__} does to columns is not known")
    return known(step, players)


def _same(step: Any, players: Sequence[int | None]) -> Players:
    return list(players)


def _pipeline(step: Any, players: Sequence[int | None]) -> Players:
    for _, inner in step.steps:
        players = players_of(inner, players)
    return list(players)


def _union(step: Any, players: Sequence[int | None]) -> Players:
    return [player for _, inner in step.transformer_list for player in players_of(inner, players)]


def _by_column(step: Any, players: Sequence[int | None]) -> Players:
    made: Players = [None] * max((where.stop for where in step.output_indices_.values()), default=0)
    for name, inner, _ in step.transformers_:
        where = step.output_indices_.get(name)
        if where is not None and where.stop > where.start:
            made[where] = players_of(inner, [players[i] for i in step._transformer_to_input_indices[name]])
    return made


def _imputer(step: Any, players: Sequence[int | None]) -> Players:
    kept = [p for p, value in zip(players, step.statistics_, strict=True) if step.keep_empty_features or not _is_nan(value)]
    return kept + ([players[i] for i in step.indicator_.features_] if step.add_indicator else [])


def _is_nan(value: Any) -> bool:
    return bool(value != value)


def _one_hot(step: Any, players: Sequence[int | None]) -> Players:
    return [player for player, count in zip(players, step._n_features_outs, strict=True) for _ in range(count)]


def _bins(step: Any, players: Sequence[int | None]) -> Players:
    if step.encode == "ordinal":
        return list(players)
    return [player for player, count in zip(players, step.n_bins_, strict=True) for _ in range(count)]


def _powers(step: Any, players: Sequence[int | None]) -> Players:
    made: Players = []
    for powers in step.powers_:
        used = {players[int(i)] for i in np.flatnonzero(powers)} - {None}
        if len(used) > 1:
            raise NotTraceable("PolynomialFeatures multiplies columns with each other")
        made.append(used.pop() if used else None)
    return made


def _function(step: Any, players: Sequence[int | None]) -> Players:
    if step.func is not None and not (isinstance(step.func, np.ufunc) and step.func.nin == 1):
        raise NotTraceable("FunctionTransformer may do anything to columns")
    return list(players)


_STEPS: dict[str, Callable[[Any, Sequence[int | None]], Players]] = {
    **dict.fromkeys(
        ("StandardScaler", "MinMaxScaler", "RobustScaler", "MaxAbsScaler", "OrdinalEncoder", "QuantileTransformer",
         "PowerTransformer", "Binarizer"), _same),
    "Pipeline": _pipeline, "FeatureUnion": _union, "ColumnTransformer": _by_column, "SimpleImputer": _imputer,
    "OneHotEncoder": _one_hot, "KBinsDiscretizer": _bins, "PolynomialFeatures": _powers, "FunctionTransformer": _function,
}  # fmt: skip
