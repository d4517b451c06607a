"""Converting: what a scorer answers when SQL asks for a model as an ONNX file: the file in hex, and its certificate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dbml
from dbml import errors
from dbml.engines.python import PythonEngine
from dbml.features import feature_names, signature_features
from dbml.formats import onnx
from dbml.worker.frames import Frame
from dbml.worker.packages import scoring_packages


def converted_answer(engine: PythonEngine, head: Mapping[str, Any]) -> Frame:
    """Convert a model, or say why not: that is an answer, not an error."""
    features = feature_names(engine.features, signature_features(head.get("signature")))
    told = {"tag": "converted", "dbml_version": dbml.__version__, "packages": scoring_packages()}
    try:
        try:
            from dbml.engines.onnx.convert import convert

            made = convert(engine, onnx.session, float(head["time_limit_s"]), features)
        except ImportError as missing:
            raise errors.NotCompiled(f"the package {missing.name} is not in this environment") from None
    except errors.NotCompiled as refusal:
        return {**told, "refused": refusal.message}, b""
    return {
        **told, "kinds": made.kinds, "features": made.features, "type": engine.type, "compared": made.compared, "left": made.left,
        "thresholds": made.thresholds, "thresholds_tried": made.thresholds_tried, "absolute": made.absolute,
        "relative": made.relative, "tolerance": made.tolerance, "refusals": made.slower, "seconds": round(made.seconds, 3),
        "maker": made.maker,
    }, made.content.hex().encode()  # fmt: skip
