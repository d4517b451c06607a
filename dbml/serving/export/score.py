"""score.py for a model that has none: made from its format, its framework and its signature."""

from __future__ import annotations

from dbml.serving.export.plan import PlannedModel

_HEAD = '''"""Score with {reference}{made_with}.

init() is called once. run(data) answers POST /score: data is the request's body, {{"data": rows, "method": "predict"}}.
predict(rows, method) answers the other dialects, with rows as a DataFrame or an array of the columns below.
This file is yours to change; without predict() every request goes through run().
"""

import json
import os
{imports}
import numpy as np
import pandas as pd

MADE_BY_DBML = True
COLUMNS = {columns!r}


def init():
    """Load the model, once."""
    global model
    path = os.path.join(os.environ["AZUREML_MODEL_DIR"], {file!r})
{load}


def run(data):
    """Answer one request: a list with a prediction for each row."""
    payload = json.loads(data)
    rows = payload["data"]
    rows = pd.DataFrame(rows) if rows and isinstance(rows[0], dict) else np.asarray(rows)
    return np.asarray(predict(rows, payload.get("method", "predict"))).tolist()

'''

_ESTIMATOR = '''
def predict(rows, method="predict"):
    """Return the model's own answer for rows (n, features)."""
{fit}
    return getattr(model, method)(rows)
'''

_ONNX = '''
def predict(rows, method="predict"):
    """Return the graph's label or score for rows (n, features); predict_proba its second output."""
    if isinstance(rows, pd.DataFrame):
        rows = rows.to_numpy()
    wanted = {{"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(int64)": np.int64}}
    first = model.get_inputs()[0]
    answers = model.run(None, {{first.name: np.asarray(rows).astype(wanted.get(first.type, np.float32))}})
    if method == "predict":
        label = np.asarray(answers[0])
        return label[:, 0] if label.ndim == 2 and label.shape[1] == 1 else label
    if method == "predict_proba" and len(answers) > 1:
        return np.array([list(row.values()) for row in answers[1]]) if isinstance(answers[1], list) else answers[1]
    raise ValueError("this model has no " + method)
'''

_LOADS = {
    "pickle": ("import pickle\n", '    with open(path, "rb") as file:\n        model = pickle.load(file)'),
    "joblib": ("import joblib\n", "    model = joblib.load(path)"),
    "skops": (
        "import skops.io\n",
        "    # What the file holds was audited when it was registered; anything else does not load.\n"
        "    model = skops.io.load(path, trusted={trusted!r})",
    ),
    "onnx": (
        "import onnxruntime\n",
        "    model = onnxruntime.InferenceSession(path, providers=onnxruntime.get_available_providers())",
    ),
}  # fmt: skip


def generate(model: PlannedModel, file: str, trusted: list[str] | None = None) -> str:
    """Return a score.py for a model whose bytes are in a file of its folder.

    trusted: the types that a skops file may hold besides those that skops trusts itself.
    """
    imports, load = _LOADS.get(model.format, _LOADS["pickle"])
    if model.format == "skops":
        load = load.format(trusted=trusted or [])
    names = [str(feature["name"]) for feature in model.signature.get("features") or []]
    made_with = f", made with {model.framework} {model.framework_version or ''}".rstrip() if model.framework else ""
    head = _HEAD.format(
        reference=model.reference, made_with=made_with, imports=imports, columns=names or None, file=file, load=load
    )
    if model.format == "onnx":
        return head + _ONNX.replace("{{", "{").replace("}}", "}")
    fit = (
        '    named = hasattr(model, "feature_names_in_")\n'
        "    if isinstance(rows, pd.DataFrame) and not named and COLUMNS:\n"
        "        rows = rows[COLUMNS].to_numpy()\n"
        "    elif not isinstance(rows, pd.DataFrame) and named:\n"
        "        rows = pd.DataFrame(rows, columns=model.feature_names_in_)"
    )
    return head + _ESTIMATOR.format(fit=fit)


# What the generated file imports besides the model's framework, and what the scoring app does.
NEEDED = (
    "numpy>=1.26,<3", "pandas>=2.3,<4", "starlette>=1,<2", "uvicorn[standard]>=0.40,<1", "orjson>=3.11,<4",
    "prometheus-client>=0.22,<1", "werkzeug>=3.1,<4",
)  # fmt: skip
ARROW = ("pyarrow>=21",)
