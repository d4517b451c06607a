"""The Open Inference Protocol, also called KServe V2, over REST: /v2, with the binary tensor extension.

Source: kserve.github.io "Open Inference Protocol (V2)", and Triton's "Binary Tensor Data Extension".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pandas as pd
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dbml.serving.app import answers
from dbml.serving.app.problems import BadRequest, Problem
from dbml.serving.app.rows import Rows
from dbml.serving.app.scripts import Script
from dbml.serving.app.service import METHODS, Service

_TYPES: dict[str, npt.DTypeLike] = {
    "BOOL": np.bool_, "UINT8": np.uint8, "UINT16": np.uint16, "UINT32": np.uint32, "UINT64": np.uint64, "INT8": np.int8,
    "INT16": np.int16, "INT32": np.int32, "INT64": np.int64, "FP16": np.float16, "FP32": np.float32, "FP64": np.float64,
}  # fmt: skip
_NAMES = {np.dtype(dtype): name for name, dtype in _TYPES.items()}
_FAMILIES = {"double precision": "FP64", "bigint": "INT64", "boolean": "BOOL", "text": "BYTES", None: "FP64"}
_LENGTH = "inference-header-content-length"


def routes(service: Service) -> list[Route]:
    """Return the dialect's routes."""

    async def server(_: Request) -> Response:
        told = {"name": service.manifest.name, "version": service.manifest.version, "extensions": ["binary_tensor_data"]}
        return _json(told)

    async def live(_: Request) -> Response:
        return _json({"live": True})

    async def ready(_: Request) -> Response:
        return _json({"ready": service.ready}, 200 if service.ready else 503)

    async def model(request: Request) -> Response:
        return _json(_metadata(service, _script(service, request)))

    async def model_ready(request: Request) -> Response:
        script = _script(service, request)
        return _json({"name": script.name, "ready": service.ready}, 200 if service.ready else 503)

    async def infer(request: Request) -> Response:
        return await _infer(service, _script(service, request), request)

    found = [
        Route("/v2", server, methods=["GET"]),
        Route("/v2/health/live", live, methods=["GET"]),
        Route("/v2/health/ready", ready, methods=["GET"]),
    ]
    for prefix in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
        found += [
            Route(prefix, model, methods=["GET"]),
            Route(f"{prefix}/ready", model_ready, methods=["GET"]),
            Route(f"{prefix}/infer", infer, methods=["POST"]),
        ]
    return found


def problem_response(problem: Problem) -> Response:
    """Answer a problem as {"error": …}."""
    return Response(answers.to_json({"error": problem.message}), problem.status, dict(problem.headers), answers.JSON)


def _json(value: Any, status: int = 200) -> Response:
    return Response(answers.to_json(value), status, media_type=answers.JSON)


def _script(service: Service, request: Request) -> Script:
    return service.find(request.path_params["name"], request.path_params.get("version"))


def _metadata(service: Service, script: Script) -> dict[str, Any]:
    expected = script.expected
    if expected.names and not expected.numeric:
        inputs = [{"name": name, "datatype": _FAMILIES[expected.types[name]], "shape": [-1, 1]} for name in expected.names]
    else:
        inputs = [{"name": "input", "datatype": "FP64", "shape": [-1, expected.count or -1]}]
    kind = str((script.entry.signature.get("prediction") or {}).get("type", "double precision"))
    datatype = {"double precision": "FP64", "bigint": "INT64", "boolean": "BOOL"}.get(kind.removesuffix("[]"), "BYTES")
    return {
        "name": script.name, "versions": service.versions(script.name), "platform": _platform(script), "inputs": inputs,
        "outputs": [{"name": "predict", "datatype": datatype, "shape": [-1, -1] if kind.endswith("[]") else [-1]}],
    }  # fmt: skip


def _platform(script: Script) -> str:
    about = script.entry.models[0].about if script.entry.models else {}
    return f"{about.get('framework') or 'python'}_{about.get('format') or 'script'}"


async def _infer(service: Service, script: Script, request: Request) -> Response:
    body: bytes = request.scope["dbml.body"]
    head, tail = _split(request, body)
    if not isinstance(head.get("inputs"), list) or not head["inputs"]:
        raise BadRequest("inputs must be a list of at least one tensor")
    tensors: list[tuple[str, npt.NDArray[Any]]] = []
    at = 0
    for told in head["inputs"]:
        name, array, at = _tensor(told, tail, at)
        tensors.append((name, array))
    if at != len(tail):
        raise BadRequest(f"the inputs' binary_data_size must add up to the {len(tail)} bytes after the JSON, got {at}")
    parameters = head.get("parameters") or {}
    wanted = head.get("outputs") or []
    if (
        not isinstance(parameters, Mapping)
        or not isinstance(wanted, list)
        or not all(isinstance(w, Mapping) and "name" in w for w in wanted)
    ):
        raise BadRequest("parameters must be an object, and outputs a list of objects with a name")
    names = [str(output["name"]) for output in wanted] or [str(parameters.get("method", "predict"))]
    given = _rows(script, tensors)
    scored = []
    for name in names:
        if name not in METHODS:
            raise BadRequest(f"an output must be one of {', '.join(METHODS)}, got {name!r}")
        scored.append((name, (await service.score(script, given, name))[0]))
    all_binary = bool(parameters.get("binary_data_output"))
    binary = {str(o["name"]): bool((o.get("parameters") or {}).get("binary_data", all_binary)) for o in wanted}
    outputs, tails = [], []
    for name, scores in scored:
        output, content = _output(name, scores, binary.get(name, all_binary))
        outputs.append(output)
        tails.append(content)
    answer: dict[str, Any] = {"model_name": script.name, "model_version": str(script.version), "outputs": outputs}
    if isinstance(head.get("id"), str):
        answer["id"] = head["id"]
    text = answers.to_json(answer)
    content = b"".join(tails)
    if not content:
        return Response(text, media_type=answers.JSON)
    return Response(text + content, headers={_LENGTH: str(len(text))}, media_type="application/octet-stream")


def _split(request: Request, body: bytes) -> tuple[Mapping[str, Any], bytes]:
    """Return the JSON of a body and the bytes of tensors behind it."""
    declared = request.headers.get(_LENGTH)
    length = len(body)
    if declared is not None:
        if not declared.isdigit() or int(declared) > len(body):
            raise BadRequest(f"{_LENGTH} must be at most the body's {len(body)} bytes, got {declared}")
        length = int(declared)
    try:
        head = orjson.loads(body[:length])
    except ValueError as error:
        raise BadRequest(f"the body could not be read as JSON: {error}") from None
    if not isinstance(head, Mapping):
        raise BadRequest("the body must be a JSON object")
    return head, body[length:]


def _tensor(told: Any, tail: bytes, at: int) -> tuple[str, npt.NDArray[Any], int]:
    """Return a tensor's name and array, and where the next one's bytes begin."""
    if not isinstance(told, Mapping) or not isinstance(told.get("name"), str):
        raise BadRequest("an input must be an object with a name")
    name = told["name"]
    shape, datatype = told.get("shape"), told.get("datatype")
    if not isinstance(shape, list) or not shape or len(shape) > 2 or not all(type(n) is int and 0 <= n < 1 << 31 for n in shape):
        raise BadRequest(f"the shape of input {name!r} must be one or two whole numbers, got {shape!r}")
    if datatype not in _TYPES and datatype != "BYTES":
        raise BadRequest(f"the datatype of input {name!r} must be one of {', '.join([*_TYPES, 'BYTES'])}, got {datatype!r}")
    count = int(np.prod(shape))
    size = (told.get("parameters") or {}).get("binary_data_size") if isinstance(told.get("parameters") or {}, Mapping) else None
    if size is not None:
        if type(size) is not int or not 0 <= size <= len(tail) - at:
            raise BadRequest(
                f"binary_data_size of input {name!r} must be at most the {len(tail) - at} bytes that are left, got {size!r}"
            )
        array = _from_bytes(name, datatype, count, tail[at : at + size])
        at += size
    else:
        array = _from_list(name, datatype, told.get("data"))
    if array.size != count:
        raise BadRequest(f"input {name!r} must have {count} values for its shape {shape}, got {array.size}")
    return name, array.reshape(shape), at


def _from_bytes(name: str, datatype: str, count: int, content: bytes) -> npt.NDArray[Any]:
    if datatype != "BYTES":
        dtype = np.dtype(_TYPES[datatype]).newbyteorder("<")
        if len(content) != count * dtype.itemsize:
            raise BadRequest(f"input {name!r} must have {count * dtype.itemsize} bytes, got {len(content)}")
        return np.frombuffer(content, dtype=dtype)
    found, at = [], 0
    while at < len(content):
        length = int.from_bytes(content[at : at + 4], "little")
        if at + 4 + length > len(content):
            raise BadRequest(f"the bytes of input {name!r} end within a value")
        found.append(_text(name, content[at + 4 : at + 4 + length]))
        at += 4 + length
    return np.array(found, dtype=object)


def _text(name: str, content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise BadRequest(f"input {name!r} must hold UTF-8") from None


def _from_list(name: str, datatype: str, data: Any) -> npt.NDArray[Any]:
    if not isinstance(data, list):
        raise BadRequest(f"data of input {name!r} must be a list")
    try:
        if datatype == "BYTES":
            array = np.array(data, dtype=object).ravel()
            if not all(isinstance(value, str) or value is None for value in array):
                raise ValueError
            return array
        raw = np.array(data).ravel() if data else np.empty(0)
        wanted = np.dtype(_TYPES[datatype])
        if raw.dtype.kind == "O" and wanted.kind == "f":
            return np.array(data, dtype=np.float64).ravel().astype(wanted)
        if (
            not (raw.dtype.kind == "b") == (wanted.kind == "b")
            or raw.dtype.kind not in "biuf"
            or (wanted.kind in "iu" and raw.dtype.kind == "f" and raw.size)
        ):
            raise ValueError
        array = raw.astype(wanted)
        if wanted.kind in "iu" and not (array == raw).all():
            raise ValueError
    except (ValueError, TypeError, OverflowError):
        raise BadRequest(f"data of input {name!r} must hold values of {datatype}") from None
    return array


def _rows(script: Script, tensors: list[tuple[str, npt.NDArray[Any]]]) -> Rows:
    """Return a single matrix as it is, and tensors of one column each as a frame."""
    if (
        len(tensors) == 1
        and tensors[0][1].ndim == 2
        and not (tensors[0][0] in script.expected.names and tensors[0][1].shape[1] == 1)
    ):
        return tensors[0][1]
    columns = {}
    for name, array in tensors:
        if array.ndim == 2 and array.shape[1] != 1:
            raise BadRequest(f"input {name!r} must have one column where there are several inputs, got shape {list(array.shape)}")
        if name in columns:
            raise BadRequest(f"input {name!r} is there twice")
        columns[name] = array.ravel()
    lengths = {len(column) for column in columns.values()}
    if len(lengths) > 1:
        raise BadRequest(f"the inputs must have equally many rows, got {', '.join(map(str, sorted(lengths)))}")
    return pd.DataFrame(columns)


def _output(name: str, scores: Any, binary: bool) -> tuple[dict[str, Any], bytes]:
    array = scores.to_numpy() if isinstance(scores, pd.DataFrame | pd.Series) else np.asarray(scores)
    datatype = _NAMES.get(array.dtype.newbyteorder("="), "BYTES")
    output: dict[str, Any] = {"name": name, "shape": list(array.shape), "datatype": datatype}
    if not binary:
        output["data"] = array.ravel().tolist() if datatype != "BYTES" else [_said(value) for value in array.ravel()]
        return output, b""
    if datatype == "BYTES":
        texts = [str(value).encode() for value in array.ravel()]
        content = b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    else:
        content = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    output["parameters"] = {"binary_data_size": len(content)}
    return output, content


def _said(value: Any) -> str | None:
    return None if value is None else str(value)
