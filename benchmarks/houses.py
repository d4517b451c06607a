"""A million houses scored in SQL, each compared with what the model itself says: `python -m benchmarks.houses`.

Houses are like California's: eight numbers, one of them with gaps, and how near the sea is, as text, with gaps too and in a word
that training has not seen.  The compiled function is called for every row, the model in this process is asked for the same rows.
Exit code 1 where a row differs.
"""

from __future__ import annotations

import pickle
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import psycopg
import pyarrow as pa
import pyarrow.csv
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from benchmarks.bench import Report, arguments, connect, served, timed

NUMBERS = ["income", "age", "rooms", "bedrooms", "population", "occupancy", "latitude", "longitude"]
TRAINED_ON = 5_000  # of them; nothing that is compared was made after looking at it
INTO = "select dbml.predict_into(%s, 'select * from houses', 'valued', 'replace', %s)"
MOST_ERROR = 1e-9  # relative, or of the size of an ordinary value


@dataclass
class Compared:
    """One model: rows that SQL has scored, those it left to the model, and how far answers are apart, relative and not."""

    model: str
    rows: int
    left: int
    different: int  # labels that are not the same, numbers further apart than MOST_ERROR
    absolute: float
    relative: float
    seconds: dict[str, float]  # of predict_into, by engine


def make_houses(connection: psycopg.Connection[Any], rows: int) -> pd.DataFrame:
    """Make the table houses and return the first of them."""
    connection.execute("select setseed(0.5)")
    connection.execute(
        f"""create table houses as select g as id, exp(random() * 2.5) as income,
        case when g % 20 > 0 then (random() * 52)::int::float8 end as age, 1 + random() * 9 as rooms, 0.7 + random() as bedrooms,
        (random() * 5000)::int::float8 as population, 1 + random() * 5 as occupancy, 32 + random() * 10 as latitude,
        -124 + random() * 10 as longitude,
        case when g > {TRAINED_ON} and g % 997 = 0 then 'ON A PIER'
             else (array['INLAND', '<1H OCEAN', 'NEAR BAY', 'NEAR OCEAN', 'it''s an "ISLAND"', null])[1 + (random() * 5)::int]
        end as sea
        from generate_series(1, {rows}) g"""  # type: ignore[arg-type]
    )
    connection.execute("vacuum analyze houses")
    return read(connection, f"select * from houses where id <= {TRAINED_ON} order by id")


def read(connection: psycopg.Connection[Any], query: str) -> pd.DataFrame:
    """Return a query's rows, floats as they are, NULL as NaN or None."""
    with connection.cursor().copy(f"copy ({query}) to stdout (format csv, header)") as copy:  # type: ignore[arg-type]
        content = b"".join(map(bytes, copy))
    options = pyarrow.csv.ConvertOptions(strings_can_be_null=True, quoted_strings_can_be_null=False)
    return pyarrow.csv.read_csv(pa.BufferReader(content), convert_options=options).to_pandas()


def fitted(houses: pd.DataFrame) -> dict[str, tuple[Any, list[str]]]:
    """Return fitted models by name, with the columns that each takes."""
    price = houses.income * 0.4 + np.cos(houses.latitude) - houses.occupancy * 0.1 + (houses.sea == "NEAR BAY")
    grade = np.array(["low", "fair", "it's high"], dtype=object)[np.digitize(price, price.quantile([0.3, 0.7]))]

    def mixed(last: Any) -> Any:
        return make_pipeline(
            make_column_transformer(
                (make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")), ["sea"]),
                (make_pipeline(SimpleImputer(add_indicator=True), StandardScaler()), NUMBERS),
            ),
            last,
        )

    of_numbers = {
        "Ridge of imputed and scaled numbers": make_pipeline(SimpleImputer(add_indicator=True), StandardScaler(), Ridge()),
        "histogram boosting, 40 trees": HistGradientBoostingRegressor(max_iter=40, max_leaf_nodes=8, random_state=0),
        "forest, 20 trees of depth 6": RandomForestRegressor(20, max_depth=6, n_jobs=1, random_state=0),
    }
    of_all = {
        "logistic regression of numbers and text": mixed(LogisticRegression(max_iter=500)),
        "tree of numbers and text": mixed(DecisionTreeClassifier(max_depth=8, random_state=0)),
    }
    return {
        **{name: (model.fit(houses[NUMBERS], price), NUMBERS) for name, model in of_numbers.items()},
        **{name: (model.fit(houses[[*NUMBERS, "sea"]], grade), [*NUMBERS, "sea"]) for name, model in of_all.items()},
    }


def compare(connection: psycopg.Connection[Any], rows: int) -> Iterator[Compared]:
    """Make houses, and score and compare them with each model."""
    models = fitted(make_houses(connection, rows))
    connection.execute("set max_parallel_workers_per_gather = 2; set jit = off")
    for name, (model, columns) in models.items():
        connection.execute("select dbml.register_model(%s, %s)", (name, pickle.dumps(model)))
        (function,) = connection.execute(
            "select functions -> 'predict' ->> 'set' from dbml._certificates c join dbml._models m using (model_id)"
            " where m.name = %s and c.engine = 'sql' and c.status = 'certified'", (name,),
        ).fetchone()  # type: ignore[misc]  # fmt: skip
        listed = ", ".join(columns)
        scored = read(connection, f"select {listed}, dbml_models.{function}({listed}) as answer from houses")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of categories that are not known
            wanted = model.predict(scored[columns])
        connection.execute("drop table if exists valued")  # whose predictions may be of another type
        seconds = {e: timed(lambda e=e, n=name: connection.execute(INTO, (n, e))) for e in ("sql", "python")}  # type: ignore[misc]
        yield _compared(name, scored.answer, wanted, seconds)


def _compared(name: str, answers: pd.Series, wanted: Any, seconds: dict[str, float]) -> Compared:
    known = answers.notna().to_numpy()
    got, wanted = answers.to_numpy()[known], wanted[known]
    if wanted.dtype.kind != "f":
        return Compared(name, len(got), int((~known).sum()), int((got != wanted).sum()), 0.0, 0.0, seconds)
    apart = np.abs(got.astype(float) - wanted)
    relative = apart / np.maximum(np.abs(wanted), np.median(np.abs(wanted)))
    different = int((~(relative <= MOST_ERROR)).sum())
    return Compared(name, len(got), int((~known).sum()), different, float(apart.max()), float(relative.max()), seconds)


def main() -> None:
    """Compare and print."""
    options = arguments(__doc__ or "")
    rows = 20_000 if options.quick else 1_000_000
    report = Report(f"{rows:,} houses, compiled models against the models themselves")
    different = 0
    with served(options.major) as (dsn, _), connect(dsn) as connection:
        for found in compare(connection, rows):
            report.note(f"{found.model}: rows compared", f"{found.rows:,}, and {found.left:,} left to the model")
            report.note(f"{found.model}: rows that differ", f"{found.different:,}, wanted none")
            report.note(f"{found.model}: largest error", f"{found.absolute:.1e}, relative {found.relative:.1e}")
            for engine, seconds in found.seconds.items():
                report.note(f"{found.model}: predict_into, engine {engine}", f"{rows / seconds:,.0f} rows/s")
            different += found.different + (found.rows < rows // 2)
    report.show()
    sys.exit(1 if different else 0)


if __name__ == "__main__":
    main()
