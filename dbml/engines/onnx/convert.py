"""Conversion: a fitted estimator as an ONNX file, and the proof that it answers as the estimator does.

What `dbml.engines.sql` has translators for becomes a graph of ours, in float64 with the thresholds of trees as they are
compared; skl2onnx converts the rest, nearest neighbours and kernel machines among it.  (Its trees are float32, which no
certificate would pass.)  Either way the file is tried on the probes, and is not given out with one row that differs.
"""

from __future__ import annotations

import io
import json
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any

import numpy as np

from dbml import errors
from dbml.engines.onnx import OnnxEngine
from dbml.engines.onnx.graph import write
from dbml.engines.python import PythonEngine
from dbml.engines.sql import TOLERANCE, TREE_TOLERANCE, scale_of, translate_model
from dbml.engines.sql.compiler import Hints
from dbml.engines.sql.expressions import Kind
from dbml.engines.sql.inputs import kinds as kinds_of
from dbml.engines.sql.probes import Probes, answers, frame, make_probes

MOST_BYTES = 64 << 20
_TRAINED_ON = ("_fit_X", "X_train_", "support_vectors_")


@dataclass
class Converted:
    """A file, and what was proven of it."""

    content: bytes
    maker: str
    kinds: list[Kind]
    features: list[str] | None
    compared: int
    left: int
    thresholds: int
    thresholds_tried: int
    absolute: float
    relative: float
    tolerance: float
    slower: dict[str, str]  # by form, row or set: how much faster the estimator itself is
    seconds: float


def convert(
    engine: PythonEngine, start_session: Any, time_limit_s: float = 60.0, features: Sequence[str] | None = None
) -> Converted:  # fmt: skip
    """Convert a fitted estimator and compare; start_session makes a session of the file's bytes.

    Raises: NotCompiled, with what could not be converted or what differed.
    """
    began = time.monotonic()
    width = engine.n_features or len(features or ())
    if not width:
        raise errors.NotCompiled("the model does not say how many features it takes")
    names = engine.features if features is None else list(features)
    about = {"features": names, "kind": engine.kind, "classes": _plain(engine.classes)}
    try:
        translated = translate_model(engine, time_limit_s, features)
        content = write(translated.programs, translated.kinds, about)
        kinds, hints, maker, methods = translated.kinds, translated.hints, "dbml", list(translated.programs)
        tolerance = max(translated.tolerance, TREE_TOLERANCE if translated.forest_nodes else TOLERANCE)
    except errors.NotCompiled as refusal:
        kinds = kinds_of(engine.estimator, width)
        hints, maker, tolerance = _hints(engine.estimator), "skl2onnx", TOLERANCE
        # Far beyond training, sums of squares and kernels round in ways of their own.
        bounds = None
        if len(hints.ranges) == width:
            spans = [hints.ranges[i] for i in range(width)]
            bounds = [[low - 10 * (high - low), high + 10 * (high - low)] for low, high in spans]
        content = _by_skl2onnx(engine, kinds, {**about, "finite_only": True, "bounds": bounds}, refusal.message)
        methods = ["predict", *(["predict_proba"] if engine.has_proba else [])]
    if len(content) > MOST_BYTES:
        raise errors.NotCompiled(f"a file of {len(content) >> 20} MB, more than {MOST_BYTES >> 20} MB")
    try:
        made = OnnxEngine(start_session(content))
    except errors.ModelLoadError as error:
        raise errors.NotCompiled(error.message) from None
    probes = make_probes(kinds, hints)
    found = Converted(content, maker, kinds, names, 0, 0, probes.thresholds, probes.tried, 0.0, 0.0, tolerance, {}, 0.0)
    for method in methods:
        if method == "predict_proba" and not made.has_proba:
            continue
        if time.monotonic() - began > time_limit_s:
            raise errors.NotCompiled(f"it takes longer to prove than {time_limit_s:g} s")
        _compare(engine, made, method, probes, kinds, found)
    for form, n in (("row", 1), ("set", probes.ordinary)):
        rows = frame(engine, probes, kinds, 0, n)
        ratio = _processor_s(lambda: made.answers("predict", rows)) / _processor_s(lambda: engine.score("predict", rows))  # noqa: B023
        if ratio > 1.0:
            found.slower[form] = f"the model itself is {ratio:.1f} times as fast"
    found.seconds = time.monotonic() - began
    return found


def _compare(
    engine: PythonEngine, made: OnnxEngine, method: str, probes: Probes, kinds: Sequence[Kind], found: Converted
) -> None:  # fmt: skip
    """Compare answers to the probes, and add to what was found.

    Raises: NotCompiled for one that differs.
    """
    own = answers(engine, method, probes, kinds)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        values, answered = made.answers(method, frame(engine, probes, kinds, 0, probes.n))
    scale = scale_of(own[: probes.ordinary])
    for i in np.flatnonzero(answered):
        wanted = own[i]
        if wanted is None:
            raise errors.NotCompiled(f"row {_row(probes, int(i))} is answered where the model raises ({method})")
        expected, got = np.atleast_1d(wanted), np.atleast_1d(values[i])
        if expected.dtype.kind != "f":
            if expected.tolist() != got.tolist():
                raise errors.NotCompiled(
                    f"row {_row(probes, int(i))} differs from the model ({method}): {got.tolist()}, not {expected.tolist()}"
                )
            continue
        apart = float(np.max(np.abs(expected - got)))
        size = max(float(np.max(np.abs(expected))), scale)
        if not apart <= found.tolerance * size:
            raise errors.NotCompiled(
                f"row {_row(probes, int(i))} differs from the model ({method}): {got.tolist()}, not {expected.tolist()}"
            )
        found.absolute = max(found.absolute, apart)
        found.relative = max(found.relative, apart / size if size else 0.0)
    if int(answered[: probes.ordinary].sum()) * 2 < probes.ordinary:
        raise errors.NotCompiled("it would leave most ordinary rows to the model")
    found.compared += int(answered.sum())
    found.left += int((~answered).sum())


def _processor_s(work: Callable[[], Any]) -> float:
    """Return the processor time that work takes at best, of a few times."""
    best = float("inf")
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for _ in range(5):
            began = time.process_time_ns()
            work()
            best = min(best, (time.process_time_ns() - began) / 1e9)
    return max(best, 1e-7)


def _row(probes: Probes, i: int) -> str:
    return str([column[i] for column in probes.columns])[:200]


def _hints(estimator: Any) -> Hints:
    """Return the ranges of training where the estimator has kept its rows."""
    hints = Hints()
    rows = next(
        (getattr(estimator, name) for name in _TRAINED_ON if isinstance(getattr(estimator, name, None), np.ndarray)), None
    )
    if rows is not None and rows.ndim == 2 and rows.dtype.kind in "fi" and len(rows):
        hints.ranges = {i: [float(low), float(high)] for i, (low, high) in enumerate(zip(rows.min(0), rows.max(0), strict=True))}
    for _, step in getattr(estimator, "steps", None) or []:
        middle, width = getattr(step, "mean_", None), getattr(step, "scale_", None)
        if (
            isinstance(middle, np.ndarray)
            and isinstance(width, np.ndarray)
            and len(middle) == getattr(estimator, "n_features_in_", -1)
        ):
            hints.ranges = {i: [float(m - 2 * w), float(m + 2 * w)] for i, (m, w) in enumerate(zip(middle, width, strict=True))}
        break
    return hints


def _by_skl2onnx(engine: PythonEngine, kinds: Sequence[Kind], about: dict[str, Any], why: str) -> bytes:
    """Have skl2onnx convert an estimator; why: what our own translators said."""
    if not type(engine.estimator).__module__.startswith("sklearn."):
        raise errors.NotCompiled(why)
    try:
        from onnx import helper
        from skl2onnx import to_onnx
        from skl2onnx.common.data_types import DoubleTensorType, StringTensorType
    except ImportError:
        raise errors.NotCompiled(f"{why}; and the package skl2onnx is not in this environment") from None
    if "text" in kinds:
        types = [
            (f"c{i}", StringTensorType([None, 1]) if kind == "text" else DoubleTensorType([None, 1]))
            for i, kind in enumerate(kinds)
        ]
    else:
        types = [("X", DoubleTensorType([None, len(kinds)]))]
    options = None if engine.classes is None else {id(engine.estimator): {"zipmap": False}}
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            model = to_onnx(engine.estimator, initial_types=types, options=options)
    except Exception as error:  # its converters raise whatever they raise
        raise errors.NotCompiled(f"{why}; skl2onnx: {type(error).__name__}: {str(error)[:300]}") from None
    helper.set_model_props(model, {"dbml": json.dumps(about)})
    return bytes(model.SerializeToString())


def _plain(classes: Sequence[Any] | None) -> list[Any] | None:
    if classes is None:
        return None
    return [label if isinstance(label, str | int | float | bool) else str(label) for label in classes]
