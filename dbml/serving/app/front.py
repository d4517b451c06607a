"""The front: what every request passes before and after its dialect.

Request ids, keys, the size of bodies, metrics and the log.  A dialect finds the body in `scope["dbml.body"]`, and what it
raises as a Problem is answered in that dialect's own form.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import os
import time
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import orjson
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from dbml.serving.app.problems import KeyMissing, KeyWrong, Problem, TooLarge, TooSlow

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

access = logging.getLogger("dbml.serving.access")

LONGEST_ID = 100
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)  # seconds
_OPEN = frozenset({"/", "/ping", "/health", "/version", "/v2/health/live", "/v2/health/ready", "/metrics"})


class Keys:
    """The service's two keys, either of which opens it; read again when their file changes, so that one can be replaced.

    path: a file of one or two lines; None: no key is asked for.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._changed: tuple[int, int] | None = None
        self._keys: list[bytes] = []
        if path is not None:
            self._read()

    def _read(self) -> None:
        assert self._path is not None
        stat = self._path.stat()
        if (stat.st_mtime_ns, stat.st_ino) != self._changed:
            self._keys = []  # no key opens where the new ones cannot be read
            try:
                self._keys = [line.strip() for line in self._path.read_bytes().splitlines() if line.strip()]
            except PermissionError:
                access.error("%s cannot be read: a confined app reads a file of keys again that is replaced where it is alone in "
                             "its folder", self._path)  # fmt: skip
            self._changed = (stat.st_mtime_ns, stat.st_ino)

    def check(self, headers: Mapping[bytes, bytes]) -> None:
        """Check the bearer's key of a request.

        Raises: KeyMissing, KeyWrong.
        """
        if self._path is None:
            return
        said = headers.get(b"authorization", b"")
        scheme, _, key = said.partition(b" ")
        if scheme.lower() != b"bearer" or not key:
            raise KeyMissing("this service wants a key: Authorization: Bearer KEY")
        self._read()
        found = [hmac.compare_digest(key.strip(), known) for known in self._keys]  # all of them: time tells nothing
        if not any(found):
            raise KeyWrong("the key is not one of the service's")


class Measures(Collector):
    """What Prometheus reads at /metrics, of this process alone: counted as plain numbers, made its own form when it is read."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self.running = 0  # requests that wait or run
        self._requests: dict[tuple[str, int], int] = {}
        self._seconds: dict[str, tuple[list[int], list[float]]] = {}  # by path: how many up to each of BUCKETS, and their sum
        self._models: list[tuple[str, str, str]] = []
        self._split: dict[str, int] = {}

    def serves(self, name: str, version: int, digest: str) -> None:
        """Tell which model is served."""
        self._models.append((name, str(version), digest))

    def answered(self, path: str, status: int, seconds: float) -> None:
        """Count an answer."""
        self._requests[path, status] = self._requests.get((path, status), 0) + 1
        timed = self._seconds.get(path)
        if timed is None:
            timed = self._seconds[path] = ([0] * (len(BUCKETS) + 1), [0.0])
        timed[0][bisect_left(BUCKETS, seconds)] += 1
        timed[1][0] += seconds

    def split(self, by: str) -> None:
        """Count a request of two versions: current, candidate or shadow; lost and dropped where the candidate did not answer."""
        self._split[by] = self._split.get(by, 0) + 1

    def collect(self) -> Iterator[Metric]:
        """Yield what was counted, as prometheus_client asks for it."""
        requests = CounterMetricFamily("dbml_requests", "Requests answered.", labels=("path", "status"))
        for (path, status), count in self._requests.items():
            requests.add_metric((path, str(status)), count)
        yield requests
        timed = HistogramMetricFamily(
            "dbml_request_seconds", "Seconds from a request's head to its answer.", labels=("path",)
        )  # fmt: skip
        for path, (counts, total) in self._seconds.items():
            bounds = [*map(str, BUCKETS), "+Inf"]
            timed.add_metric((path,), list(zip(bounds, accumulate(counts), strict=True)), total[0])
        yield timed
        yield GaugeMetricFamily("dbml_requests_in_progress", "Requests that wait or run.", self.running)
        models = GaugeMetricFamily("dbml_model_info", "The models that are served.", labels=("name", "version", "digest"))
        for model in self._models:
            models.add_metric(model, 1)
        yield models
        split = CounterMetricFamily(
            "dbml_split", "Requests of a service with two versions, by which of them answered.", labels=("by",)
        )
        for by, count in self._split.items():
            split.add_metric((by,), count)
        yield split

    def text(self) -> bytes:
        """Return all of it in Prometheus' text format."""
        return generate_latest(self._registry)


@dataclass
class Drain:
    """Whether the service ends: then every answer closes its connection.  split: what has requests of its own under way."""

    ending: bool = False
    split: Any = None


class _ClientGone(Exception):
    """Nobody is there to be answered any more; 499 in the log and the measures."""


class Front:
    """An ASGI app around the dialects."""

    def __init__(
        self,
        app: App,
        *,
        keys: Keys,
        measures: Measures,
        drain: Drain,
        max_body_bytes: int,
        body_s: float,
        answer: Callable[[Scope, Problem], Any],
    ) -> None:
        self._app = app
        self._keys = keys
        self._measures = measures
        self._drain = drain
        self._max_body_bytes = max_body_bytes
        self._body_s = body_s
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        headers = dict(scope["headers"])
        ids, fault = _ids(headers)
        status = 500
        length = 0

        async def send_on(message: Message) -> None:
            nonlocal status, length
            if message["type"] == "http.response.start":
                status = message["status"]
                own = list(message.get("headers", ()))
                if self._drain.ending:
                    own = [pair for pair in own if pair[0] != b"connection"] + [(b"connection", b"close")]
                message["headers"] = own + ids
            else:
                length += len(message.get("body", b""))
            await send(message)

        self._measures.running += 1
        scope["dbml.request_id"] = ids[0][1].decode("latin-1") if ids else ""
        try:
            if fault is not None:
                raise fault
            if scope["path"] not in _OPEN:
                self._keys.check(headers)
            scope["dbml.headers"] = headers
            scope["dbml.body"] = await self._whole(headers, receive) if scope["method"] in ("POST", "PUT", "PATCH") else b""
            await self._app(scope, receive, send_on)
        except Problem as problem:
            await self._answer(scope, problem)(scope, receive, send_on)
        except _ClientGone:
            status = 499
        finally:
            self._measures.running -= 1
            seconds = time.perf_counter() - began
            path = scope.get("dbml.path", "other")
            self._measures.answered(path, status, seconds)
            if scope["path"] not in _OPEN:
                log_lines(access, {
                    "request_id": scope["dbml.request_id"], "method": scope["method"], "path": scope["path"], "status": status,
                    "ms": round(seconds * 1000, 3), "bytes": length, "client": (scope.get("client") or ("",))[0],
                })  # fmt: skip

    async def _whole(self, headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
        try:
            async with asyncio.timeout(self._body_s):
                return await self._body(headers, receive)
        except TimeoutError:
            raise TooSlow(f"the body must come within {self._body_s:g} s", limit="timeout_s", value=self._body_s) from None

    async def _body(self, headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
        most = self._max_body_bytes
        declared = headers.get(b"content-length", b"")
        if declared.isdigit() and int(declared) > most:
            raise TooLarge(f"the body must have {most} bytes at most, got {int(declared)}", limit="max_body_bytes", value=most)
        parts = []
        count = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _ClientGone
            part = message.get("body", b"")
            count += len(part)
            if count > most:
                raise TooLarge(f"the body must have {most} bytes at most, got more", limit="max_body_bytes", value=most)
            parts.append(part)
            if not message.get("more_body"):
                return parts[0] if len(parts) == 1 else b"".join(parts)


def _ids(headers: Mapping[bytes, bytes]) -> tuple[list[tuple[bytes, bytes]], Problem | None]:
    """Return the headers that name a request, the client's own names where it gave them."""
    request_id = headers.get(b"x-request-id") or _new_id()
    legacy = headers.get(b"x-ms-request-id", b"")
    client = headers.get(b"x-ms-client-request-id", b"") or legacy
    legacy = legacy or client or request_id
    long = "x-request-id" if len(request_id) > LONGEST_ID else ""
    if not long and max(len(legacy), len(client)) > LONGEST_ID:
        long = "x-ms-request-id and x-ms-client-request-id"
    if long:
        problem = Problem(f"{long} must not exceed {LONGEST_ID} characters")
        problem.status = 431
        return [], problem
    found = [(b"x-request-id", request_id), (b"x-ms-request-id", legacy)]
    if client:
        found.append((b"x-ms-client-request-id", client))
    if b"traceid" in headers:
        found.append((b"traceid", headers[b"traceid"]))
    return found, None


def _new_id() -> bytes:
    """Return a UUID of version 4, as uuid.uuid4() makes them at three times the cost."""
    digits = os.urandom(16).hex()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{'89ab'[int(digits[16], 16) & 3]}{digits[17:20]}-{digits[20:]}".encode()


def log_lines(logger: logging.Logger, told: dict[str, Any]) -> None:
    """Write a line of what has its own fields, at a tenth of what a log record costs: there is one for each request."""
    if logger.isEnabledFor(logging.INFO):
        head = {"time": _moment(time.time()), "level": "info", "logger": logger.name}
        line = orjson.dumps(head | told, default=str, option=orjson.OPT_APPEND_NEWLINE)
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.StreamHandler):
                raw = getattr(handler.stream, "buffer", None)
                if raw is None:
                    handler.stream.write(line.decode())
                    handler.stream.flush()
                else:  # a standard stream's own bytes, where what a log record writes is flushed at once
                    raw.write(line)
                    raw.flush()


def _moment(seconds: float) -> str:
    return f"{_whole_second(int(seconds))}.{int(seconds % 1 * 1000):03d}Z"


@lru_cache(2)
def _whole_second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


class JsonLines(logging.Formatter):
    """Log records as JSON, one a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record's line."""
        told: dict[str, Any] = {
            "time": _moment(record.created), "level": record.levelname.lower(), "logger": record.name,
            "message": record.getMessage(),
        }  # fmt: skip
        if record.exc_info:
            told["traceback"] = self.formatException(record.exc_info)
        return json.dumps(told, ensure_ascii=False, default=str)
