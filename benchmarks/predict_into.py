"""predict_into of a table against pandas and against ADBC, both from outside: `python -m benchmarks.predict_into`."""

from __future__ import annotations

import statistics
from typing import Any

import adbc_driver_postgresql.dbapi as adbc
import pandas as pd
import pyarrow as pa
import sqlalchemy

from benchmarks.bench import FEATURES, Report, arguments, connect, make_rows, register_ridge, served, timed


def with_pandas(engine: sqlalchemy.Engine, model: Any, target: str = "by_pandas") -> None:
    """Read, predict and write with pandas."""
    frame = pd.read_sql("select * from given", engine)
    frame["prediction"] = model.predict(frame[FEATURES])
    frame.to_sql(target, engine, index=False, if_exists="replace", method="multi", chunksize=5000)


def with_adbc(connection: Any, model: Any, target: str = "by_adbc") -> None:
    """Fetch, predict and ingest as Arrow."""
    with connection.cursor() as cursor:
        cursor.execute("select * from given")
        table = cursor.fetch_arrow_table()
        scores = model.predict(table.select(FEATURES).to_pandas())
        cursor.adbc_ingest(target, table.append_column("prediction", pa.array(scores)))
    connection.commit()


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__ or "")
    rows, rounds, pandas_rounds = (20_000, 1, 1) if options.quick else (1_000_000, 5, 1)
    ours: list[float] = []
    arrow: list[float] = []
    frames: list[float] = []
    with served(options.major) as (dsn, _), connect(dsn) as connection, adbc.connect(dsn) as outside:
        engine = sqlalchemy.create_engine("postgresql+psycopg://", creator=lambda: connect_plain(dsn))
        model = register_ridge(connection, "ridge")
        make_rows(connection, "given", rows)
        call = "select dbml.predict_into('ridge', 'select * from given', 'by_dbml')"
        connection.execute("select dbml.predict_json('ridge', 'select * from given limit 1')")
        for _ in range(rounds):
            connection.execute("drop table if exists by_dbml, by_adbc")
            connection.execute("checkpoint")
            arrow.append(timed(lambda: with_adbc(outside, model)))
            connection.execute("checkpoint")
            ours.append(timed(lambda: connection.execute(call)))  # type: ignore[arg-type]
        for _ in range(pandas_rounds):
            frames.append(timed(lambda: with_pandas(engine, model)))
        same = connection.execute(
            "select count(*) from by_dbml join by_adbc using (id) where abs(by_dbml.prediction - by_adbc.prediction) < 1e-9"
        ).fetchone()
        engine.dispose()
    report = Report(f"{rows:,} rows x 10 float8 into a new table, Ridge")
    report.times("dbml.predict_into", ours)
    report.times("ADBC fetch, predict, ADBC ingest", arrow)
    report.times('pandas read_sql, predict, to_sql(method="multi")', frames)
    report.ratio("time of predict_into / ADBC", statistics.median(ours) / statistics.median(arrow), at_most=1.5)
    report.ratio("times faster than pandas", statistics.median(frames) / statistics.median(ours), at_least=20)
    report.note("rows with the same prediction", f"{same[0] if same else 0:,}")
    report.show()


def connect_plain(dsn: str) -> Any:
    """Open the connection that SQLAlchemy keeps."""
    import psycopg

    return psycopg.connect(dsn)


if __name__ == "__main__":
    main()
