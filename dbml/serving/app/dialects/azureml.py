"""The dialect of azureml's scoring server: GET /, POST /score, GET /swagger.json.

Source: the behaviour of azureml-inference-server-http 1.5, which a test runs beside this with the same scripts and
requests.  Answered otherwise than there: what run() returned may hold numpy and pandas values; NaN is null; a call that
takes too long is 503 with Retry-After, not 500.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from dbml.serving.app import answers, rawhttp, rows
from dbml.serving.app.front import Scope
from dbml.serving.app.problems import BadRequest, Problem, ScriptFailed, UnsupportedMediaType
from dbml.serving.app.scripts import Script
from dbml.serving.app.service import Service
from dbml.serving.app.swagger import swagger

_SUCCEEDED = {"x-ms-run-function-failed": "False"}


def routes(service: Service) -> list[Route]:
    """Return the dialect's routes."""

    async def health(_: Request) -> Response:
        return PlainTextResponse("Healthy")

    async def score(request: Request) -> Response:
        return await _score(service, service.find(request.path_params.get("name"), request.path_params.get("version")), request)

    async def swagger_json(request: Request) -> Response:
        version = request.query_params.get("version", "2")
        known = {"2": "2", "2.0": "2", "3": "3", "3.0": "3", "3.1": "3.1"}
        if version not in known:
            message = f"Swagger version [{version}] is not valid. Supported versions: [2, 3, 3.1]."
            return Response(answers.to_json({"message": message}), 404, _SUCCEEDED, answers.JSON)
        return Response(answers.to_json(swagger(service, known[version])), headers=_SUCCEEDED, media_type=answers.JSON)

    verbs = ["GET", "POST", "OPTIONS"]
    return [
        Route("/", health, methods=["GET"]),
        Route("/score", score, methods=verbs),
        Route("/models/{name}/score", score, methods=verbs),
        Route("/models/{name}/versions/{version}/score", score, methods=verbs),
        Route("/swagger.json", swagger_json, methods=["GET"]),
    ]


def problem_response(problem: Problem) -> Response:
    """Answer a problem as {"message": …}."""
    response = Response(answers.to_json({"message": problem.message}), problem.status, dict(problem.headers), answers.JSON)
    response.headers["x-ms-run-function-failed"] = str(isinstance(problem, ScriptFailed))
    return response


async def _score(service: Service, script: Script, request: Request) -> Response:
    if script.takes != "request" and request.method == "OPTIONS":
        return Response(headers=_SUCCEEDED)
    scope = request.scope
    body: bytes = scope["dbml.body"]
    if script.is_generated and request.method == "GET":
        return await _score_payload(service, script, _query(request))
    if script.is_generated:
        kind = _media_type(scope)
        if kind in (answers.ARROW, "application/vnd.apache.arrow.file", answers.CSV):
            return await _score_table(service, script, scope, kind, body)
        return await _score_payload(service, script, _load(body))
    if script.takes == "request":
        raw = rawhttp.make_request(
            request.method, scope["path"], scope["query_string"], scope["headers"], body, scope.get("client")
        )
        arguments: dict[str, Any] = {script.parameters[0].name: raw}
    elif script.takes == "arguments":
        values = _query(request) if request.method == "GET" else _object(scope, body)
        arguments = script.arguments(values)
    elif request.method == "GET":
        arguments = {script.parameters[0].name: json.dumps(_query(request))}
    else:
        try:
            arguments = {script.parameters[0].name: body.decode("utf-8")}
        except UnicodeDecodeError as error:
            raise BadRequest(f"Input cannot be decoded as UTF-8: {error}") from None
    headers = {name.decode("latin-1").title(): value.decode("latin-1") for name, value in scope["headers"]}
    value, seconds = await service.scoring.call(script, lambda: script.call(arguments, headers))
    return _timed(_answer(value), seconds)


async def _score_payload(service: Service, script: Script, payload: Any) -> Response:
    """Answer {"data": rows, "method": …} by the model, whose features are known."""
    if not isinstance(payload, Mapping):
        raise BadRequest("POST body should be a JSON dictionary.")
    if "data" not in payload:
        raise BadRequest("A value is not provided for the 'data' parameter.")
    given = rows.from_json(payload["data"])
    scores, seconds = await service.score(script, given, str(payload.get("method", "predict")))
    return _scored(answers.to_json(answers.as_list(scores)), answers.JSON, seconds)


async def _score_table(service: Service, script: Script, scope: Scope, kind: str, body: bytes) -> Response:
    given = rows.from_csv(body) if kind == answers.CSV else rows.from_arrow(body, script.expected)
    method = dict(pair.split("=", 1) for pair in scope["query_string"].decode("latin-1").split("&") if "=" in pair).get(
        "method", "predict"
    )
    scores, seconds = await service.score(script, given, method)
    wanted = scope["dbml.headers"].get(b"accept", b"").decode("latin-1")
    written = answers.JSON if answers.JSON in wanted else answers.CSV if kind == answers.CSV else answers.ARROW
    return _scored(written_table(scores, written), written, seconds)


def written_table(scores: Any, kind: str) -> bytes:
    """Return scores as JSON, CSV or an Arrow stream."""
    if kind == answers.ARROW:
        return answers.to_arrow(scores)
    if kind == answers.CSV:
        return answers.to_csv(scores)
    return answers.to_json(answers.as_list(scores))


def _scored(body: bytes, kind: str, seconds: float) -> Response:
    told = ((b"x-ms-run-fn-exec-ms", b"%.3f" % (seconds * 1000)), (b"x-ms-run-function-failed", b"False"))
    return answers.Quick(body, answers.HEADERS[kind], *told)


def _timed(response: Response, seconds: float) -> Response:
    response.headers["x-ms-run-fn-exec-ms"] = f"{seconds * 1000:.3f}"
    response.headers.setdefault("x-ms-run-function-failed", "False")
    return response


def _answer(value: Any) -> Response:
    """Answer what run() returned: a response of its own, or JSON."""
    if hasattr(value, "status_code") and callable(getattr(value, "get_data", None)):
        response = Response(value.get_data(), value.status_code)
        response.raw_headers = [
            (name.lower().encode("latin-1"), str(text).encode("latin-1"))
            for name, text in value.headers
            if name.lower() != "connection"
        ]
        if value.status_code >= 500:
            response.headers["x-ms-run-function-failed"] = "True"
        return response
    return _json({} if value is None else value)


def _json(value: Any) -> Response:
    try:
        body = answers.to_json(value)
    except (TypeError, ValueError):  # whole numbers beyond 64 bits, for one
        try:
            body = json.dumps(value, default=answers.plain).encode()
        except (TypeError, ValueError) as error:
            raise ScriptFailed("An unexpected internal error occurred. Check the logs for more info.") from error
    return Response(body, media_type=answers.JSON)


def _media_type(scope: Scope) -> str:
    told: bytes = scope["dbml.headers"].get(b"content-type", b"")
    return told.split(b";")[0].strip().lower().decode("latin-1")


def _object(scope: Scope, body: bytes) -> Mapping[str, Any]:
    kind = _media_type(scope)
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise UnsupportedMediaType("Expects Content-Type to be application/json")
    value = _load(body)
    if not isinstance(value, Mapping):
        raise BadRequest("POST body should be a JSON dictionary.")
    return value


def _load(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except ValueError:
        pass
    if not body:
        raise BadRequest("POST body is empty. Expecting a JSON dictionary.")
    try:
        return json.loads(body)  # NaN and Infinity, which Python's own clients write
    except ValueError as error:
        raise BadRequest(f"POST body could not be decoded as JSON: {error}") from None
    except RecursionError:
        raise BadRequest("POST body could not be decoded as JSON: it is nested too deeply") from None


def _query(request: Request) -> dict[str, Any]:
    """Return a query string's values, read as JSON where they are; a name given twice is a list."""
    found: dict[str, list[Any]] = {}
    for name, text in request.query_params.multi_items():
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        found.setdefault(name, []).append(value)
    return {name: values[0] if len(values) == 1 else values for name, values in found.items()}
