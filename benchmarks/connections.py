"""Many client connections that predict at once, by pgbench, every answer checked: `python -m benchmarks.connections`.

Each client keeps its session, and so its backend and that one's connection to the worker.  Exit code 1 where a
transaction failed; a wrong answer fails by a division by zero.
"""

from __future__ import annotations

import argparse
import contextlib
import pickle
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import psycopg
from sklearn.linear_model import LinearRegression

from benchmarks.bench import Report
from dbml.cli.worker_process import WorkerProcess
from dbml.database import binaries
from dbml.database.embedded import Cluster
from dbml.database.install import install
from dbml.dsn import parse

SCRIPT = r"""
\set x random(-1000, 1000)
select 1 / (abs(dbml.predict('line', array[:x]::float8[]) - (2 * :x + 1)) < 1e-6)::int;
"""
SPARE = 100  # connections beside the clients'


def find_pgbench() -> str:
    """Return the path of pgbench: of PATH, else the newest of Debian's."""
    found = [shutil.which("pgbench"), *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin/pgbench"), reverse=True))]
    for path in found:
        if path and Path(path).exists():
            return path
    sys.exit("pgbench must be installed: apt-get install postgresql-15")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--transactions", type=int, default=30, help="of each client")
    parser.add_argument("--major", type=int, default=None, help="PostgreSQL's major version (default: the newest found)")
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # pgbench has a descriptor a client
    folder = Path(tempfile.mkdtemp(prefix="dbml-bench-"))
    folder.chmod(0o711)
    settings = {"max_connections": str(options.clients + SPARE), "shared_buffers": "256MB"}
    cluster = Cluster(folder / "cluster", binaries=binaries.find(options.major), settings=settings)
    worker = None
    try:
        cluster.start()
        dsn = cluster.dsn("postgres")
        install(dsn)
        (folder / "worker").mkdir()
        worker = WorkerProcess(dsn, folder / "worker", options=["--max-connections", str(options.clients + SPARE)])
        worker.start()
        worker.wait_ready()
        failed = measure(options, dsn, folder, worker)
    finally:
        if worker is not None:
            worker.stop()
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(1 if failed else 0)


def measure(options: argparse.Namespace, dsn: str, folder: Path, worker: WorkerProcess) -> bool:
    """Run pgbench and print what it and the worker say; returns whether something failed."""
    model = LinearRegression().fit([[0.0], [1.0]], [1.0, 3.0])
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("select dbml.register_model('line', %s)", (pickle.dumps(model),))
        connection.execute("select dbml.predict('line', array[1]::float8[])")
    assert worker.pid is not None
    process = psutil.Process(worker.pid)
    before_mb = process.memory_info().rss / (1 << 20)
    script = folder / "predict.sql"
    script.write_text(SCRIPT)
    given = parse(dsn)
    command = [
        find_pgbench(), "--no-vacuum", "--client", str(options.clients), "--jobs", "2", "--file", str(script),
        "--transactions", str(options.transactions), "--host", str(given["host"]), "--port", str(given["port"]),
        "--username", str(given["user"]), str(given["dbname"]),
    ]  # fmt: skip
    began = time.monotonic()
    done = subprocess.Popen(
        command, env={"PGPASSWORD": str(given["password"]), "PATH": "/usr/bin:/bin"}, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    peak_mb, most_open = 0.0, 0
    while done.poll() is None:
        peak_mb = max(peak_mb, process.memory_info().rss / (1 << 20))
        with contextlib.suppress(psutil.AccessDenied):  # a worker tells nobody but root what it has open
            most_open = max(most_open, process.num_fds())
        time.sleep(0.1)
    seconds = time.monotonic() - began
    printed, complaints = done.communicate()
    wanted = options.clients * options.transactions
    answered = int(_number(printed, r"transactions actually processed: (\d+)") or 0)
    report = Report(f"{options.clients} clients of pgbench -j 2, predictions of one row, each checked")
    report.note("transactions, answered rightly", f"{answered:,} of {wanted:,}, wanted all")
    report.note("failed", f"{wanted - answered:,}, wanted 0")
    report.note("transactions a second", f"{_number(printed, r'tps = ([0-9.]+)') or 0:,.0f}")
    report.note("latency, mean", f"{_number(printed, r'latency average = ([0-9.]+)') or 0:,.0f} ms")
    report.note("until all were connected", f"{_number(printed, r'initial connection time = ([0-9.]+)') or 0:,.0f} ms")
    report.note("seconds in all", f"{seconds:.1f}")
    report.note("memory of the worker's listening process", f"{before_mb:.0f} MB before, {peak_mb:.0f} MB at its peak")
    report.note("of it, a connection", f"{(peak_mb - before_mb) * 1024 / options.clients:.0f} kB")
    report.note("its descriptors", str(most_open or "known to root alone"))
    report.show()
    for line in complaints.splitlines()[:10]:
        print(line, file=sys.stderr)
    return answered != wanted or done.returncode != 0


def _number(text: str, pattern: str) -> float | None:
    found = re.search(pattern, text)
    return float(found[1]) if found else None


if __name__ == "__main__":
    main()
