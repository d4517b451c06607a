"""Predictions in every form, each compared with the model's own answer."""

from __future__ import annotations

import pickle
import threading
import uuid
from typing import Any

import numpy
import pandas
import psycopg
import pytest
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_diabetes, load_iris
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from dbml import errors
from dbml.worker.scorers import MOST_PROCESSES

DIABETES = load_diabetes(as_frame=True)
IRIS = load_iris(as_frame=True)
RIDGE = Ridge().fit(DIABETES.data, DIABETES.target)
LABELS = IRIS.target.map(dict(enumerate(IRIS.target_names))).astype(object)
FEATURES = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
FLOWERS = IRIS.data.set_axis(FEATURES, axis=1)
CLASSIFIER = make_pipeline(StandardScaler(), LogisticRegression()).fit(FLOWERS, LABELS)


@pytest.fixture
def models(db: psycopg.Connection[Any]) -> dict[str, str]:
    """Register a regressor and a classifier, and make tables of the data."""
    mark = uuid.uuid4().hex[:8]
    names = {"ridge": f"ridge-{mark}", "iris": f"iris-{mark}"}
    db.execute("SELECT dbml.register_model(%s, %s)", (names["ridge"], pickle.dumps(RIDGE)))
    db.execute("SELECT dbml.register_model(%s, %s)", (names["iris"], pickle.dumps(CLASSIFIER)))
    for table, frame in (("diabetes", DIABETES.data), ("flowers", FLOWERS)):
        columns = ", ".join(f'"{c}" float8' for c in frame.columns)
        db.execute(f"CREATE TEMPORARY TABLE {table} (id int, {columns}, note text)")  # type: ignore[arg-type]
        with db.cursor() as cursor, cursor.copy(f"COPY {table} FROM STDIN") as copy:  # type: ignore[arg-type]
            for i, row in enumerate(frame.itertuples(index=False)):
                copy.write_row((i, *row, f"n{i}"))
    return names


def test_one_row_equals_the_models_own_answer(db: psycopg.Connection[Any], models: dict[str, str]) -> None:
    for i in (0, 7, 200):
        features = DIABETES.data.iloc[i].tolist()
        (answer,) = db.execute("SELECT dbml.predict(%s, %s::float8[])", (models["ridge"], features)).fetchone()  # type: ignore[misc]
        assert answer == RIDGE.predict(DIABETES.data.iloc[[i]])[0]


def test_one_row_per_row_of_a_table(db: psycopg.Connection[Any], models: dict[str, str]) -> None:
    columns = ", ".join(DIABETES.data.columns)
    rows = db.execute(
        f"SELECT id, dbml.predict(%s, array[{columns}]) FROM diabetes ORDER BY id",
        (models["ridge"],),  # type: ignore[arg-type]
    ).fetchall()
    numpy.testing.assert_allclose([p for _, p in rows], RIDGE.predict(DIABETES.data), rtol=1e-12)


def test_a_row_by_its_column_names(db: psycopg.Connection[Any], models: dict[str, str]) -> None:
    rows = db.execute(
        "SELECT dbml.predict_row(%s, f) FROM flowers f WHERE id IN (0, 60, 120) ORDER BY id", (models["iris"],)
    ).fetchall()
    assert [r for (r,) in rows] == list(CLASSIFIER.predict(FLOWERS.iloc[[0, 60, 120]]))
    (number,) = db.execute("SELECT dbml.predict_row(%s, d)::float8 FROM diabetes d WHERE id = 3", (models["ridge"],)).fetchone()  # type: ignore[misc]
    assert number == RIDGE.predict(DIABETES.data.iloc[[3]])[0]
    with pytest.raises(errors.MissingFeature, match="petal_width"):
        db.execute(
            "SELECT dbml.predict_row(%s, f) FROM (SELECT sepal_length, sepal_width, petal_length FROM flowers LIMIT 1) f",
            (models["iris"],),
        )
    (from_json,) = db.execute(
        'SELECT dbml.predict_row(%s, \'{"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2, "more": 1}\'::jsonb)',
        (models["iris"],),
    ).fetchone()  # type: ignore[misc]
    assert from_json == "setosa"


def test_a_query_keeps_its_columns_and_gains_the_prediction(db: psycopg.Connection[Any], models: dict[str, str]) -> None:
    rows = db.execute(
        """SELECT * FROM dbml.predict(%s,
        'SELECT note, petal_width, id, petal_length, sepal_width, sepal_length, array[id, 1] AS a FROM flowers ORDER BY id')
        AS t(note text, petal_width float8, id int, petal_length float8, sepal_width float8, sepal_length float8, a int[], species text)""",
        (models["iris"],),
    ).fetchall()
    assert len(rows) == 150 and rows[17][0] == "n17" and rows[17][6] == [17, 1]
    assert [row[-1] for row in rows] == list(CLASSIFIER.predict(FLOWERS))


def test_json_rows(db: psycopg.Connection[Any], models: dict[str, str]) -> None:
    rows = db.execute(
        "SELECT r FROM dbml.predict_json(%s, 'SELECT * FROM flowers ORDER BY id LIMIT 3') r", (models["iris"],)
    ).fetchall()
    assert [(r["id"], r["note"], r["prediction"]) for (r,) in rows] == [
        (0, "n0", "setosa"),
        (1, "n1", "setosa"),
        (2, "n2", "setosa"),
    ]


def test_a_whole_table_into_another(db: psycopg.Connection[Any], models: dict[str, str]) -> None:
    target = "scored_" + uuid.uuid4().hex[:8]
    wanted = RIDGE.predict(DIABETES.data)

    def written(mode: str, query: str = "SELECT * FROM diabetes") -> int:
        return db.execute("SELECT dbml.predict_into(%s, %s, %s, %s)", (models["ridge"], query, target, mode)).fetchone()[0]  # type: ignore[index,no-any-return]

    assert written("create") == 442
    with pytest.raises(psycopg.errors.DuplicateTable):
        written("create")
    assert written("append") == 442
    assert db.execute(f"SELECT count(*) FROM {target}").fetchone() == (884,)  # type: ignore[arg-type]
    assert written("replace") == 442
    rows = db.execute(f"SELECT prediction FROM {target} ORDER BY id").fetchall()  # type: ignore[arg-type]
    numpy.testing.assert_allclose([p for (p,) in rows], wanted, rtol=1e-12)
    assert written("append", "SELECT * FROM diabetes WHERE false") == 0
    with pytest.raises(errors.InvalidArgument, match="mode must be"):
        written("upsert")
    with pytest.raises(errors.InvalidArgument, match="prediction"):
        written("append", "SELECT *, 1 AS prediction FROM diabetes")
    db.execute(f"DROP TABLE {target}")  # type: ignore[arg-type]


def test_probabilities(db: psycopg.Connection[Any], models: dict[str, str]) -> None:
    (answer,) = db.execute("SELECT dbml.predict_proba(%s, array[5.1, 3.5, 1.4, 0.2])", (models["iris"],)).fetchone()  # type: ignore[misc]
    numpy.testing.assert_allclose(answer, CLASSIFIER.predict_proba(FLOWERS.iloc[[0]])[0], rtol=1e-12)
    with pytest.raises(errors.PredictionError, match="predict_proba"):
        db.execute("SELECT dbml.predict_proba(%s, %s::float8[])", (models["ridge"], [0.0] * 10))


def test_text_labels_do_not_pass_as_numbers(db: psycopg.Connection[Any], models: dict[str, str]) -> None:
    with pytest.raises(errors.PredictionError, match="setosa"):
        db.execute("SELECT dbml.predict(%s, array[5.1, 3.5, 1.4, 0.2])", (models["iris"],))


def test_the_missing_column_is_named(db: psycopg.Connection[Any], models: dict[str, str]) -> None:
    with pytest.raises(errors.MissingFeature, match='"petal_length"') as caught:
        db.execute(
            "SELECT dbml.predict_json(%s, 'SELECT sepal_length, sepal_width, petal_width FROM flowers')", (models["iris"],)
        )
    assert caught.value.detail["missing"] == ["petal_length"]


@pytest.mark.parametrize("features", [[1.0], [1.0] * 11, []])
def test_a_wrong_number_of_features(db: psycopg.Connection[Any], models: dict[str, str], features: list[float]) -> None:
    with pytest.raises(errors.InvalidArgument):
        db.execute("SELECT dbml.predict(%s, %s::float8[])", (models["ridge"], features))


def test_nothing_in_nothing_out(db: psycopg.Connection[Any], models: dict[str, str]) -> None:
    assert db.execute("SELECT dbml.predict(%s, null::float8[])", (models["ridge"],)).fetchone() == (None,)
    assert (
        db.execute("SELECT * FROM dbml.predict_json(%s, 'SELECT * FROM flowers WHERE false')", (models["iris"],)).fetchall() == []
    )


def test_a_missing_value_is_the_models_affair(db: psycopg.Connection[Any], models: dict[str, str]) -> None:
    with pytest.raises(errors.PredictionError, match="NaN"):
        db.execute("SELECT dbml.predict(%s, array[null, 1, 1, 1, 1, 1, 1, 1, 1, 1]::float8[])", (models["ridge"],))
    assert db.execute("SELECT 1").fetchone() == (1,)


def test_a_column_list_that_does_not_fit(db: psycopg.Connection[Any], models: dict[str, str]) -> None:
    with pytest.raises(errors.ColumnListMismatch) as caught:
        db.execute("SELECT * FROM dbml.predict(%s, 'SELECT * FROM flowers') AS t(a int)", (models["iris"],))
    fitting = caught.value.diag.message_hint or ""
    assert fitting.startswith("AS t(id integer, sepal_length double precision") and fitting.endswith("prediction text)")
    assert (
        len(db.execute(f"SELECT * FROM dbml.predict(%s, 'SELECT * FROM flowers') {fitting}", (models["iris"],)).fetchall()) == 150
    )  # type: ignore[arg-type]
    with pytest.raises(errors.ColumnListMismatch):
        db.execute("SELECT * FROM dbml.predict(%s, 'SELECT * FROM flowers LIMIT 1')"
                   " AS t(a int, b int, c float8, d float8, e float8, f text, p text)", (models["iris"],))  # fmt: skip


def test_a_pipeline_with_text_categories_and_its_nulls(db: psycopg.Connection[Any]) -> None:
    frame = pandas.DataFrame({"colour": ["red", "green", "blue", "red"] * 10, "size": numpy.arange(40.0)})
    target = frame["size"] * 2 + frame.colour.map({"red": 1.0, "green": 5.0, "blue": 9.0})
    model = make_pipeline(
        make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["colour"]), remainder="passthrough"), LinearRegression()
    ).fit(frame, target)
    name = "mixed-" + uuid.uuid4().hex
    db.execute("SELECT dbml.register_model(%s, %s)", (name, pickle.dumps(model)))
    rows = db.execute(
        "SELECT * FROM dbml.predict(%s, $$SELECT * FROM (VALUES (3.0::float8, 'red'), (4.0, 'violet')) v(size, colour)$$)"
        " AS t(size float8, colour text, p float8)", (name,)
    ).fetchall()  # fmt: skip
    wanted = model.predict(pandas.DataFrame({"colour": ["red", "violet"], "size": [3.0, 4.0]}))
    numpy.testing.assert_allclose([row[2] for row in rows], wanted, rtol=1e-9)
    (one,) = db.execute("SELECT dbml.predict_row(%s, r) FROM (SELECT 'green' AS colour, 2 AS size) r", (name,)).fetchone()  # type: ignore[misc]
    assert round(one, 6) == 9


def test_several_outputs_are_an_array(db: psycopg.Connection[Any]) -> None:
    model = LinearRegression().fit([[0.0], [1.0], [2.0]], [[0.0, 1.0], [1.0, 3.0], [2.0, 5.0]])
    name = "double-" + uuid.uuid4().hex
    db.execute("SELECT dbml.register_model(%s, %s)", (name, pickle.dumps(model)))
    (answer,) = db.execute(
        "SELECT p FROM dbml.predict(%s, 'SELECT 3.0::float8 AS x') AS t(x float8, p float8[])", (name,)
    ).fetchone()  # type: ignore[misc]
    numpy.testing.assert_allclose(answer, [3.0, 7.0])


def test_a_hundred_thousand_rows_in_order_and_equal(db: psycopg.Connection[Any], models: dict[str, str]) -> None:
    query = ("SELECT g AS id, " + ", ".join(f"(sin(g * {i + 1}) / 10) AS \"{c}\"" for i, c in enumerate(DIABETES.data.columns))
             + " FROM generate_series(1, 100000) g")  # fmt: skip
    columns = ", ".join(f'"{c}" float8' for c in DIABETES.data.columns)
    rows = db.execute(
        f"SELECT * FROM dbml.predict(%s, %s) AS t(id int, {columns}, p float8)", (models["ridge"], query)
    ).fetchall()  # type: ignore[arg-type]
    frame = pandas.DataFrame([row[1:-1] for row in rows], columns=DIABETES.data.columns)
    assert [row[0] for row in rows] == list(range(1, 100_001))
    numpy.testing.assert_allclose([row[-1] for row in rows], RIDGE.predict(frame), rtol=1e-9)


def test_an_alias_that_moves_changes_the_answer_at_once(db: psycopg.Connection[Any]) -> None:
    name = "moving-" + uuid.uuid4().hex
    for slope in (1.0, 2.0):
        model = LinearRegression().fit([[0.0], [1.0]], [0.0, slope])
        db.execute("SELECT dbml.register_model(%s, %s)", (name, pickle.dumps(model)))
    answers = []
    for version in (1, 2, 1):
        db.execute("SELECT dbml.set_model_alias(%s, 'live')", (f"{name}:{version}",))
        answers.append(round(db.execute("SELECT dbml.predict(%s, array[10.0])", (f"{name}@live",)).fetchone()[0], 6))  # type: ignore[index]
    assert answers == [10.0, 20.0, 10.0]


def test_many_sessions_at_once(db: psycopg.Connection[Any], models: dict[str, str], connect: Any) -> None:
    wanted = RIDGE.predict(DIABETES.data)
    wrong: list[Any] = []

    def work(start: int) -> None:
        with connect() as mine:
            for i in range(start, start + 40):
                features = DIABETES.data.iloc[i].tolist()
                got = mine.execute("SELECT dbml.predict(%s, %s::float8[])", (models["ridge"], features)).fetchone()[0]
                if got != wanted[i] and abs(got - wanted[i]) > 1e-9:
                    wrong.append((i, got, wanted[i]))

    threads = [threading.Thread(target=work, args=(40 * t,)) for t in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_many_models_in_turn_are_kept_apart_and_few_are_held(db: psycopg.Connection[Any]) -> None:
    names = [f"turn-{uuid.uuid4().hex[:8]}-{i}" for i in range(MOST_PROCESSES + 8)]
    for i, name in enumerate(names):
        model = LinearRegression().fit([[0.0], [1.0]], [float(i), 2.0 * i + 1])
        db.execute("SELECT dbml.register_model(%s, %s)", (name, pickle.dumps(model)))
    for turn in (names, reversed(names)):
        for name in turn:
            i = int(name.rpartition("-")[2])
            (answer,) = db.execute("SELECT dbml.predict(%s, array[2.0]::float8[])", (name,)).fetchone()  # type: ignore[misc]
            assert answer == pytest.approx(2 * (i + 1) + i)
    (held,) = db.execute("SELECT scorers FROM dbml.worker_status").fetchone()  # type: ignore[misc]
    assert 1 < len(held) <= MOST_PROCESSES
    for name in names:
        db.execute("SELECT dbml.delete_model(%s)", (name,))
