"""The ASGI application of a service: the front, and behind it the three dialects."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Match, Route

from dbml.serving.app import answers
from dbml.serving.app.dialects import azureml, inference, mlflow
from dbml.serving.app.front import App, Drain, Front, Keys, Measures, Receive, Scope, Send
from dbml.serving.app.peer import PeerFile
from dbml.serving.app.problems import Problem
from dbml.serving.app.service import Service
from dbml.serving.app.split import Split
from dbml.serving.app.swagger import openapi

_NOT_FOUND = (
    "The requested URL was not found on the server. If you entered the URL manually please check your spelling and try again."
)
_WRONG_VERB = "The method is not allowed for the requested URL."


class _Status(Problem):
    def __init__(self, status: int, message: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers


class Table:
    """The routes, those without a variable found by their path at once."""

    def __init__(self, routes: list[Route]) -> None:
        self._fixed = {route.path: route for route in routes if "{" not in route.path}
        self._others = [route for route in routes if "{" in route.path]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer by the route that fits.

        Raises: Problem, 404 or 405 where there is none.
        """
        route = self._fixed.get(scope["path"])
        if route is None:
            for candidate in self._others:
                match, child = candidate.matches(scope)
                if match is not Match.NONE:
                    scope.update(child)
                    route = candidate
                    break
        if route is None:
            raise _Status(404, _NOT_FOUND)
        scope["dbml.path"] = route.path
        methods = route.methods or set()
        if scope["method"] not in methods:
            allowed = ", ".join(sorted(methods | {"OPTIONS"}))
            if scope["method"] == "OPTIONS":
                await Response(headers={"allow": allowed})(scope, receive, send)
                return
            raise _Status(405, _WRONG_VERB, (("allow", allowed),))
        response = await route.endpoint(Request(scope, receive))
        await response(scope, receive, send)


def make_app(
    service: Service, *, keys: Keys, drain: Drain, max_body_bytes: int, peer: PeerFile | None = None
) -> App:  # fmt: skip
    """Return the ASGI application of a service; peer: the file that says where its other version runs, if it may have one."""
    measures = Measures()
    for entry in service.models():
        measures.serves(entry.name, entry.version, str(entry.about.get("digest", "")))
    described = answers.to_json(openapi(service))

    async def metrics(_: Request) -> Response:
        return PlainTextResponse(measures.text(), media_type="text/plain; version=0.0.4")

    async def openapi_json(_: Request) -> Response:
        return Response(described, media_type=answers.JSON)

    routes = [*azureml.routes(service), *mlflow.routes(service), *inference.routes(service)]
    routes += [Route("/metrics", metrics, methods=["GET"]), Route("/openapi.json", openapi_json, methods=["GET"])]
    app: App = Table(routes)
    if peer is not None:
        timeout_s = service.scoring.limits.timeout_s
        app = drain.split = Split(app, file=peer, answer=problem_response, measures=measures, timeout_s=timeout_s)
    return Front(
        app, keys=keys, measures=measures, drain=drain, max_body_bytes=max_body_bytes, body_s=service.scoring.limits.timeout_s,
        answer=problem_response,
    )  # fmt: skip


def problem_response(scope: Scope, problem: Problem) -> Any:
    """Answer a problem as the path's dialect does."""
    path: str = scope["path"]
    if path == "/v2" or path.startswith("/v2/"):
        response = inference.problem_response(problem)
    elif path.endswith("/invocations"):
        response = mlflow.problem_response(problem)
    else:
        response = azureml.problem_response(problem)
    if problem.status not in (status.value for status in HTTPStatus):
        raise AssertionError(f"{problem.status} is no HTTP status")
    return response
