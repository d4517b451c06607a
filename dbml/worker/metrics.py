"""Metrics and health of a worker, over HTTP where it is asked for: /metrics for Prometheus, /health for a probe.

Answered in a thread of their own, so that a slow scrape delays no script.
"""

from __future__ import annotations

import json
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any, Protocol
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from dbml import errors

if TYPE_CHECKING:
    from dbml.worker.script_call import ScriptCall

log = logging.getLogger("dbml.metrics")

# Seconds: from a warm script of one row to an hour of training.
BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)


class Counts:
    """What has happened since the worker started."""

    def __init__(self) -> None:
        self.scripts: Counter[tuple[str, str]] = Counter()  # by language and status
        self.seconds: Counter[tuple[str, float]] = Counter()  # by language and the bucket's upper end
        self.seconds_sum: Counter[str] = Counter()
        self.rows_in = 0
        self.rows_out = 0
        self.predictions = 0
        self.pools: Counter[tuple[str, str]] = Counter()  # scripts, by pool and status
        self.queued_sum: Counter[str] = Counter()  # seconds, by pool

    def ended(self, script: ScriptCall, status: str) -> None:
        """Count a script that has ended."""
        language = script.language
        self.scripts[language, status] += 1
        self.pools[script.pool, status] += 1
        self.queued_sum[script.pool] += script.queued_s  # type: ignore[assignment] # as below
        self.seconds[language, next((end for end in BUCKETS if script.seconds <= end), float("inf"))] += 1
        self.seconds_sum[language] += script.seconds  # type: ignore[assignment] # a Counter adds floats too
        rows_in, rows_out = script.rows
        self.rows_in += rows_in
        self.rows_out += rows_out


class Observed(Protocol):
    """What is measured."""

    @property
    def counts(self) -> Counts:
        """Return what has been counted."""

    def status(self) -> dict[str, Any]:
        """Return the state of this moment."""


class _Collector:
    """Makes the families of metrics anew for each scrape."""

    def __init__(self, observed: Observed) -> None:
        self._observed = observed

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        counts, status = self._observed.counts, self._observed.status()
        scripts = CounterMetricFamily("dbml_scripts", "Scripts that have ended.", labels=["language", "status"])
        for labels, number in sorted(counts.scripts.items()):
            scripts.add_metric(labels, number)
        yield scripts
        seconds = HistogramMetricFamily("dbml_script_seconds", "Duration of scripts, queue included.", labels=["language"])
        for language in sorted({language for language, _ in counts.seconds}):
            total, buckets = 0, []
            for end in (*BUCKETS, float("inf")):
                total += counts.seconds[language, end]
                buckets.append(("+Inf" if end == float("inf") else str(end), total))
            seconds.add_metric([language], buckets, counts.seconds_sum[language])
        yield seconds
        pools = CounterMetricFamily("dbml_pool_scripts", "Scripts that have ended, by pool.", labels=["pool", "status"])
        for labels, number in sorted(counts.pools.items()):
            pools.add_metric(labels, number)
        yield pools
        queued = CounterMetricFamily("dbml_pool_queued_seconds", "Time that scripts have waited, by pool.", labels=["pool"])
        for pool, waited in sorted(counts.queued_sum.items()):
            queued.add_metric([pool], waited)
        yield queued
        running_now = GaugeMetricFamily("dbml_pool_running", "Scripts that run now, by pool.", labels=["pool"])
        waiting_now = GaugeMetricFamily("dbml_pool_waiting", "Scripts that wait now, by pool.", labels=["pool"])
        for pool, (running, waiting) in status["pools"].items():
            running_now.add_metric([pool], running)
            waiting_now.add_metric([pool], waiting)
        yield running_now
        yield waiting_now
        for name, text, number in (
            ("dbml_script_rows_in", "Rows that scripts were given.", counts.rows_in),
            ("dbml_script_rows_out", "Rows that scripts returned.", counts.rows_out),
            ("dbml_prediction_calls", "Calls of predict and its like.", counts.predictions),
        ):
            yield CounterMetricFamily(name, text, value=number)
        for name, text, value in (
            ("dbml_scripts_running", "Scripts that run now.", status["running"]),
            ("dbml_scripts_queued", "Scripts that wait now.", status["queued"]),
            ("dbml_scorers", "Processes that keep models.", len(status["scorers"])),
            ("dbml_worker_memory_bytes", "Resident memory of the listening process.", status["memory_mb"] * (1 << 20)),
            ("dbml_worker_start_time_seconds", "When the worker started, Unix time.", status["started_at"]),
        ):
            yield GaugeMetricFamily(name, text, value=value)


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name in the base class
        log.debug(format, *args)


def serve_metrics(address: str, observed: Observed) -> Callable[[], None]:
    """Answer at HOST:PORT; returns what stops it.

    Raises: InvalidArgument; errors.DbmlError where prometheus_client is not installed; OSError where the port is taken.
    """
    host, _, port = address.rpartition(":")
    if not port.isdigit():
        raise errors.InvalidArgument(f"metrics must be HOST:PORT, got {address!r}")
    try:
        from prometheus_client import CollectorRegistry, make_wsgi_app
    except ModuleNotFoundError:
        raise errors.DbmlError("metrics need prometheus_client", hint="pip install 'dbml[worker]'") from None
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(observed))
    exposed = make_wsgi_app(registry)

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        match environ["PATH_INFO"]:
            case "/metrics":
                shown: Iterable[bytes] = exposed(environ, start_response)
                return shown
            case "/health":
                status = observed.status()
                healthy = bool(status["zygotes"])
                start_response("200 OK" if healthy else "503 Service Unavailable", [("Content-Type", "application/json")])
                told = {key: status[key] for key in ("version", "running", "queued", "max_running", "max_scripts")}
                return [json.dumps({"status": "ok" if healthy else "no zygote", **told}).encode()]
            case _:
                start_response("404 Not Found", [("Content-Type", "text/plain")])
                return [b"here are /metrics and /health\n"]

    server = make_server(host.strip("[]") or "127.0.0.1", int(port), answer, _Server, _Quiet)
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    log.info("metrics and health at %s:%d", *server.server_address[:2])

    def stop() -> None:
        server.shutdown()
        server.server_close()

    return stop
