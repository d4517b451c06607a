"""XGBoost and LightGBM: the contributions that they compute themselves, exact TreeSHAP, path-dependent as in `trees`.

XGBoost: pred_contribs, in float32 (https://xgboost.readthedocs.io/en/stable/prediction.html).  LightGBM: pred_contrib, in
float64.  Both count a column a player: columns that a pipeline has made of one input are summed up.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from dbml.engines.explain.linear import Explain, Explained, Matrix
from dbml.engines.explain.steps import NotTraceable

_XGBOOST = {
    "reg:squarederror": "prediction", "reg:absoluteerror": "prediction", "reg:pseudohubererror": "prediction",
    "reg:squaredlogerror": "prediction", "reg:quantileerror": "prediction", "rank:ndcg": "prediction", "rank:map": "prediction",
    "rank:pairwise": "prediction", "count:poisson": "log", "reg:gamma": "log", "reg:tweedie": "log",
    "binary:logistic": "log-odds", "reg:logistic": "log-odds", "multi:softprob": "log-odds", "multi:softmax": "log-odds",
    "binary:logitraw": "log-odds", "binary:hinge": "decision",
}  # fmt: skip
_LIGHTGBM = {
    **dict.fromkeys(
        ("regression", "regression_l1", "huber", "fair", "quantile", "mape", "lambdarank", "rank_xendcg"), "prediction"
    ),
    **dict.fromkeys(("poisson", "gamma", "tweedie"), "log"),
    "binary": "log-odds", "multiclass": "log-odds", "multiclassova": "decision",
}  # fmt: skip
ROUNDING = {"xgboost": 1e-4, "lightgbm": 1e-9}  # relative, of a sum of float32 or float64


def explainer(estimator: Any) -> Explain | None:
    """Return the function that explains a fitted estimator of XGBoost or LightGBM; None where it is of neither.

    Raises: NotTraceable for an objective of the user's own, and where several targets are predicted.
    """
    module, name = type(estimator).__module__, type(estimator).__name__
    if module == "xgboost.sklearn" and name.startswith("XGB"):
        return _explain(estimator, "xgboost", _of_xgboost, *_xgboost(estimator))
    if module == "lightgbm.sklearn" and name.startswith("LGBM"):
        return _explain(estimator, "lightgbm", _of_lightgbm, _lightgbm(estimator), "trees")
    return None


def _explain(estimator: Any, package: str, ask: Any, scale: str, method: str) -> Explain:
    classifies = hasattr(estimator, "classes_")

    def explain(values: Matrix, players: Sequence[int | None], width: int) -> Explained:
        if None in players:
            raise NotTraceable("a column of the pipeline is a constant")
        told, margin = ask(estimator, values)  # (n, groups, columns + 1), (n, groups)
        apart = np.abs(told.sum(axis=2) - margin)
        if not (apart <= ROUNDING[package] * np.maximum(1.0, np.abs(told).sum(axis=2))).all():
            raise NotTraceable(f"what {package} says of columns does not add up to its margin")
        if told.shape[1] > 1 and not classifies:
            raise NotTraceable("it predicts several targets")
        contributions = np.zeros((len(values), width, told.shape[1]))
        for j, player in enumerate(players):
            contributions[:, player, :] += told[:, :, j]
        baseline = told[0, :, -1].astype(float)
        if classifies and told.shape[1] == 1:  # what speaks for one class speaks against the other
            contributions = np.concatenate([-contributions, contributions], axis=2)
            baseline = np.array([-baseline[0], baseline[0]])
        return contributions, baseline, scale, method

    return explain


def _xgboost(estimator: Any) -> tuple[str, str]:
    objective = estimator.objective if isinstance(estimator.objective, str) else "of the user's own"
    if objective not in _XGBOOST:
        raise NotTraceable(f"objective {objective}")
    return _XGBOOST[objective], "linear" if estimator.booster == "gblinear" else "trees"


def _of_xgboost(estimator: Any, values: Matrix) -> tuple[Matrix, Matrix]:
    import xgboost

    booster = estimator.get_booster()
    rows = xgboost.DMatrix(
        values, missing=estimator.missing, feature_names=booster.feature_names, feature_types=booster.feature_types,
        enable_categorical=True, nthread=1,
    )  # fmt: skip
    used = estimator._get_iteration_range(None)  # up to the best, where training has stopped early
    told = booster.predict(rows, pred_contribs=True, strict_shape=True, iteration_range=used)
    margin = booster.predict(rows, output_margin=True, strict_shape=True, iteration_range=used)
    return told.astype(float), margin.reshape(len(values), -1).astype(float)


def _lightgbm(estimator: Any) -> str:
    head = estimator.booster_.model_to_string(num_iteration=1).splitlines()
    said = next((line.partition("=")[2].split() for line in head if line.startswith("objective=")), ["of the user's own"])
    objective, settings = said[0], said[1:]
    if objective not in _LIGHTGBM or "sqrt" in settings:
        raise NotTraceable(f"objective {' '.join(said)}")
    slope = next((float(word.partition(":")[2]) for word in settings if word.startswith("sigmoid:")), 1.0)
    return _LIGHTGBM[objective] if slope == 1.0 else "decision"


def _of_lightgbm(estimator: Any, values: Matrix) -> tuple[Matrix, Matrix]:
    import lightgbm

    booster = estimator.booster_
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            told = np.asarray(booster.predict(values, pred_contrib=True, num_threads=1))
        except lightgbm.basic.LightGBMError as error:
            raise NotTraceable(str(error)) from None
        margin = np.asarray(booster.predict(values, raw_score=True, num_threads=1))
    if estimator.boosting_type == "rf":  # it adds up where it should average
        told, margin = told / booster.current_iteration(), margin / booster.current_iteration()
    return told.reshape(len(values), -1, values.shape[1] + 1), margin.reshape(len(values), -1)
