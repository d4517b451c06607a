"""What a user would pick instead of `predict_into`: a table goes out, is scored, and comes back as another table."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import pickle
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import adbc_driver_postgresql.dbapi as adbc
import numpy as np
import pandas as pd
import psycopg
import pyarrow as pa
import pyarrow.csv
import sqlalchemy

from benchmarks.bench import FEATURES
from benchmarks.predict_into import with_adbc, with_pandas
from benchmarks.serving.servers import Server

ORBITAL_S = 20  # of processor time, for orbital to write its SQL
PER_REQUEST = 1000  # rows
SERVICE = """
import numpy as np
import onnxruntime
from fastapi import FastAPI
from pydantic import BaseModel

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession("model.onnx", options)
app = FastAPI()

class Rows(BaseModel):
    data: list[list[float]]

@app.post("/score")
async def score(rows: Rows):
    return session.run(None, {"X": np.array(rows.data, dtype=np.float32)})[0].ravel().tolist()
"""
ORBITAL = """
import pickle, resource, sys
resource.setrlimit(resource.RLIMIT_CPU, ({limit}, {limit}))
import orbital, orbital.types
pipeline, features = pickle.load(sys.stdin.buffer)
parsed = orbital.parse_pipeline(pipeline, features={{name: orbital.types.DoubleColumnType() for name in features}})
print(orbital.export_sql("given", parsed, dialect="postgres"))
"""
PLPYTHON = """
create extension if not exists plpython3u;
create or replace function _packages() returns void language plpython3u as $f$
    import sys
    if {packages!r} not in sys.path:
        sys.path.insert(0, {packages!r})
$f$;
create or replace function plpython_one(model text, features float8[]) returns float8 language plpython3u as $f$
    if model not in GD:
        import pickle
        GD[model] = pickle.loads(plpy.execute(plpy.prepare("select dbml.model_bytes($1) as b", ["text"]), [model])[0]["b"])
    import warnings
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(GD[model].predict([features])[0])
$f$;
create or replace function plpython_set(model text) returns table(id bigint, prediction float8) language plpython3u as $f$
    if model not in GD:
        import pickle
        GD[model] = pickle.loads(plpy.execute(plpy.prepare("select dbml.model_bytes($1) as b", ["text"]), [model])[0]["b"])
    import warnings
    rows = plpy.cursor("select * from given")
    while chunk := rows.fetch(10000):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scores = GD[model].predict([[row[name] for name in {features!r}] for row in chunk])
        for row, score in zip(chunk, scores):
            yield row["id"], float(score)
$f$;
"""


def by_copy(connection: psycopg.Connection[Any], model: Any) -> None:
    """COPY out as CSV, predict, COPY in."""
    out = io.BytesIO()
    with connection.cursor() as cursor:
        with cursor.copy("copy given to stdout (format csv, header)") as reading:
            for data in reading:
                out.write(data)
        table = pyarrow.csv.read_csv(pa.BufferReader(out.getvalue()))
        table = table.append_column("prediction", pa.array(model.predict(table.select(FEATURES).to_pandas())))
        into = io.BytesIO()
        pyarrow.csv.write_csv(table, into, pyarrow.csv.WriteOptions(include_header=False))
        cursor.execute("create table scored (like given, prediction float8)")
        with cursor.copy("copy scored from stdin (format csv)") as writing:
            writing.write(into.getvalue())


def by_service(connection: psycopg.Connection[Any], port: int) -> None:
    """Fetch, ask the service for PER_REQUEST rows at a time over one connection, COPY in."""
    asked = http.client.HTTPConnection("127.0.0.1", port)
    rows = connection.execute("select * from given", prepare=False).fetchall()
    connection.execute("create table scored (like given, prediction float8)")
    with connection.cursor().copy("copy scored from stdin") as writing:
        for start in range(0, len(rows), PER_REQUEST):
            chunk = rows[start : start + PER_REQUEST]
            for row, score in zip(chunk, ask(asked, [row[1:] for row in chunk]), strict=True):
                writing.write_row((*row, score))
    asked.close()


def ask(asked: http.client.HTTPConnection, rows: list[Any]) -> list[float]:
    """Return the service's answer for rows of features."""
    asked.request("POST", "/score", json.dumps({"data": rows}), {"Content-Type": "application/json"})
    with asked.getresponse() as answer:
        return json.loads(answer.read())  # type: ignore[no-any-return]


@contextlib.contextmanager
def service(model: Any) -> Iterator[int]:
    """Yield the port of a FastAPI app that has the model as skl2onnx makes it."""
    import skl2onnx
    from skl2onnx.common.data_types import FloatTensorType

    made = skl2onnx.to_onnx(
        model, initial_types=[("X", FloatTensorType([None, len(FEATURES)]))], target_opset={"": 20, "ai.onnx.ml": 3}
    )
    folder = Path(tempfile.mkdtemp(prefix="dbml-bench-"))
    try:
        (folder / "model.onnx").write_bytes(made.SerializeToString())
        (folder / "score.py").write_text(SERVICE)
        command = [sys.executable, "-m", "uvicorn", "--host", "127.0.0.1", "--port", "PORT", "--no-access-log", "score:app"]
        server = Server("FastAPI", command, folder)
        server.start()
        try:
            yield server.port
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def orbital_sql(model: Any) -> str | None:
    """Return the query that orbital makes of a model over table given; None where it takes longer than ORBITAL_S."""
    from sklearn.pipeline import Pipeline

    pipeline = model if isinstance(model, Pipeline) else Pipeline([("model", model)])
    command = [sys.executable, "-c", ORBITAL.format(limit=ORBITAL_S)]
    done = subprocess.run(command, input=pickle.dumps((pipeline, FEATURES)), capture_output=True, timeout=300)
    if done.returncode < 0:  # ended by the limit
        return None
    if done.returncode != 0:
        raise RuntimeError(f"orbital: {done.stderr.decode()[-2000:]}")
    return done.stdout.decode()


class Outside:
    """The connections of those who take rows out, and what each would do with them, by name; ended by `close`."""

    def __init__(self, dsn: str, connection: psycopg.Connection[Any]) -> None:
        self._engine = sqlalchemy.create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(dsn))
        self._adbc = adbc.connect(dsn)
        self._connection = connection

    def ways(self, model: Any, port: int) -> dict[str, Callable[[], object]]:
        """Return what scores table given into table scored."""
        return {
            "COPY out, predict, COPY in": lambda: by_copy(self._connection, model),
            "ADBC round trip": lambda: with_adbc(self._adbc, model, "scored"),
            "pandas round trip": lambda: with_pandas(self._engine, model, "scored"),
            "FastAPI + ONNX Runtime": lambda: by_service(self._connection, port),
        }

    def close(self) -> None:
        """Close them."""
        self._engine.dispose()
        self._adbc.close()


def probe(model: Any, port: int) -> None:
    """Assert that the service answers as the model does, as far as float32 lets it."""
    rows = np.random.default_rng(7).random((50, len(FEATURES)))
    asked = http.client.HTTPConnection("127.0.0.1", port)
    np.testing.assert_allclose(
        ask(asked, rows.tolist()), model.predict(pd.DataFrame(rows, columns=FEATURES)), rtol=1e-2, atol=1e-2
    )
    asked.close()
