"""`dbml run`: a script file next to the data, with its prints, its result as a table or a file, and its errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from pyarrow import parquet

pytestmark = pytest.mark.once

Run = Callable[..., subprocess.CompletedProcess[str]]
TRAIN = """
from sklearn.linear_model import Ridge
print("rows:", len(InputDataSet), "alpha:", alpha)
model = Ridge(alpha=alpha).fit(InputDataSet[["x"]], InputDataSet.y)
run.log("intercept", round(float(model.intercept_), 6))
run.progress(1, 1)
OutputDataSet = InputDataSet.assign(p=model.predict(InputDataSet[["x"]]), größe="a\\"b")
"""
ROWS = "SELECT g AS x, 2 * g + 1 AS y FROM generate_series(1, 120) g"


@pytest.fixture
def run(dsn: str, tmp_path: Path) -> Run:
    (tmp_path / "train.py").write_text(TRAIN, "utf-8")

    def start(*arguments: str, code: int = 0, given: str | None = None) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "DBML_DSN": dsn, "COLUMNS": "120"}
        done = subprocess.run(
            [sys.executable, "-m", "dbml.cli", "run", *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=60,
            env=environment, input=given,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return done

    return start


def test_prints_metrics_and_the_first_rows(run: Run, db: psycopg.Connection) -> None:
    done = run("train.py", "--input", ROWS, "--param", "alpha=0", "--limit", "2", "--experiment", "from-shell")
    assert "rows: 120 alpha: 0" in done.stderr and "intercept = 1" in done.stderr
    assert "2 of 120 rows" in done.stdout and 'a"b' in done.stdout and "größe" in done.stdout
    run_id = done.stderr.split("run ")[1].split(":")[0]
    assert db.execute("SELECT application, experiment, status FROM dbml.runs WHERE run_id = %s", (run_id,)).fetchone() == (
        "dbml run", "from-shell", "completed",
    )  # fmt: skip


def test_files(run: Run, tmp_path: Path) -> None:
    for name in ("scores.csv", "scores.parquet", "scores.json"):
        assert "120 rows written" in run("train.py", "-i", ROWS, "-p", "alpha=0", "-o", name).stderr
    lines = (tmp_path / "scores.csv").read_text("utf-8").splitlines()
    assert lines[0] == "x,y,p,größe" and len(lines) == 121 and lines[1].endswith('"a""b"')
    table = parquet.read_table(tmp_path / "scores.parquet")
    assert [str(field.type) for field in table.schema] == ["int64", "int64", "double", "string"] and table.num_rows == 120
    first = json.loads((tmp_path / "scores.json").read_text("utf-8").splitlines()[0])
    assert first["x"] == 1 and first["größe"] == 'a"b'


def test_a_pipe_gets_the_result_alone(run: Run) -> None:
    script = "print('said')\nOutputDataSet = {'x': [1, 2]}"
    done = run("-", "--format", "csv", given=script)
    assert done.stdout == "x\n1\n2\n" and "said" in done.stderr
    assert [json.loads(line) for line in run("-", "-f", "json", given=script).stdout.splitlines()] == [{"x": 1}, {"x": 2}]


def test_every_type_reaches_parquet_or_its_text(run: Run, tmp_path: Path) -> None:
    query = """SELECT true AS b, 1::numeric / 8 AS n, '2026-01-02'::date AS d, '2026-01-02 03:04:05.000006+02'::timestamptz AS tz,
        '\\x00ff'::bytea AS raw, ARRAY[1, 2] AS many, '{"a": 1}'::jsonb AS j, NULL::text AS nothing, 'NaN'::float8 AS nan"""
    run("-", "-i", query, "-o", "all.parquet", given="OutputDataSet = InputDataSet")
    (row,) = parquet.read_table(tmp_path / "all.parquet").to_pylist()
    assert (
        row["b"] is True and row["n"].startswith("0.125") and str(row["d"]).startswith("2026-01-02") and row["raw"] == b"\x00\xff"
    )
    assert row["tz"].isoformat() == "2026-01-02T01:04:05.000006+00:00" and row["many"] == [1, 2]
    assert json.loads(row["j"]) == {"a": 1} and row["nothing"] is None and row["nan"] != row["nan"]


def test_named_inputs_groups_and_standard_input(run: Run) -> None:
    script = "OutputDataSet = [{'n': len(InputDataSet), 'others': len(other), 'text': text}]"
    done = run("-", "-i", ROWS.replace("g AS x", "g % 2 AS x"), "-i", "other=SELECT 1 AS a", "-p", "text=not json",
               "--partition-by", "x", "--order-by", "y desc", "--parallel", "2", given=script)  # fmt: skip
    assert "not json" in done.stdout and done.stdout.count("60") == 2


def test_a_script_without_a_result(run: Run) -> None:
    assert "left no OutputDataSet" in run("-", given="x = 1").stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train.txt",), "must end in .py or .R"), (("train.py", "-p", "x"), "--param must be name=value"),
        (("train.py", "-o", "a.xlsx"), "--output must end in"), (("train.py", "-o", "none/a.csv"), "a folder that is there"), (("train.py", "-i", ROWS, "-i", ROWS), "given twice"),
        (("none.py",), "a script must be a file that can be read, got none.py"), (("train.py", "-f", "xlsx"), "--format must be table, csv"),
        (("train.py", "-i", ROWS, "--timeout", "soon"), "interval"),
        (("train.py", "-i", ROWS), "script line 3, in <module>: print"),
    ],
)  # fmt: skip
def test_errors_say_what_to_do(run: Run, arguments: tuple[str, ...], message: str) -> None:
    done = run(*arguments, code=1)
    assert message in done.stderr and "Traceback" not in done.stderr and done.stderr.startswith("error: ")
