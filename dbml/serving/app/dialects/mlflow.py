"""MLflow's dialect: POST /invocations, GET /ping, /health, /version.

Source: mlflow.org, "Deploy MLflow Model as a Local Inference Server"; its own client runs against this in a test.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
import pandas as pd
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from dbml.serving.app import answers, rows
from dbml.serving.app.problems import BadRequest, Problem, UnsupportedMediaType
from dbml.serving.app.rows import Expected, Rows
from dbml.serving.app.service import Service

SPEAKS = "2.9.0"  # of MLflow's scoring protocol, which has not changed since
_FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")
_CODES = {400: "BAD_REQUEST", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "RESOURCE_DOES_NOT_EXIST"}


def routes(service: Service) -> list[Route]:
    """Return the dialect's routes."""

    async def ping(_: Request) -> Response:
        return Response(b"\n", 200 if service.ready else 503, media_type=answers.JSON)

    async def version(_: Request) -> Response:
        return PlainTextResponse(SPEAKS)

    async def invocations(request: Request) -> Response:
        script = service.find(request.path_params.get("name"), request.path_params.get("version"))
        kind, given, method = _read(request, script.expected if script.is_generated else None)
        scores, _ = await service.score(script, given, method)
        wanted = request.headers.get("accept", "")
        if answers.ARROW in wanted or (kind == answers.ARROW and answers.JSON not in wanted):
            return answers.Quick(answers.to_arrow(scores), answers.HEADERS[answers.ARROW])
        return answers.Quick(answers.to_json({"predictions": answers.as_list(scores)}), answers.HEADERS[answers.JSON])

    return [
        Route("/ping", ping, methods=["GET"]),
        Route("/health", ping, methods=["GET"]),
        Route("/version", version, methods=["GET"]),
        Route("/invocations", invocations, methods=["POST"]),
        Route("/models/{name}/invocations", invocations, methods=["POST"]),
        Route("/models/{name}/versions/{version}/invocations", invocations, methods=["POST"]),
    ]


def problem_response(problem: Problem) -> Response:
    """Answer a problem as {"error_code": …, "message": …}."""
    told = {"error_code": _CODES.get(problem.status, "INTERNAL_ERROR"), "message": problem.message}
    return Response(answers.to_json(told), problem.status, dict(problem.headers), answers.JSON)


def _read(request: Request, expected: Expected | None) -> tuple[str, Rows, str]:
    body: bytes = request.scope["dbml.body"]
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    method = request.query_params.get("method", "predict")
    if kind == answers.CSV:
        return kind, rows.from_csv(body), method
    if kind in (answers.ARROW, "application/vnd.apache.arrow.file"):
        return answers.ARROW, rows.from_arrow(body, expected), method
    if kind != answers.JSON:
        raise UnsupportedMediaType(f"Content-Type must be {answers.JSON}, {answers.CSV} or {answers.ARROW}, got {kind or 'none'}")
    try:
        payload = orjson.loads(body)
    except ValueError as error:
        raise BadRequest(f"Failed to parse the body as JSON: {error}") from None
    if not isinstance(payload, Mapping):
        raise BadRequest("the body must be a JSON object")
    forms = [form for form in _FORMS if form in payload]
    if len(forms) != 1:
        raise BadRequest(f"the body must have exactly one of {', '.join(_FORMS)}, got {', '.join(forms) or 'none'}")
    params = payload.get("params") or {}
    if not isinstance(params, Mapping):
        raise BadRequest("params must be an object")
    return kind, _rows(forms[0], payload[forms[0]]), str(params.get("method", method))


def _rows(form: str, value: Any) -> Rows:
    if form == "dataframe_split":
        return rows.from_split(value, form)
    if form == "dataframe_records":
        if not isinstance(value, list) or not all(isinstance(row, Mapping) for row in value):
            raise BadRequest("dataframe_records must be a list of objects")
        return pd.DataFrame.from_records(value)
    if form == "inputs" and isinstance(value, Mapping):
        return rows.from_columns({name: _flat(values) for name, values in value.items()}, form)
    return rows.from_json(value, form)


def _flat(values: Any) -> Any:
    """Return a column given as (n, 1) as (n,)."""
    if isinstance(values, list) and values and all(isinstance(value, list) and len(value) == 1 for value in values):
        return [value[0] for value in values]
    return [values] if isinstance(values, str | int | float | bool | np.generic) else values
