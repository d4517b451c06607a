"""The small client: frames in and out, functions as scripts, models and runs by name."""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psycopg
import pytest
from sklearn.linear_model import LinearRegression

import dbml
from dbml import errors
from dbml.client import Client
from dbml.exceptions import ModelNotFoundException, WorkspaceException

OFFSET = 3


@pytest.fixture
def db(place: Path) -> Iterator[Client]:
    """A client of a workspace of its own."""
    with dbml.connect() as default:
        name = "c-" + uuid.uuid4().hex[:12]
        with default.workspace(name, create=True) as client:
            yield client
            client._workspace.delete()


def scaled(frame: pd.DataFrame, factor: float) -> pd.DataFrame:
    return frame.assign(y=frame.x * factor, root=np.sqrt(frame.x))


def test_a_script_with_a_query(db: Client, capsys: pytest.CaptureFixture[str]) -> None:
    frame = db.run_script(
        "print('hello')\nOutputDataSet = InputDataSet.assign(y = InputDataSet.x * factor)",
        "SELECT g AS x FROM generate_series(1, 3) g", params={"factor": 3},
    )  # fmt: skip
    assert frame.to_dict("list") == {"x": [1, 2, 3], "y": [3, 6, 9]} and frame.dtypes.astype(str).to_list() == ["int64", "int64"]
    assert "hello" in capsys.readouterr().out
    assert db.query("SELECT count(*) AS n FROM dbml.outputs WHERE workspace = %s", (db.name,)).n[0] == 0
    assert db.run_script("x = 1").empty


def test_a_function_is_shipped(db: Client) -> None:
    frame = pd.DataFrame({"x": [1.0, 4.0]})
    assert db.run_script(scaled, frame, params={"factor": 2}).to_dict("list") == {
        "x": [1.0, 4.0],
        "y": [2.0, 8.0],
        "root": [1.0, 2.0],
    }

    def both(left: pd.DataFrame, right: pd.DataFrame, run: Any, how: str = "inner") -> pd.DataFrame:
        run.log("left", len(left))
        return left.merge(right, how=how)

    joined = db.run_script(both, inputs={"left": frame, "right": "SELECT 4.0::float8 AS x, 'four' AS word"}, experiment="joins")
    assert joined.to_dict("list") == {"x": [4.0], "word": ["four"]}
    assert db.metrics("joins")[["name", "value"]].to_numpy().tolist() == [["left", 2.0]]


def test_a_function_that_cannot_be_shipped(db: Client) -> None:
    near = 1

    def uses_global(frame: pd.DataFrame) -> Any:
        return frame.x + OFFSET

    def uses_closure(frame: pd.DataFrame) -> Any:
        return frame.x + near

    def wants(frame: pd.DataFrame, missing: int) -> Any:
        return frame

    for function, said in (
        (uses_global, "uses OFFSET"),
        (uses_closure, "uses near"),
        (wants, "'missing'"),
        (len, "must be text"),
    ):
        with pytest.raises(errors.InvalidArgument, match=said):
            db.run_script(function, "SELECT 1 AS x")


def test_an_error_of_a_script_is_its_own(db: Client) -> None:
    with pytest.raises(errors.ScriptError, match="no") as caught:
        db.run_script("x = 1\nraise ValueError('no')")
    assert "line 2" in (caught.value.context or "")
    assert db.runs.frame.status.tolist() == ["failed"]


def test_frames_come_back_as_they_went(db: Client) -> None:
    frame = pd.DataFrame({
        "i": [1, 2**53 + 1], "b": [True, False], "f": [1.5, math.inf], "t": ["a", "grüße \\ \t"], "d": [Decimal("1.10"), None],
        "day": [date(2026, 1, 2), None], "at": pd.to_datetime(["2026-01-02 03:04:05.000006", None]),
        "zone": pd.to_datetime(["2026-01-02", "2026-06-01"], utc=True), "c": pd.Categorical(["x", "y"]), "raw": [b"\0a", b""],
        "select": pd.array([1, None], dtype="Int64"), "maybe": pd.array([True, None], dtype="boolean"),
    })  # fmt: skip
    back = db.run_script("OutputDataSet = InputDataSet", frame)
    assert back.columns.to_list() == frame.columns.to_list()
    assert (
        back["i"].to_list() == [1, 2**53 + 1] and back["b"].to_list() == [True, False] and back["f"].to_list() == [1.5, math.inf]
    )
    assert back["t"].to_list() == frame["t"].to_list() and back["raw"].to_list() == [b"\0a", b""]
    assert str(back["d"][0]) == "1.10" and back["at"][0] == frame["at"][0] and pd.isna(back["at"][1])
    assert back["zone"].to_list() == frame["zone"].to_list() and back["c"].to_list() == ["x", "y"]
    assert (str(back["select"].dtype), str(back["maybe"].dtype)) == ("Int64", "boolean")
    with pytest.raises(errors.UnsupportedType):
        db.run_script("x = 1", pd.DataFrame({"x": [1, "a"]}))
    assert db.query("SELECT count(*) AS n FROM pg_class WHERE relname LIKE 'frame\\_%%' AND %s", (True,)).n[0] == 0


def test_models_are_registered_loaded_and_scored(db: Client) -> None:
    X = pd.DataFrame({"a": [0.0, 1.0, 2.0], "b": [1.0, 0.0, 1.0]})  # noqa: N806
    model = db.register_model("line", LinearRegression().fit(X, [1.0, 3.0, 5.0]), alias="champion", tags={"k": "v"})
    assert model.version == 1 and model.model_framework == "scikit-learn"
    assert db.predict("line@champion", [2.0, 1.0]) == pytest.approx(5)
    for data in ("SELECT 7 AS id, 2.0::float8 AS a, 1.0::float8 AS b", X.iloc[[2]].assign(id=7)):
        scored = db.predict("line", data)
        assert isinstance(scored, pd.DataFrame) and scored.prediction.to_list() == pytest.approx([5]) and scored.id[0] == 7
    assert db.load_model("line:1").predict(X).tolist() == pytest.approx([1, 3, 5])
    assert db.models["line@champion"].tags == {"k": "v"} and list(db.models) == ["line"] and len(db.models) == 1
    assert db.models.frame.name.to_list() == ["line"] and "line" in repr(db.models) and "<table" in db.models._repr_html_()
    with pytest.raises(ModelNotFoundException):
        db.models["nope"]
    with pytest.raises(errors.InvalidArgument, match="pickle takes"):
        db.register_model("bad", lambda x: x)
    Path("a.txt").write_text("x")
    db.register_model("file", "a.txt")
    with pytest.raises(errors.InvalidArgument, match="is of format files"):
        db.load_model("file")


def test_runs_are_compared(db: Client) -> None:
    for alpha in (0.1, 1.0, 10.0):
        with db.start_run("ridge", params={"alpha": alpha, "rmse": "same name"}, tags={"kind": "try"}) as run:
            for step in range(3):
                run.log("loss", alpha / (step + 1), step=step)
            run.log("rmse", alpha * 2)
    assert db.experiments.frame.name.to_list() == ["ridge"] and db.experiments["ridge"].name == "ridge"
    comparison = db.experiments["ridge"].compare()
    frame = comparison.frame.sort_values("alpha")
    assert frame[["alpha", "rmse", "param.rmse", "kind", "status"]].to_numpy().tolist() == [
        [0.1, 0.2, "same name", "try", "Completed"], [1.0, 2.0, "same name", "try", "Completed"],
        [10.0, 20.0, "same name", "try", "Completed"],
    ]  # fmt: skip
    assert frame.loss.to_list() == pytest.approx([0.1 / 3, 1 / 3, 10 / 3]) and run.id in frame.index
    assert (len(comparison), comparison.metrics, comparison.parameters) == (3, ["loss", "rmse"], ["alpha", "rmse"])
    assert comparison.series("loss").shape == (9, 4)
    lines, points, bars = comparison.plot("loss"), comparison.plot("rmse", against="alpha"), comparison.plot("rmse")
    assert len(lines.axes[0].lines) == 3 and len(bars.axes[0].patches) == 3
    assert list(points.axes[0].lines[0].get_xdata()) == [0.1, 1.0, 10.0]
    with pytest.raises(errors.InvalidArgument, match="must have been logged"):
        comparison.plot("never")
    assert db.runs.frame.shape[0] == 3 and db.runs[run.id].get_metrics("rmse") == {"rmse": 20.0}
    assert db.metrics(run_id=run.id).shape[0] == 4 and db.metrics().shape[0] == 12


def test_a_workspace_that_is_not_there(place: Path) -> None:
    with pytest.raises(WorkspaceException, match="must exist"):
        dbml.connect(workspace="nope")
    with dbml.connect() as db:
        assert db.name == "default" and "default" in repr(db)


def test_queries_are_frames(db: Client) -> None:
    frame = db.query("SELECT NULL::int AS n, 'x' AS t, ARRAY[1,2] AS a, '1 day'::interval AS i, 1.5::numeric AS m LIMIT %s", (1,))
    assert pd.isna(frame.n[0]) and frame.a[0].tolist() == [1, 2] and frame.m[0] in (Decimal("1.5"), "1.5")
    assert db.query("CREATE TEMP TABLE made (x int)").empty
    assert db.query("SELECT x, x AS x FROM made").columns.to_list() == ["x", "x"]
    with pytest.raises(psycopg.errors.SyntaxError):
        db.query("SELEKT")
