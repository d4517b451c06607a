"""Metrics of a fitted model on rows whose answers are known, and the pictures of them.

Formulas are scikit-learn's (sklearn.metrics); this module decides which there are, and in which form they are told.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from importlib import util
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn import metrics
from sklearn.base import is_classifier
from sklearn.pipeline import Pipeline

from dbml import errors
from dbml.engines.explain import columns_of
from dbml.engines.python import PythonEngine

BINS = 10  # of a calibration curve, of equal width


def evaluate(
    estimator: Any, frame: pd.DataFrame, target: str, features: Sequence[str] | None = None, run: Any = None
) -> pd.DataFrame:
    """Return metrics as rows: metric, value, details (JSON); log them to a run, and draw the figure that it keeps.

    Rows whose target is NULL are left out, and counted as `rows_left_out`.
    Raises: InvalidArgument where target is no column, or no row has one; MissingFeature; what the model raises.
    """
    if target not in frame.columns:
        raise errors.InvalidArgument(
            f'target must be a column of the query, got "{target}"', detail={"columns": list(frame.columns)}
        )
    known = frame[target].notna().to_numpy()
    rows = frame[known]
    if len(rows) == 0:
        raise errors.InvalidArgument(f'no row has a "{target}" to be compared with')
    engine = PythonEngine(estimator)
    _, given = columns_of(engine, rows.drop(columns=target), features)
    answer = engine.score("predict", given)
    last = estimator
    while isinstance(last, Pipeline) or hasattr(last, "best_estimator_"):
        last = last.steps[-1][1] if isinstance(last, Pipeline) else last.best_estimator_
    truth = rows[target].to_numpy()
    if is_classifier(last) or (hasattr(last, "classes_") and not hasattr(last, "regressor_")):
        found = list(_classification(engine, given, _as_labels(truth, answer), answer, engine.classes))
    else:
        try:
            numbers = truth.astype(np.float64)
        except (TypeError, ValueError):
            raise errors.InvalidArgument(
                f'the model predicts numbers, and "{target}" holds {rows[target].dtype}', detail={"target": target}
            ) from None
        found = list(_regression(numbers, answer.astype(np.float64)))
    found = [("rows", float(len(rows)), None), ("rows_left_out", float(len(frame) - len(rows)), None), *found]
    if run is not None:
        for metric, value, details in found:
            if details is None and value is not None:
                run.log(metric, value)
        _draw(found, truth, answer)
    return pd.DataFrame(
        {
            "metric": [metric for metric, _, _ in found],
            "value": pd.Series([value for _, value, _ in found], dtype="float64"),
            "details": pd.Series([details for _, _, details in found], dtype=object),
        }
    )


Row = tuple[str, float | None, dict[str, Any] | None]


def _as_labels(truth: npt.NDArray[Any], answer: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return labels of the type that the model gives: a column of a table may hold 1 where it says 1.0 or "1"."""
    if answer.dtype.kind in "OUS":
        return np.array([str(label) for label in truth], dtype=object)
    try:
        return truth.astype(answer.dtype)
    except (TypeError, ValueError):
        raise errors.InvalidArgument(
            f"the model predicts {answer.dtype} labels, and the target holds others, as {truth[0]!r}"
        ) from None


def _regression(truth: npt.NDArray[np.float64], answer: npt.NDArray[np.float64]) -> Iterator[Row]:
    yield "rmse", float(metrics.root_mean_squared_error(truth, answer)), None
    yield "mae", float(metrics.mean_absolute_error(truth, answer)), None
    yield "median_absolute_error", float(metrics.median_absolute_error(truth, answer)), None
    yield "max_error", float(metrics.max_error(truth, answer)), None
    yield "bias", float(np.mean(answer - truth)), None
    if len(truth) > 1:
        yield "r2", float(metrics.r2_score(truth, answer)), None


def _classification(
    engine: PythonEngine, given: Any, truth: npt.NDArray[Any], answer: npt.NDArray[Any], classes: Any
) -> Iterator[Row]:
    labels = list(
        dict.fromkeys(
            [*(np.asarray(classes).tolist() if classes is not None else []), *sorted({*truth.tolist(), *answer.tolist()})]
        )
    )
    if answer.dtype.kind in "OUS":
        labels, answer = [str(label) for label in labels], np.array([str(label) for label in answer], dtype=object)
    yield "accuracy", float(np.mean(truth == answer)), None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a class that is not there
        yield "balanced_accuracy", float(metrics.balanced_accuracy_score(truth, answer)), None
    parts = metrics.precision_recall_fscore_support(truth, answer, labels=labels, zero_division=0)
    for name, values in zip(("precision", "recall", "f1"), parts[:3], strict=True):
        yield name, float(np.average(values, weights=parts[3])), None
        for label, value, support in zip(labels, values, parts[3], strict=True):
            yield name, float(value), {"class": str(label), "rows": int(support)}
    if engine.has_proba and classes is not None:
        yield from _probabilities(engine.score("predict_proba", given), truth, np.asarray(classes).tolist())
    counts = metrics.confusion_matrix(truth, answer, labels=labels)
    for i, actual in enumerate(labels):
        for j, predicted in enumerate(labels):
            yield "confusion", float(counts[i, j]), {"actual": str(actual), "predicted": str(predicted)}


def _probabilities(proba: npt.NDArray[np.float64], truth: npt.NDArray[Any], classes: list[Any]) -> Iterator[Row]:
    places = {str(label): i for i, label in enumerate(classes)}
    known = np.array([places.get(str(label), -1) for label in truth])
    if (known >= 0).all():
        chosen = np.clip(proba[np.arange(len(known)), known], np.finfo(float).eps, 1)
        yield "log_loss", float(-np.mean(np.log(chosen))), None
    areas = []
    for k, label in enumerate(classes):
        is_class = known == k
        if 0 < is_class.sum() < len(is_class):
            areas.append(float(metrics.roc_auc_score(is_class, proba[:, k])))
            if len(classes) > 2:
                yield "roc_auc", areas[-1], {"class": str(label)}
    if areas:  # of two classes they are the same
        yield "roc_auc", float(np.mean(areas)), None
    # Of each class, as many rows as the model says?  A bin of its probabilities, their mean, and the share that was of the class.
    for k, label in enumerate(classes):
        if len(classes) == 2 and k == 0:
            continue
        bins = np.minimum((proba[:, k] * BINS).astype(int), BINS - 1)
        for b in np.unique(bins):
            inside = bins == b
            yield "calibration", float(np.mean(known[inside] == k)), {
                "class": str(label), "predicted": float(np.mean(proba[inside, k])), "rows": int(inside.sum()),
            }  # fmt: skip


def _draw(found: Sequence[Row], truth: npt.NDArray[Any], answer: npt.NDArray[Any]) -> None:
    """Leave a figure open, which is kept with the run; where matplotlib is not installed there is none."""
    if util.find_spec("matplotlib") is None:
        return
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    cells = [
        (details["actual"], details["predicted"], value) for metric, value, details in found if metric == "confusion" and details
    ]
    curve = [(details["predicted"], value) for metric, value, details in found if metric == "calibration" and details]
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4.5), num="evaluation")
    if cells:
        labels = list(dict.fromkeys(actual for actual, _, _ in cells))
        counts = np.array([value for _, _, value in cells]).reshape(len(labels), len(labels))
        axes[0].imshow(counts, cmap="Blues")
        for i, j in np.ndindex(counts.shape):
            axes[0].text(j, i, f"{counts[i, j]:.0f}", ha="center", va="center")
        axes[0].set(xticks=range(len(labels)), yticks=range(len(labels)), xlabel="predicted", ylabel="actual", title="confusion")
        axes[0].set_xticklabels(labels)
        axes[0].set_yticklabels(labels)
        axes[1].plot([0, 1], [0, 1], color="grey", linewidth=1)
        if curve:
            axes[1].scatter(*zip(*curve, strict=True))
        axes[1].set(xlabel="predicted probability", ylabel="share of the class", title="calibration")
    else:
        numbers, scores = truth.astype(float), answer.astype(float)
        ends = [min(numbers.min(), scores.min()), max(numbers.max(), scores.max())]
        axes[0].plot(ends, ends, color="grey", linewidth=1)
        axes[0].scatter(numbers, scores, s=8)
        axes[0].set(xlabel="actual", ylabel="predicted", title="predictions")
        axes[1].hist(scores - numbers, bins=30)
        axes[1].set(xlabel="predicted - actual", title="errors")
    figure.tight_layout()
