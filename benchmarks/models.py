"""Many stored models scored in turn, every answer checked, while the worker keeps few: `python -m benchmarks.models`.

Each model has an answer of its own, so that one taken for another is seen.  Exit code 1 where an answer was wrong, or where
more processes or memory were held than the worker's limits allow.
"""

from __future__ import annotations

import argparse
import pickle
import random
import statistics
import sys
import time

import psutil
import psycopg
from sklearn.linear_model import LinearRegression

from benchmarks.bench import Report, served
from dbml.worker.scorers import MOST_PROCESSES

CALL = "select dbml.predict(%s, array[%s]::float8[])"


def main() -> None:
    """Register, score in turn and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=10_000)
    parser.add_argument("--quick", action="store_true", help="100 models: shows that it runs, its figures mean nothing")
    parser.add_argument("--major", type=int, default=None, help="PostgreSQL's major version (default: the newest found)")
    options = parser.parse_args()
    count = 100 if options.quick else options.models
    with served(options.major) as (dsn, pid), psycopg.connect(dsn, autocommit=True, prepare_threshold=0) as connection:
        connection.execute("set dbml.compile = off")  # they are to be scored by processes, not by the executor
        began = time.monotonic()
        for start in range(0, count, 500):
            with connection.transaction(), connection.cursor() as cursor:
                cursor.executemany(
                    "select dbml.register_model(%s, %s)", [_model(i) for i in range(start, min(start + 500, count))]
                )
        registered_s = time.monotonic() - began
        order = random.Random(7).sample(range(count), count)
        wrong, most_processes, peak_mb, times = 0, 0, 0.0, []
        for position, i in enumerate(order):
            began = time.perf_counter()
            (answer,) = connection.execute(CALL, (f"m{i}", 2.0)).fetchone()  # type: ignore[misc]
            times.append(time.perf_counter() - began)
            wrong += abs(answer - (2 * (i + 1) + i)) > 1e-6
            if position % max(1, count // 50) == 0:
                (held,) = connection.execute("select scorers from dbml.worker_status").fetchone()  # type: ignore[misc]
                most_processes = max(most_processes, len(held))
                peak_mb = max(peak_mb, sum(_unique_mb(each) for each in (pid, *held)))
        again = order[-(MOST_PROCESSES // 2) :]
        warm = []
        for i in again:
            began = time.perf_counter()
            connection.execute(CALL, (f"m{i}", 2.0))
            warm.append(time.perf_counter() - began)
    report = Report(f"{count:,} models of one feature, stored, each scored once, in any order")
    report.note("answered rightly", f"{count - wrong:,} of {count:,}, wanted all")
    report.note("to register them", f"{registered_s:.1f} s")
    report.note("to score with one that is not loaded, median", f"{statistics.median(times) * 1000:.1f} ms")
    report.note("the slowest of a hundred", f"{sorted(times)[int(0.99 * len(times))] * 1000:.1f} ms")
    report.note("with one that is, median", f"{statistics.median(warm) * 1000:.2f} ms")
    report.note("models a second", f"{count / sum(times):,.0f}")
    report.note("processes that held models, at most", f"{most_processes}, wanted {MOST_PROCESSES} or less")
    report.note("memory of worker and scorers that is theirs alone, at most", f"{peak_mb:,.0f} MB")
    report.show()
    sys.exit(1 if wrong or most_processes > MOST_PROCESSES else 0)


def _model(i: int) -> tuple[str, bytes]:
    """Return a model's name and bytes: (i + 1) x + i."""
    return f"m{i}", pickle.dumps(LinearRegression().fit([[0.0], [1.0]], [float(i), 2.0 * i + 1]))


def _unique_mb(pid: int) -> float:
    try:
        return psutil.Process(pid).memory_full_info().uss / (1 << 20)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0.0


if __name__ == "__main__":
    main()
