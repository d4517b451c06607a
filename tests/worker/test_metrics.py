"""Metrics and health over HTTP: off unless asked for, and what Prometheus' own parser reads."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from dbml import errors
from dbml.worker.metrics import Counts, serve_metrics


@pytest.fixture
def measured(server: Any) -> Iterator[tuple[str, str]]:
    """A database whose worker answers at a port of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    name = server.create(server.template())
    worker = server.start_worker(server.dsn(name), "--metrics", address)
    yield server.dsn(name), address
    worker.stop()
    server.drop(name)


def get(address: str, path: str) -> str:
    with urllib.request.urlopen(f"http://{address}{path}", timeout=10) as answer:
        return str(answer.read().decode())


def samples(address: str) -> dict[tuple[str, ...], float]:
    families = text_string_to_metric_families(get(address, "/metrics"))
    return {
        (sample.name, *(f"{key}={value}" for key, value in sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def test_scripts_and_predictions_are_counted(measured: tuple[str, str]) -> None:
    dsn, address = measured
    before = samples(address)
    assert before["dbml_scripts_running",] == 0 and before["dbml_worker_memory_bytes",] > 1e6
    with psycopg.connect(dsn, autocommit=True) as db:
        db.execute("SELECT * FROM dbml.run_script('OutputDataSet = InputDataSet', 'SELECT generate_series(1, 7)') AS t(x int)")
        with pytest.raises(errors.ScriptError):
            db.execute("SELECT * FROM dbml.run_script('1/0') AS t(x int)")
    after = samples(address)
    assert after["dbml_scripts_total", "language=python", "status=completed"] == 1
    assert after["dbml_scripts_total", "language=python", "status=failed"] == 1
    assert after["dbml_script_rows_in_total",] == 7 and after["dbml_script_rows_out_total",] == 7
    assert after["dbml_script_seconds_count", "language=python"] == 2
    assert after["dbml_script_seconds_bucket", "language=python", "le=+Inf"] == 2
    told = json.loads(get(address, "/health"))
    assert told["status"] == "ok" and told["running"] == 0 and told["version"]
    with pytest.raises(urllib.error.HTTPError, match="404"):
        get(address, "/")


def test_bad_addresses_are_refused() -> None:
    class Nothing:
        counts = Counts()

        def status(self) -> dict[str, Any]:
            return {}

    with pytest.raises(errors.InvalidArgument, match="HOST:PORT"):
        serve_metrics("nowhere", Nothing())
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match="in use"):
            serve_metrics(f"127.0.0.1:{taken.getsockname()[1]}", Nothing())
