"""The same score.py files and requests to azureml's own server and to ours: the same statuses and bodies."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.serving.services import Served, free_port, make_service, start, start_ours, until, wait

PLAIN = """
import json
def init():
    global factor
    factor = 2
def run(data):
    asked = json.loads(data)
    if asked.get("fail"):
        raise RuntimeError("no")
    if asked.get("text"):
        return "text"
    if asked.get("none"):
        return None
    return {"doubled": [factor * x for x in asked["data"]]}
"""
HEADERS = """
import json
def init(): pass
def run(body, request_headers):
    return {"custom": request_headers.get("X-Custom"), "length": len(body)}
"""
NUMPY = """
import numpy as np
from inference_schema.schema_decorators import input_schema, output_schema
from inference_schema.parameter_types.numpy_parameter_type import NumpyParameterType
def init(): pass
@input_schema("data", NumpyParameterType(np.array([[1.0, 2.0]])))
@output_schema(NumpyParameterType(np.array([3.0])))
def run(data):
    return data.sum(axis=1).tolist()
"""
PANDAS = """
import pandas as pd
from inference_schema.schema_decorators import input_schema
from inference_schema.parameter_types.pandas_parameter_type import PandasParameterType
from inference_schema.parameter_types.standard_py_parameter_type import StandardPythonParameterType
def init(): pass
@input_schema("frame", PandasParameterType(pd.DataFrame({"a": [1], "b": ["x"]})))
@input_schema("times", StandardPythonParameterType(2))
def run(frame, times=3):
    return [b * times for b in frame.b for _ in range(int(frame.a.iloc[0]))]
"""
RAW = """
import json
from azureml.contrib.services.aml_request import AMLRequest, rawhttp
from azureml.contrib.services.aml_response import AMLResponse
def init(): pass
@rawhttp
def run(request):
    if request.method == "GET":
        return AMLResponse(request.args.get("q", "none"), 200)
    body = request.get_data(False)
    if body == b"bad":
        return AMLResponse("bad", 418, {"X-Why": "tea"})
    if body == b"json":
        return AMLResponse({"a": [1, 2]}, 201, json_str=True)
    return {"got": body.decode(), "path": request.path}
"""
SCRIPTS = {"plain": PLAIN, "headers": HEADERS, "numpy": NUMPY, "pandas": PANDAS, "raw": RAW}

JSON = {"content-type": "application/json"}
REQUESTS: list[tuple[str, str, str, dict[str, Any]]] = [
    ("plain", "POST", "/score", {"json": {"data": [1, 2.5]}}),
    ("plain", "POST", "/score", {"json": {"data": [1]}, "headers": {"x-request-id": "abc", "x-ms-client-request-id": "mine"}}),
    ("plain", "POST", "/score", {"json": {"text": 1}}),
    ("plain", "POST", "/score", {"json": {"none": 1}}),
    ("plain", "POST", "/score", {"json": {"fail": 1}}),
    ("plain", "POST", "/score", {"json": {"wrong": 1}}),
    ("plain", "POST", "/score", {"content": b"not json"}),
    ("plain", "POST", "/score", {"content": b""}),
    ("plain", "POST", "/score", {"content": b"\xff\xfe"}),
    ("plain", "POST", "/score", {"content": b'{"data": [1]}', "headers": {"content-type": "text/plain"}}),
    ("plain", "GET", "/score?data=[1,2]", {}),
    ("plain", "PUT", "/score", {"json": {"data": [1]}}),
    ("plain", "DELETE", "/score", {}),
    ("plain", "OPTIONS", "/score", {}),
    ("plain", "GET", "/", {}),
    ("plain", "POST", "/", {}),
    ("plain", "GET", "/nowhere", {}),
    ("plain", "POST", "/swagger.json", {}),
    ("plain", "GET", "/", {"headers": {"x-request-id": "a" * 101}}),
    ("plain", "GET", "/swagger.json?version=9", {}),
    ("headers", "POST", "/score", {"content": b"12345", "headers": {"X-Custom": "yes"}}),
    ("numpy", "POST", "/score", {"json": {"data": [[1, 2], [3, 4]]}}),
    ("numpy", "POST", "/score", {"json": {"data": [[1, 2]], "unknown": 1}}),
    ("numpy", "POST", "/score", {"json": {"wrong": [[1, 2]]}}),
    ("numpy", "POST", "/score", {"content": b"{bad", "headers": JSON}),
    ("numpy", "POST", "/score", {"content": b"", "headers": JSON}),
    ("numpy", "POST", "/score", {"content": b"[1]", "headers": JSON}),
    ("numpy", "POST", "/score", {"content": b'{"data": [[1, 2]]}', "headers": {"content-type": "text/plain"}}),
    ("numpy", "POST", "/score", {"content": b'{"data": [[1, 2]]}', "headers": {"content-type": "application/problem+json"}}),
    ("numpy", "POST", "/score", {"json": {"data": [["a", "b"]]}}),
    ("numpy", "GET", "/score?data=[[1,2]]", {}),
    ("pandas", "POST", "/score", {"json": {"frame": [{"a": 2, "b": "z"}], "times": 2}}),
    ("pandas", "POST", "/score", {"json": {"frame": [{"a": 1, "b": "z"}]}}),
    ("pandas", "POST", "/score", {"json": {"times": 2}}),
    ("raw", "POST", "/score", {"content": b"hello"}),
    ("raw", "POST", "/score", {"content": b"bad"}),
    ("raw", "POST", "/score", {"content": b"json"}),
    ("raw", "GET", "/score?q=x", {}),
]
# Headers that say something of the request, and not of the server or the moment.
SAME = ("x-ms-run-function-failed", "x-ms-client-request-id", "x-why")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[Served, Served]]]:
    """Both servers for each script."""
    found = {}
    for name, text in SCRIPTS.items():
        folder = make_service(tmp_path_factory.mktemp(name) / "s", text)
        port = free_port()
        command = [str(Path(sys.executable).with_name("azmlinfsrv")), "--entry_script", "score.py", "--port", str(port)]
        theirs = start(command, port, folder / "theirs", {"AML_APP_ROOT": str(folder / "source")}, folder / "source")
        found[name] = theirs, start_ours(folder)
    for theirs, ours in found.values():
        wait(theirs)
        wait(ours)
    yield found
    for theirs, ours in found.values():
        theirs.stop()
        assert ours.stop() == 0


def body(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return response.text


def said(response: httpx.Response) -> Any:
    """Return a body without the words in which two JSON parsers differ."""
    found = body(response)
    if isinstance(found, dict) and str(found.get("message", "")).startswith("Swagger version [9]"):
        return "Swagger version [9]"
    return found


@pytest.mark.parametrize(("script", "verb", "path", "request_"), REQUESTS)
def test_statuses_and_bodies_are_azuremls(
    pairs: dict[str, tuple[Served, Served]], script: str, verb: str, path: str, request_: dict[str, Any]
) -> None:
    theirs, ours = (httpx.request(verb, served.url + path, **request_, timeout=30) for served in pairs[script])
    assert (ours.status_code, said(ours)) == (theirs.status_code, said(theirs))
    for name in SAME:
        assert ours.headers.get(name) == theirs.headers.get(name), name
    if "x-request-id" in request_.get("headers", {}) and ours.status_code == 200:
        assert ours.headers["x-request-id"] == theirs.headers["x-request-id"] == "abc"
        assert ours.headers["x-ms-request-id"] == theirs.headers["x-ms-request-id"]
    assert ("x-ms-run-fn-exec-ms" in ours.headers) == ("x-ms-run-fn-exec-ms" in theirs.headers)


@pytest.mark.parametrize("version", ["2", "3"])
def test_the_schemas_of_a_decorated_script_are_azuremls(pairs: dict[str, tuple[Served, Served]], version: str) -> None:
    for script in ("numpy", "pandas"):
        theirs, ours = (httpx.get(f"{served.url}/swagger.json?version={version}").json() for served in pairs[script])
        where = (lambda told: told["definitions"]) if version == "2" else (lambda told: told["components"]["schemas"])
        assert where(ours)["ServiceInput"] == where(theirs)["ServiceInput"]
        assert where(ours)["ServiceOutput"] == where(theirs)["ServiceOutput"]


def test_a_failing_script_leaves_its_traceback_in_the_log_alone(pairs: dict[str, tuple[Served, Served]]) -> None:
    ours = pairs["plain"][1]
    answer = httpx.post(ours.url + "/score", json={"fail": 1}, headers={"x-request-id": "find-me"})
    assert answer.json() == {"message": "An unexpected error occurred in scoring script. Check the logs for more info."}
    until(lambda: any(line.get("request_id") == "find-me" and line.get("status") == 500 for line in ours.lines))
    logged = [line for line in ours.lines if "traceback" in line]
    assert 'raise RuntimeError("no")' in logged[-1]["traceback"]
