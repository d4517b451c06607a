"""What the service says of itself: /swagger.json as azureml's clients read it, and /openapi.json for all dialects."""

from __future__ import annotations

from typing import Any

from dbml.serving.app import answers
from dbml.serving.app.rows import Expected
from dbml.serving.app.scripts import Script
from dbml.serving.app.service import METHODS, Service

Schema = dict[str, Any]

_FAMILIES: dict[str | None, Schema] = {
    "double precision": {"type": "number"},
    "bigint": {"type": "integer", "minimum": -(2**53), "maximum": 2**53},
    "boolean": {"type": "boolean"},
    "text": {"type": "string"},
    None: {},
}
_EXAMPLES: dict[str | None, Any] = {"double precision": 0.5, "bigint": 1, "boolean": True, "text": "a", None: 0.5}


def rows_schema(expected: Expected) -> Schema:
    """Return the schema of rows as lists of values."""
    row: Schema = {"type": "array", "items": _FAMILIES["double precision"] if expected.numeric or not expected.names else {}}
    if expected.count is not None:
        row |= {"minItems": expected.count, "maxItems": expected.count}
    return {"type": "array", "items": row}


def records_schema(expected: Expected) -> Schema:
    """Return the schema of rows as objects by column name."""
    row: Schema = {"type": "object"}
    if expected.names:
        row |= {"properties": {name: _FAMILIES[expected.types[name]] for name in expected.names}, "required": expected.names}
    return {"type": "array", "items": row}


def example_row(expected: Expected) -> list[Any]:
    """Return a row that fits."""
    if expected.names:
        return [_EXAMPLES[expected.types[name]] for name in expected.names]
    return [0.5] * (expected.count or 1)


def _service_input(script: Script) -> Schema:
    if script.schema is not None:
        found: Schema = dict(script.schema["input"])
        return found
    if not script.is_generated:
        return {"type": "object", "example": {}}
    data = (
        rows_schema(script.expected) if script.expected.numeric or not script.expected.names else records_schema(script.expected)
    )
    row = example_row(script.expected)
    example = row if script.expected.numeric or not script.expected.names else dict(zip(script.expected.names, row, strict=True))
    return {
        "type": "object",
        "required": ["data"],
        "example": {"data": [example], "method": "predict"},
        "properties": {"data": data, "method": {"type": "string", "enum": list(METHODS), "default": "predict"}},
    }


def _service_output(script: Script) -> Schema:
    if script.schema is not None and script.schema["output"]:
        found: Schema = dict(script.schema["output"])
        return found
    return {"type": "array", "items": {}, "example": [0.5]} if script.is_generated else {"type": "object", "example": {}}


def swagger(service: Service, version: str) -> Schema:
    """Return the description of the default script, in Swagger 2 or OpenAPI 3 ("2", "3", "3.1")."""
    script = service.default
    title = {
        "title": service.manifest.name,
        "version": service.manifest.version,
        "description": f"Scores with {script.name} version {script.version}",
    }
    error: Schema = {"type": "object", "properties": {"message": {"type": "string"}}}
    schemas = {"ServiceInput": _service_input(script), "ServiceOutput": _service_output(script), "ErrorResponse": error}
    if version == "2":
        ref = "#/definitions/{}".format
        answer = {
            "200": {"description": "The scores.", "schema": {"$ref": ref("ServiceOutput")}},
            "default": {"description": "What is wrong.", "schema": {"$ref": ref("ErrorResponse")}},
        }
        return {
            "swagger": "2.0",
            "info": title,
            "schemes": ["http", "https"],
            "consumes": [answers.JSON],
            "produces": [answers.JSON],
            "securityDefinitions": {"Bearer": {"type": "apiKey", "name": "Authorization", "in": "header"}},
            "paths": {
                "/": {
                    "get": {
                        "operationId": "ServiceHealthCheck",
                        "responses": {"200": {"description": "Healthy", "schema": {"type": "string"}}},
                    }
                },
                "/score": {
                    "post": {
                        "operationId": "RunMLService",
                        "security": [{"Bearer": []}],
                        "responses": answer,
                        "parameters": [{"name": "serviceInputPayload", "in": "body", "schema": {"$ref": ref("ServiceInput")}}],
                    }
                },
            },
            "definitions": schemas,
        }
    full = openapi(service)
    return {
        "openapi": "3.1.0" if version == "3.1" else "3.0.3",
        "info": title,
        "paths": {path: full["paths"][path] for path in ("/", "/score")},
        "components": {**full["components"], "schemas": full["components"]["schemas"] | schemas},
    }


def openapi(service: Service) -> Schema:
    """Return the OpenAPI 3.1 description of every path."""
    script = service.default
    expected = script.expected
    message: Schema = {"type": "object", "properties": {"message": {"type": "string"}}, "required": ["message"]}
    mlflow_error: Schema = {"type": "object", "properties": {"error_code": {"type": "string"}, "message": {"type": "string"}}}
    v2_error: Schema = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
    forms = [
        {
            "dataframe_split": {
                "type": "object",
                "required": ["columns", "data"],
                "properties": {
                    "columns": {"const": expected.names} if expected.names else {"type": "array"},
                    "data": rows_schema(expected),
                },
            }
        },
        {"dataframe_records": records_schema(expected)},
        {"instances": rows_schema(expected)},
        {"inputs": rows_schema(expected)},
    ]
    tensor: Schema = {
        "type": "object",
        "required": ["name", "shape", "datatype", "data"],
        "properties": {
            "name": {"type": "string"},
            "shape": {"type": "array", "items": {"type": "integer"}},
            "datatype": {"type": "string"},
            "data": {"type": "array"},
        },
    }
    schemas: dict[str, Schema] = {
        "ServiceInput": _service_input(script),
        "ServiceOutput": _service_output(script),
        "ErrorResponse": message,
        "Invocation": {
            "oneOf": [
                {
                    "type": "object",
                    "properties": form | {"params": {"type": "object"}},
                    "required": list(form),
                    "additionalProperties": False,
                }
                for form in forms
            ]
        },
        "Predictions": {"type": "object", "properties": {"predictions": {}}, "required": ["predictions"]},
        "MlflowError": mlflow_error,
        "InferenceRequest": {
            "type": "object",
            "required": ["inputs"],
            "properties": {
                "id": {"type": "string"},
                "parameters": {"type": "object"},
                "inputs": {"type": "array", "minItems": 1, "items": tensor},
            },
        },
        "InferenceResponse": {
            "type": "object",
            "required": ["model_name", "outputs"],
            "properties": {
                "model_name": {"type": "string"},
                "model_version": {"type": "string"},
                "id": {"type": "string"},
                "outputs": {"type": "array", "items": {"type": "object"}},
            },
        },
        "InferenceError": v2_error,
    }
    names = sorted({s.name for s in service.scripts})
    versions = sorted({str(s.version) for s in service.scripts})
    paths: dict[str, Schema] = {
        "/": {"get": _operation("health", "Tell that the service runs.", {"200": _text("Healthy"), **_refused("ErrorResponse")})},
        "/swagger.json": {
            "get": _operation(
                "swagger", "Describe /score in Swagger 2 or OpenAPI 3.", _answers(None, "ErrorResponse", 401, 403, 404),
                parameters=[{"name": "version", "in": "query", "schema": {"enum": ["2", "3", "3.1"]}}],
            )
        },
        "/openapi.json": {"get": _operation("openapi", "Describe every path.", _answers(None, "ErrorResponse", 401, 403))},
        "/ping": {"get": _operation("ping", "Tell that the service runs.", _ping())},
        "/health": {"get": _operation("healthy", "Tell that the service runs.", _ping())},
        "/version": {
            "get": _operation(
                "version", "Return the version of MLflow's protocol that is spoken.",
                {"200": _text("A version."), **_refused("ErrorResponse")},
            )
        },
        "/metrics": {
            "get": _operation(
                "metrics", "Return measures for Prometheus.",
                {"200": _text("In Prometheus' text format."), **_refused("ErrorResponse")},
            )
        },
        "/v2": {"get": _operation("server", "Describe the server.", _answers(None, "InferenceError", 401, 403))},
        "/v2/health/live": {"get": _operation("live", "Tell that the server runs.", _answers(None, "InferenceError"))},
        "/v2/health/ready": {
            "get": _operation("ready", "Tell that all models are loaded.", _answers(None, "InferenceError", good_too=503))
        },
    }  # fmt: skip
    for prefix, which, parameters in (
        ("", "", []), ("/models/{name}", "_of_model", [_parameter("name", names)]),
        ("/models/{name}/versions/{version}", "_of_version", [_parameter("name", names), _parameter("version", versions)]),
    ):  # fmt: skip
        missing = [404] if prefix else []
        score = _answers(
            "ServiceOutput", "ErrorResponse", 400, 401, 403, *missing, 408, 413, 415, 500, 503, tables=script.is_generated
        )
        paths[f"{prefix}/score"] = {
            "post": _operation(
                f"score{which}", "Score rows by score.py.", score, body="ServiceInput", tables=script.is_generated,
                parameters=parameters,
            ),
            "get": _operation(
                f"score_query{which}", "Score what the query string says by score.py.",
                _answers("ServiceOutput", "ErrorResponse", 400, 401, 403, *missing, 415, 500, 503), parameters=parameters,
            ),
        }  # fmt: skip
        paths[f"{prefix}/invocations"] = {
            "post": _operation(
                f"invocations{which}", "Score rows as MLflow's clients send them.",
                _answers("Predictions", "MlflowError", 400, 401, 403, *missing, 408, 413, 415, 500, 503, tables=True),
                body="Invocation", tables=True, parameters=parameters,
            )
        }  # fmt: skip
        if not prefix:
            continue
        paths[f"/v2{prefix}"] = {
            "get": _operation(
                f"model{which}", "Describe a model.", _answers(None, "InferenceError", 401, 403, 404), parameters=parameters
            )
        }
        paths[f"/v2{prefix}/ready"] = {
            "get": _operation(
                f"ready{which}", "Tell that a model is loaded.", _answers(None, "InferenceError", 401, 403, 404, good_too=503),
                parameters=parameters,
            )
        }  # fmt: skip
        paths[f"/v2{prefix}/infer"] = {
            "post": _operation(
                f"infer{which}", "Score tensors.",
                _answers("InferenceResponse", "InferenceError", 400, 401, 403, 404, 408, 413, 500, 503), body="InferenceRequest",
                parameters=parameters,
            )
        }  # fmt: skip
    return {
        "openapi": "3.1.0",
        "info": {
            "title": service.manifest.name,
            "version": service.manifest.version,
            "description": "Scores with " + ", ".join(f"{s.name} version {s.version}" for s in service.scripts),
        },
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {"Bearer": {"type": "http", "scheme": "bearer"}}},
    }


def _parameter(name: str, values: list[str]) -> Schema:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "enum": values}}


def _operation(
    name: str, summary: str, responses: Schema, *, body: str | None = None, tables: bool = False,
    parameters: list[Schema] | None = None,
) -> Schema:  # fmt: skip
    told: Schema = {"operationId": name, "summary": summary, "responses": responses}
    if body is not None:
        content: Schema = {answers.JSON: {"schema": {"$ref": f"#/components/schemas/{body}"}}}
        told["requestBody"] = {"required": True, "content": content | (_TABLES if tables else {})}
    if parameters:
        told["parameters"] = parameters
    return told


# Rows and scores as tables: the first line, or the schema, names the columns.
_TABLES: Schema = {
    answers.CSV: {"schema": {"type": "string"}, "example": "a,b\n0.5,0.5\n"},
    answers.ARROW: {"schema": {"type": "string", "format": "binary"}},
}


def _answers(good: str | None, bad: str, *statuses: int, tables: bool = False, good_too: int | None = None) -> Schema:
    """Return the answers of an operation; good_too: a status whose body is as that of 200."""
    schema: Schema = {"$ref": f"#/components/schemas/{good}"} if good else {"type": "object"}
    content: Schema = {answers.JSON: {"schema": schema}}
    told: Schema = {"200": {"description": "Done.", "content": content | (_TABLES if tables else {})}}
    if good_too is not None:
        told[str(good_too)] = {"description": "Not yet, or not any more.", "content": content}
    return told | _refused(bad, *statuses)


def _refused(bad: str, *statuses: int) -> Schema:
    content = {answers.JSON: {"schema": {"$ref": f"#/components/schemas/{bad}"}}}
    return {
        str(status): {"description": _WHY.get(status, "What is wrong."), "content": content} for status in (*statuses, 405, 431)
    }


_WHY = {
    400: "The body is not what is asked for: the message names the column, or what else.", 401: "A key is missing.",
    403: "The key is not one of the service's.", 404: "No such model, version or path.", 405: "Another verb is meant.",
    408: "The body does not come.",
    413: "The body is too large.", 415: "The content type is not one of those.", 431: "A request id is too long.",
    500: "score.py raised: the log says what.", 503: "Too many requests wait, or it took too long: come again after Retry-After.",
}  # fmt: skip


def _ping() -> Schema:
    return {"200": {"description": "It does."}, "503": {"description": "It ends."}, **_refused("MlflowError")}


def _text(description: str) -> Schema:
    return {"description": description, "content": {"text/plain": {"schema": {"type": "string"}}}}
