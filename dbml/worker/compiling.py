r"""Compiling: what a scorer answers when SQL asks for a model in SQL's own terms.

The head tells what there is, the body holds lines: the bodies of functions, then the probes, an array literal a column,
then the model's answers, an array literal an output.  Newlines in a function's body travel as \x1f.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np

import dbml
from dbml import errors
from dbml.engines.python import PythonEngine
from dbml.engines.sql import compile_model
from dbml.features import feature_names, signature_features
from dbml.worker.frames import Frame
from dbml.worker.packages import scoring_packages


def compiled_answer(engine: PythonEngine, head: Mapping[str, Any]) -> Frame:
    """Compile a model, or say why not: that is an answer, not an error."""
    features = feature_names(engine.features, signature_features(head.get("signature")))
    told = {
        "tag": "compiled",
        "dbml_version": dbml.__version__,
        "packages": scoring_packages(),
        "may_convert": _may_convert(engine),
    }
    try:
        made = compile_model(engine, float(head["time_limit_s"]), features)
    except errors.NotCompiled as refusal:
        return {**told, "refused": refusal.message}, b""
    lines = [function.body.text.replace("\n", "\x1f") for function in made.functions]
    lines += [_literal(column) for column in made.probes.columns]
    outputs = {}
    for method, found in made.answers.items():
        columns = _outputs(found)
        outputs[method] = {"outputs": len(columns), "array": _is_array(found), "scale": made.scales[method]}
        lines += [_literal(column) for column in columns]
    functions = [{"method": f.method, "form": f.form, "language": f.body.language} for f in made.functions]
    return {
        **told, "kinds": made.kinds, "features": made.features, "type": engine.type, "refusals": made.refused,
        "functions": functions, "methods": list(made.answers), "rows": made.probes.n, "ordinary": made.probes.ordinary,
        "plain": made.probes.plain, "answers": outputs, "tolerance": made.tolerance, "seconds": round(made.seconds, 3),
        "thresholds": made.probes.thresholds, "thresholds_tried": made.probes.tried,
    }, "\n".join(lines).encode()  # fmt: skip


def _may_convert(engine: PythonEngine) -> bool:
    """Tell whether it is worth a try to make an ONNX file of a model, without importing what makes it."""
    package = type(engine.estimator).__module__.partition(".")[0]
    return package in ("sklearn", "lightgbm") and all(find_spec(name) is not None for name in ("onnx", "onnxruntime"))


def _is_array(found: Sequence[Any]) -> bool:
    return any(isinstance(answer, np.ndarray) for answer in found)


def _outputs(found: Sequence[Any]) -> list[list[Any]]:
    """Return answers by output; a float that is none or infinite counts as no answer: SQL never gives one."""
    width = max((len(answer) for answer in found if isinstance(answer, np.ndarray)), default=1)
    columns: list[list[Any]] = [[] for _ in range(width)]
    for answer in found:
        values: list[Any] = [None] * width
        if answer is not None:
            values = answer.tolist() if isinstance(answer, np.ndarray) else [answer.item() if hasattr(answer, "item") else answer]
            if any(isinstance(value, float) and not np.isfinite(value) for value in values):
                values = [None] * width
        for column, value in zip(columns, values, strict=True):
            column.append(value)
    return columns


def _literal(values: Sequence[Any]) -> str:
    """Write an array literal of one dimension, NULL for None."""
    return "{" + ",".join(map(_cell, values)) + "}"


def _cell(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "t" if value else "f"
    if isinstance(value, float):
        return repr(value) if np.isfinite(value) else "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, int):
        return str(value)
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'
