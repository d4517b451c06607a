"""What score.py imports to have the request itself: `rawhttp`, `AMLRequest`, `AMLResponse`, under the names users' scripts have.

The request and response are werkzeug's, whose interface is Flask's.  A script finds these under `azureml.contrib.services`,
`dbml.contrib.services` and `azureml_inference_server_http.api`, where those packages are not installed themselves.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from dbml.serving.app.stand_ins import exists, stand_in

F = TypeVar("F", bound=Callable[..., Any])

_NAMES = ("azureml.contrib.services", "dbml.contrib.services", "azureml_inference_server_http.api")
_MARK = "_dbml_rawhttp"


def rawhttp(function: F) -> F:
    """Mark run(): it takes the request itself, and answers with what it likes, an AMLResponse too."""
    setattr(function, _MARK, True)
    return function


def is_raw(function: Callable[..., Any]) -> bool:
    """Tell whether run() wants the request itself."""
    return bool(getattr(function, _MARK, False))


def make_request(
    method: str, path: str, query: bytes, headers: Iterable[tuple[bytes, bytes]], body: bytes, client: tuple[str, int] | None
) -> Any:
    """Return a werkzeug Request of an ASGI request's parts."""
    from werkzeug.wrappers import Request

    environ: dict[str, Any] = {
        "REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": query.decode("latin-1"), "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": "localhost", "SERVER_PORT": "80", "wsgi.url_scheme": "http", "wsgi.input": io.BytesIO(body),
        "wsgi.input_terminated": True, "CONTENT_LENGTH": str(len(body)), "REMOTE_ADDR": client[0] if client else "",
        "wsgi.errors": sys.stderr, "wsgi.version": (1, 0), "wsgi.multithread": True, "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }  # fmt: skip
    for name, value in headers:
        key = name.decode("latin-1").upper().replace("-", "_")
        if key == "CONTENT_LENGTH":
            continue
        environ[key if key == "CONTENT_TYPE" else f"HTTP_{key}"] = value.decode("latin-1")
    return Request(environ)


def _make_response_class() -> type[Any]:
    from werkzeug.wrappers import Response

    class AMLResponse(Response):
        """An answer with a status and headers of its own; json_str=True writes the message as JSON."""

        def __init__(
            self,
            message: Any,
            status_code: int,
            response_headers: Any = None,
            json_str: bool = False,
            run_function_failed: bool = False,
        ) -> None:
            as_json = json_str or message is None
            body = json.dumps({} if message is None else message) if as_json else message
            super().__init__(body, status=status_code, mimetype="application/json" if as_json else None)
            self.headers["x-ms-run-function-failed"] = str(run_function_failed)
            for name, value in (response_headers or {}).items():
                self.headers.remove(name)
                for part in str(value).split(","):
                    self.headers.add(name, part.strip())

    return AMLResponse


def answer_imports() -> None:
    """Make the modules that scripts import answer here, where they are not installed."""
    for name in _NAMES:
        if exists(name):
            continue
        try:
            from werkzeug.wrappers import Request

            request_class: Any = Request
            response_class: Any = _make_response_class()
        except ImportError:
            return  # an image without werkzeug: the script's import then says so itself
        for parent in _parents(name):
            if not exists(parent):
                stand_in(parent)
        _add(f"{name}.aml_request", AMLRequest=request_class, rawhttp=rawhttp)
        _add(f"{name}.aml_response", AMLResponse=response_class)


def _parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[: at + 1]) for at in range(len(parts))]


def _add(name: str, **names: Any) -> None:
    module = stand_in(name)
    for key, value in names.items():
        setattr(module, key, value)
    parent, _, last = name.rpartition(".")
    setattr(sys.modules[parent], last, module)
