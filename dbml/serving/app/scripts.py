"""score.py: found, read, asked how it wants its input, and run.

A script has `init()`, called once, and `run(…)`, which answers POST /score.  How run() is declared decides what it gets:

    def run(data)                       the body, as str
    @input_schema('data', …)            the JSON object's keys as arguments, made what the schema says (inference-schema)
    @rawhttp                            the request itself
    … request_headers                   the headers too, a dict

It may have `predict(rows, method)` besides: the other dialects call that with a DataFrame or an array, without JSON in
between.  A script that dbml made has it, and POST /score goes there too.
"""

from __future__ import annotations

import importlib.util
import inspect
import os
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import orjson

from dbml.serving.app import model_paths, rawhttp
from dbml.serving.app.manifest import ScriptEntry
from dbml.serving.app.problems import BadRequest, ServiceInvalid
from dbml.serving.app.rows import Expected, Rows

_LOADING = threading.Lock()  # AZUREML_MODEL_DIR is the process's, and each script has its own


class Script:
    """One loaded score.py.

    expected: what the model's signature asks of rows.  takes: "text", "arguments" or "request", what run() gets.
    """

    def __init__(self, entry: ScriptEntry) -> None:
        self.entry = entry
        self.name, self.version = entry.name, entry.version
        self.expected = Expected(entry.signature)
        with _LOADING:
            os.environ["AZUREML_MODEL_DIR"] = str(entry.model_dir)
            module = _load(entry.entry_script, f"score_{entry.name}_{entry.version}")
            init = getattr(module, "init", None)
            run = getattr(getattr(module, "driver_module", module), "run", None)
            if not callable(init) or not callable(run):
                lacking = "run" if callable(init) else "init"
                raise ServiceInvalid(f"{entry.entry_script} must have a function {lacking}()")
            try:
                init()
            except BaseException as error:
                raise ServiceInvalid(f"init() of {entry.entry_script} raised {type(error).__name__}: {error}") from error
        self.module = module
        self.run: Callable[..., Any] = run
        predict = getattr(module, "predict", None)
        self._predict: Callable[[Rows, str], Any] | None = predict if callable(predict) else None
        self.is_generated = bool(getattr(module, "MADE_BY_DBML", False)) and self._predict is not None
        self._declare(run)

    def _declare(self, run: Callable[..., Any]) -> None:
        declared = inspect.signature(run).parameters.values()
        if any(p.kind not in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD) for p in declared):
            raise ServiceInvalid("run() cannot accept positional-only arguments, *args, or **kwargs")
        self.takes_headers = any(p.name == "request_headers" for p in declared)
        self.parameters = [p for p in declared if p.name != "request_headers"]
        if not self.parameters:
            raise ServiceInvalid("run() needs to accept an argument for input data")
        self.schema = _schema(run)
        if rawhttp.is_raw(run):
            if self.schema is not None:
                raise ServiceInvalid("run() cannot be decorated with both @rawhttp and @input_schema")
            self.takes = "request"
        else:
            self.takes = "text" if self.schema is None else "arguments"

    def call(self, arguments: Mapping[str, Any], headers: Mapping[str, str]) -> Any:
        """Have run() answer its arguments."""
        return self.run(**arguments, request_headers=dict(headers)) if self.takes_headers else self.run(**arguments)

    def arguments(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Pick run()'s arguments from an object's keys; unknown keys are ignored.

        Raises: BadRequest where one without a default is missing.
        """
        picked = {}
        for parameter in self.parameters:
            value = values.get(parameter.name, parameter.default)
            if value is inspect.Parameter.empty:
                raise BadRequest(f"A value is not provided for the {parameter.name!r} parameter.")
            picked[parameter.name] = value
        return picked

    @property
    def batches(self) -> bool:
        """Tell whether rows of several requests may be scored in one call."""
        return self._predict is not None

    def predict(self, rows: Rows, method: str = "predict") -> Any:
        """Score rows by what the script has for it: its predict, else its run with {"data": …}, as for POST /score."""
        if self._predict is not None and not self.is_generated:
            return self._predict(rows, method)
        if self._predict is not None:
            try:
                return self._predict(rows, method)
            except (ValueError, TypeError, AttributeError) as error:  # a model's words for values that it does not take
                raise BadRequest(f"the model refuses the rows: {error}") from error
        if self.takes == "request":
            raise BadRequest("this service's run() takes whole HTTP requests: POST /score")
        data = rows.to_dict(orient="records") if hasattr(rows, "to_dict") else rows.tolist()
        if self.takes == "arguments":
            return _unwrap(self.call(self.arguments({self.parameters[0].name: data, "method": method}), {}))
        payload = orjson.dumps({"data": data, "method": method}, option=orjson.OPT_SERIALIZE_NUMPY).decode()
        return _unwrap(self.call({self.parameters[0].name: payload}, {}))


def _unwrap(answer: Any) -> Any:
    """Return the scores of what run() returned: scripts like to answer JSON text, or {"result": […]}."""
    if isinstance(answer, str):
        try:
            answer = orjson.loads(answer)
        except ValueError:
            return answer
    if isinstance(answer, Mapping) and len(answer) == 1:
        return next(iter(answer.values()))
    return answer


def _load(path: Path, name: str) -> ModuleType:
    rawhttp.answer_imports()
    model_paths.answer_imports()
    folder = str(path.parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        raise ServiceInvalid(f"{path} could not be read: {type(error).__name__}: {error}") from error
    return module


def _schema(run: Callable[..., Any]) -> dict[str, Any] | None:
    """Return the OpenAPI schemas of run()'s input and output; None where it is not decorated."""
    if "inference_schema" not in sys.modules:
        return None
    from inference_schema.schema_util import get_input_schema, get_output_schema, is_schema_decorated

    if not is_schema_decorated(run):
        return None
    return {"input": get_input_schema(run), "output": get_output_schema(run)}
