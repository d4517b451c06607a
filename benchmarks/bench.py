"""What the benchmarks share: a server and a worker of their own, pairs of timings, and a table that says what is met.

The two sides of a comparison take turns within one run, because a machine's speed drifts; the medians' ratio is what
is quoted.  A timing is never a test.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from rich.console import Console
from rich.table import Table

import dbml
from dbml.cli.worker_process import WorkerProcess
from dbml.database import binaries
from dbml.database.embedded import Cluster
from dbml.database.install import install

FEATURES = [f"c{i}" for i in range(10)]


def arguments(description: str) -> argparse.Namespace:
    """Read the command line that every benchmark has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="small sizes: shows that it runs, its figures mean nothing")
    parser.add_argument("--major", type=int, default=None, help="PostgreSQL's major version (default: the newest found)")
    return parser.parse_args()


@contextmanager
def served(major: int | None = None) -> Iterator[tuple[str, int]]:
    """Yield (dsn, process id of the worker) of a database with dbml on a server of the benchmark's own."""
    folder = Path(tempfile.mkdtemp(prefix="dbml-bench-"))
    folder.chmod(0o711)  # as root, the server runs as another account
    cluster = Cluster(folder / "cluster", binaries=binaries.find(major))
    worker = None
    try:
        cluster.start()
        dsn = cluster.dsn("postgres")
        install(dsn)
        (folder / "worker").mkdir()
        worker = WorkerProcess(dsn, folder / "worker")
        worker.start()
        worker.wait_ready(timeout_s=180)
        assert worker.pid is not None
        yield dsn, worker.pid
    finally:
        if worker is not None:
            worker.stop()
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


def connect(dsn: str) -> psycopg.Connection[Any]:
    """Open a connection as psql would: autocommit."""
    return psycopg.connect(dsn, autocommit=True)


def timed(work: Callable[[], object]) -> float:
    """Return how long work takes, in seconds."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


class Report:
    """Collects rows and prints them as one table."""

    def __init__(self, title: str) -> None:
        cpus = os.cpu_count()
        self._table = Table(title=f"{title}\ndbml {dbml.__version__}, Python {platform.python_version()}, {cpus} processors")
        for name in ("what", "median", "min - max", "wanted", ""):
            self._table.add_column(name)

    def times(self, what: str, seconds: list[float], wanted_ms: float | None = None) -> None:
        """Add a row of times; wanted_ms is the most that the median should be."""
        middle = statistics.median(seconds)
        met = "" if wanted_ms is None else "met" if middle * 1000 <= wanted_ms else "NOT MET"
        self._table.add_row(
            what,
            _time(middle),
            f"{_time(min(seconds))} - {_time(max(seconds))}",
            "" if wanted_ms is None else f"<= {wanted_ms:g} ms",
            met,
        )

    def ratio(self, what: str, value: float, *, at_least: float | None = None, at_most: float | None = None) -> None:
        """Add a row with a ratio of medians."""
        met = (at_least is None or value >= at_least) and (at_most is None or value <= at_most)
        wanted = f">= {at_least:g}" if at_least is not None else f"<= {at_most:g}"
        self._table.add_row(what, f"{value:.2f}", "", wanted, "met" if met else "NOT MET")

    def note(self, what: str, value: str) -> None:
        """Add a row of text."""
        self._table.add_row(what, value, "", "", "")

    def show(self) -> None:
        """Print the table."""
        Console(width=120).print(self._table)


def _time(seconds: float) -> str:
    return f"{seconds * 1000:.2f} ms" if seconds < 1 else f"{seconds:.2f} s"


def register_ridge(connection: psycopg.Connection[Any], name: str) -> Any:
    """Register a Ridge over ten features and return it."""
    import pickle

    import numpy as np
    import pandas as pd
    from sklearn.linear_model import Ridge

    random = np.random.default_rng(0)
    features = pd.DataFrame(random.random((500, 10)), columns=FEATURES)
    model = Ridge().fit(features, features.to_numpy() @ random.random(10))
    connection.execute("select dbml.register_model(%s, %s)", (name, pickle.dumps(model)))
    return model


def make_rows(connection: psycopg.Connection[Any], table: str, rows: int) -> None:
    """Make a table of an id and ten random float8."""
    columns = ", ".join(f"random() as {name}" for name in FEATURES)
    connection.execute(f"drop table if exists {table}")  # type: ignore[arg-type]
    connection.execute(f"create table {table} as select g::bigint as id, {columns} from generate_series(1, {rows}) g")  # type: ignore[arg-type]
    connection.execute(f"vacuum analyze {table}")  # type: ignore[arg-type]
