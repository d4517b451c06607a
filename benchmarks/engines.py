"""Scores by compiled models against the model itself: `python -m benchmarks.engines`.

Rows a second of one backend, a query over a table: the function alone (by processor time too, for a machine that does
other things), `predict` with each engine, two parallel workers; one row of a forest, whole statement, against
scikit-learn's own predict in a process that has it loaded; and where the engines break even, by processor time of all
processes that take part (docs/decisions/0013).
"""

from __future__ import annotations

import os
import pickle
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psycopg
from sklearn.ensemble import GradientBoostingRegressor, RandomForestRegressor
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.bench import FEATURES, Report, arguments, connect, make_rows, served, timed

ROW = [i / 10 for i in range(1, 11)]


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__ or "")
    rows, trees, calls = (5_000, 10, 20) if options.quick else (100_000, 100, 200)
    random = np.random.default_rng(0)
    features = pd.DataFrame(random.random((2000, 10)), columns=FEATURES)
    target = np.sin(features.to_numpy() * 5) @ random.random(10)
    models: dict[str, Any] = {
        "Ridge with a scaler": make_pipeline(StandardScaler(), Ridge()).fit(features, target),
        f"{trees} boosted trees of depth 3": GradientBoostingRegressor(n_estimators=trees).fit(features, target),
        f"a forest of {trees} trees of depth 10": RandomForestRegressor(trees, max_depth=10, n_jobs=1).fit(features, target),
    }
    report = Report(f"engines: {rows:,} rows x 10 float8")
    with served(options.major) as (dsn, worker), connect(dsn) as connection:
        make_rows(connection, "given", rows)
        for name, model in models.items():
            connection.execute("select dbml.register_model(%s, %s)", (name, pickle.dumps(model)))
        boosted = f"{trees} boosted trees of depth 3"
        for name in (next(iter(models)), boosted):
            rates(report, connection, name, rows, 1 if options.quick else 3)
        one_row(report, connection, list(models)[2], models[list(models)[2]], calls)
        sizes = (2, 4) if options.quick else (25, 50, 100, 200)
        for size in sizes:
            made = GradientBoostingRegressor(n_estimators=size).fit(features, target)
            break_even(report, connection, f"{size} trees of depth 3", made, rows, worker)
    report.show()


def break_even(report: Report, connection: psycopg.Connection[Any], name: str, model: Any, rows: int, worker: int) -> None:
    """Measure a query's rows a second of processor time by each engine."""
    connection.execute("set max_parallel_workers_per_gather = 0; set dbml.compile = off")
    connection.execute("select dbml.register_model(%s, %s)", (f"even {name}", pickle.dumps(model)))
    connection.execute("reset dbml.compile")
    columns = "id bigint, " + ", ".join(f"{c} float8" for c in FEATURES) + ", p float8"
    for engine in ("sql", "onnx", "python"):
        if engine != "python":
            connection.execute("select dbml.compile_model(%s, engine => %s)", (f"even {name}", engine))
        query = f"select sum(p) from dbml.predict('even {name}', 'select * from given', '{engine}') as t({columns})"
        connection.execute(query, prepare=False)  # type: ignore[arg-type]
        before = processor_s(connection) + sum(map(used_s, family(worker)))
        connection.execute(query, prepare=False)  # type: ignore[arg-type]
        used = max(processor_s(connection) + sum(map(used_s, family(worker))) - before, 0.01)
        report.note(f"{name}: a query by {engine}", f"{rows / used:,.0f} rows/s of processor time")


def family(process: int) -> list[int]:
    """Return a process and all that it has started."""
    found = [process]
    for task in Path(f"/proc/{process}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += family(int(child))
    return found


def used_s(process: int) -> float:
    """Return the processor time that a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rates(report: Report, connection: psycopg.Connection[Any], name: str, rows: int, rounds: int) -> None:
    """Measure rows a second of one model."""
    found = connection.execute(
        "select functions -> 'predict' ->> 'set' from dbml._certificates join dbml._models m using (model_id) where m.name = %s",
        (name,),
    ).fetchone()
    assert found is not None and found[0] is not None, name
    alone = f"select sum(dbml_models.{found[0]}({', '.join(FEATURES)})) from given"
    columns = "id bigint, " + ", ".join(f"{c} float8" for c in FEATURES) + ", p float8"
    query = f"select sum(p) from dbml.predict('{name}', 'select * from given', '%s') as t({columns})"
    into = "select dbml.predict_into('{}', 'select * from given', 'scored', 'replace', '{}')"
    statements = {
        "function alone, one core": ("0", alone),
        "function alone, two parallel workers": ("2", alone),
        "predict, engine sql": ("0", query % "sql"),
        "predict, engine python": ("0", query % "python"),
        "predict_into, engine sql": ("0", into.format(name, "sql")),
        "predict_into, engine python": ("0", into.format(name, "python")),
    }
    connection.execute("set jit = off; set parallel_setup_cost = 0; set parallel_tuple_cost = 0")
    connection.execute("set min_parallel_table_scan_size = 0")
    taken: dict[str, list[float]] = {label: [] for label in statements}
    for _ in range(rounds):
        for label, (workers, statement) in statements.items():
            connection.execute("drop table if exists scored")
            connection.execute(f"set max_parallel_workers_per_gather = {workers}")  # type: ignore[arg-type]
            taken[label].append(timed(lambda s=statement: connection.execute(s, prepare=False).fetchall()))  # type: ignore[misc]
    middle = {label: statistics.median(seconds) for label, seconds in taken.items()}
    for label, seconds in middle.items():
        report.note(f"{name}: {label}", f"{rows / seconds:,.0f} rows/s")
    before = processor_s(connection)
    connection.execute("set max_parallel_workers_per_gather = 0")
    connection.execute(alone, prepare=False)  # type: ignore[arg-type]
    used = max(processor_s(connection) - before, 0.01)  # of few rows less than the clock tells
    report.note(f"{name}: function alone", f"{rows / used:,.0f} rows/s of processor time")
    wanted = 2_000_000 if name.startswith("Ridge") else 150_000
    one, two = middle["function alone, one core"], middle["function alone, two parallel workers"]
    report.ratio(f"{name}: rows/s of processor time / {wanted:,}", rows / used / wanted, at_least=1)
    report.ratio(f"{name}: two workers / one core", one / two, at_least=1.6)
    for call in ("predict", "predict_into"):
        report.ratio(
            f"{name}: {call}, sql / python", middle[f"{call}, engine python"] / middle[f"{call}, engine sql"], at_least=1
        )


def processor_s(connection: psycopg.Connection[Any]) -> float:
    """Return the processor time that the connection's backend has used."""
    return used_s(connection.info.backend_pid)


def one_row(report: Report, connection: psycopg.Connection[Any], name: str, model: Any, calls: int) -> None:
    """Measure one row, whole statement, against scikit-learn in this process: PL/Python can be no faster than that."""
    statement = "select dbml.predict(%s, %s::float8[], 'sql')"
    frame = pd.DataFrame([ROW], columns=FEATURES)
    ours, theirs = [], []
    (got,) = connection.execute(statement, (name, ROW)).fetchone()  # type: ignore[misc]
    assert abs(got - model.predict(frame)[0]) < 1e-9
    for _ in range(calls):
        began = time.perf_counter()
        connection.execute(statement, (name, ROW)).fetchone()
        ours.append(time.perf_counter() - began)
    for _ in range(max(5, calls // 10)):
        theirs.append(timed(lambda: model.predict(frame)))
    report.times(f"{name}: one row by predict, engine sql", ours)
    report.times(f"{name}: one row by scikit-learn itself", theirs)
    report.ratio(f"{name}: times faster", statistics.median(theirs) / statistics.median(ours), at_least=20)


if __name__ == "__main__":
    main()
