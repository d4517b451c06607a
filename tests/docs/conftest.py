"""What the pages suppose: the tables and models of `dbml demo`."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dbml.cli import demo
from dbml.dsn import parse

from .. import wheels


@pytest.fixture
def demo_dsn(shared: Any, wheelhouse: Path) -> str:
    """The DSN of the shared database, with what `dbml demo` makes in it, and wheels for environments."""
    wheels.repack(wheelhouse, ("scikit-learn",))
    with psycopg.connect(shared.dsn, autocommit=True) as connection:
        row = connection.execute("select exists (select from dbml.models where name = 'demo-iris')").fetchone()
        if row is not None and not row[0]:
            with demo.console.capture():
                demo._load(connection)
            for step in demo.STEPS[:2]:
                connection.execute(step.statement.encode())
    return str(shared.dsn)


@pytest.fixture
def environment(demo_dsn: str) -> Mapping[str, str]:
    """The environment of a page's programs."""
    return {**os.environ, "DBML_DSN": demo_dsn, "PYTHONWARNINGS": "error"}


@pytest.fixture
def jdbc_url(demo_dsn: str) -> Iterator[str]:
    """The demo's database as JDBC spells it; JDBC knows no Unix sockets, so a port is put before one."""
    known = parse(demo_dsn)
    login = "&".join(f"{key}={known[key]}" for key in ("user", "password") if key in known)
    host, port = str(known.get("host", "localhost")), known.get("port", "5432")
    if not host.startswith("/"):
        yield f"jdbc:postgresql://{host}:{port}/{known['dbname']}?{login}"
        return
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_forward, args=(server, f"{host}/.s.PGSQL.{port}"), daemon=True).start()
        yield f"jdbc:postgresql://127.0.0.1:{server.getsockname()[1]}/{known['dbname']}?{login}"


def _forward(server: socket.socket, path: str) -> None:
    """Join each connection to the Unix socket, until the server is closed."""
    with suppress(OSError):
        while True:
            caller, _ = server.accept()
            target = socket.socket(socket.AF_UNIX)
            target.connect(path)
            for source, sink in ((caller, target), (target, caller)):
                threading.Thread(target=_pour, args=(source, sink), daemon=True).start()


def _pour(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()


@pytest.fixture
def java() -> tuple[Path, Path]:
    """Java, and PostgreSQL's driver for it."""
    program, driver = shutil.which("java"), Path("/usr/share/java/postgresql.jar")
    if program and driver.is_file():
        return Path(program), driver
    reason = "needs java and Debian's libpostgresql-jdbc-java"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(autouse=True)
def mlflow_forgets() -> Iterator[None]:
    """Let MLflow, whose settings are the process', know nothing more of where a page has logged."""
    yield
    if (mlflow := sys.modules.get("mlflow")) is not None:
        from mlflow.tracking import fluent
        from mlflow.tracking._tracking_service import utils

        mlflow.set_tracking_uri(None)
        fluent._active_experiment_id = None
        os.environ.pop("MLFLOW_EXPERIMENT_ID", None)
        utils._tracking_store_registry._get_store_with_resolved_uri.cache_clear()
