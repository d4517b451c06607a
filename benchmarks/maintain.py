"""What it costs to keep predictions true: `python -m benchmarks.maintain`.

Writes with and without, by the number of rows that they change, on a table that is small and one ten times larger: the price must
go with the rows changed, not with the table.  Then an alias that moves, and a write load with moves and rollbacks, where every
sweep in a snapshot of its own must find each row as the model says that it is stamped with.
"""

from __future__ import annotations

import pickle
import threading
import time
from typing import Any

import numpy as np
import pandas as pd
import psycopg
from sklearn.linear_model import Ridge

from benchmarks.bench import FEATURES, Report, arguments, connect, make_rows, served, timed

SWEEP = f"""select count(*) from given g full join scored s using (id)
    where g.id is null or s.id is null or s.model_version is null
    or abs(s.prediction - s.model_version * ({" + ".join(FEATURES)})) > 1e-6"""


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__ or "")
    rows, changed, rounds, seconds = (2_000, 200, 1, 2) if options.quick else (200_000, 2_000, 3, 15)
    report = Report(f"kept predictions: {rows // 10:,} and {rows:,} rows x 10 float8, Ridge")
    frame = pd.DataFrame(np.random.default_rng(0).random((500, 10)), columns=FEATURES)
    with served(options.major) as (dsn, _), connect(dsn) as connection:
        for version in (1, 2):
            model = Ridge(alpha=1e-9).fit(frame, version * frame.sum(axis=1))
            connection.execute("select dbml.register_model('m', %s)", [pickle.dumps(model)])
        connection.execute("select dbml.set_model_alias('m:1', 'now')")
        cost: dict[tuple[str, int], float] = {}
        for size in (rows // 10, rows):
            make_rows(connection, "given", size)
            connection.execute("alter table given add primary key (id)")
            plain = writes(connection, changed, rounds)
            report.times(
                f"{size:,} rows: begin to keep",
                [timed(lambda: connection.execute("select dbml.maintain_predictions('m@now', 'given', 'scored')"))],
            )
            for what, taken in writes(connection, changed, rounds).items():
                cost[what, size] = max(min(taken) - min(plain[what]), 1e-9)
                report.times(f"{size:,} rows: {what} of {changed:,}", taken)
                report.note(f"{size:,} rows: {what}, more than without, a row", f"{cost[what, size] / changed * 1e6:,.0f} µs")
            if size == rows:
                break
            connection.execute("select dbml.delete_maintained_predictions('scored')")
        for what in ("insert", "update", "delete"):
            report.ratio(
                f"{what}: cost at {rows:,} rows / at {rows // 10:,}", cost[what, rows] / cost[what, rows // 10], at_most=2
            )
        moves = [timed(lambda v=v: connection.execute("select dbml.set_model_alias(%s, 'now')", [f"m:{v}"])) for v in (2, 1)]  # type: ignore[misc]
        report.times(f"the alias moves, {rows:,} rows", moves)
        report.note("rows scored a second by a move", f"{rows / min(moves):,.0f}")
        load(report, dsn, seconds)
    report.show()


def writes(connection: psycopg.Connection[Any], changed: int, rounds: int) -> dict[str, list[float]]:
    """Return how long statements that change so many rows take."""
    values = ", ".join(["random()"] * len(FEATURES))
    statements = {
        "insert": f"insert into given select -g, {values} from generate_series(1, {changed}) g",
        "update": "update given set c0 = c0 + 1 where id < 0",
        "delete": "delete from given where id < 0",
    }
    taken: dict[str, list[float]] = {what: [] for what in statements}
    for _ in range(rounds):
        for what, statement in statements.items():
            taken[what].append(timed(lambda s=statement: connection.execute(s)))  # type: ignore[misc]
    return taken


def load(report: Report, dsn: str, seconds: float) -> None:
    """Write, move and roll back for some time, and sweep meanwhile."""
    until = time.monotonic() + seconds
    counts = {"committed writes": 0, "moves of the alias": 0, "rolled back": 0, "sweeps": 0, "rows not as their stamp says": 0}

    def work(what: str, seed: int, text: str) -> None:
        random = np.random.default_rng(seed)
        with connect(dsn) as connection:
            while time.monotonic() < until:
                back = bool(random.random() < 0.3)
                with connection.transaction(force_rollback=back):
                    for statement in text.split(";"):
                        connection.execute(
                            statement.format(key=int(random.integers(1, 1000)), version=int(random.integers(1, 3)))
                        )  # type: ignore[arg-type]
                counts["rolled back" if back else what] += 1

    def sweep() -> None:
        with connect(dsn) as connection:
            while time.monotonic() < until:
                with connection.transaction():
                    connection.execute("set transaction isolation level repeatable read")
                    (wrong,) = connection.execute(SWEEP).fetchone()  # type: ignore[misc]
                    versions = connection.execute("select count(distinct model_version) from scored").fetchone()
                counts["sweeps"] += 1
                counts["rows not as their stamp says"] += wrong + (versions != (1,))

    writing = "update given set c1 = c1 + 1 where id = {key}"
    threads = [threading.Thread(target=work, args=("committed writes", seed, writing)) for seed in (1, 2)]
    moving = "select dbml.set_model_alias('m:{version}', 'now');select pg_sleep(0.1)"
    threads += [threading.Thread(target=work, args=("moves of the alias", 3, moving)), threading.Thread(target=sweep)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for what, count in counts.items():
        report.note(f"under load: {what}", f"{count:,}")


if __name__ == "__main__":
    main()
