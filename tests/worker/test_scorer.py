"""Scorers: real processes that hold models; each answer is compared with the model's own."""

from __future__ import annotations

import hashlib
import json
import pickle
import struct
from collections.abc import Iterator
from typing import Any

import cloudpickle
import numpy
import pandas
import pytest
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_diabetes, load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from dbml import errors
from dbml.worker.processes import Child
from dbml.worker.sandbox import Limits
from dbml.worker.scorer import read_float_array
from dbml.worker.zygote_process import ChildLost

X, Y = load_diabetes(return_X_y=True, as_frame=True)
RIDGE = Ridge().fit(X, Y)
IRIS = load_iris(as_frame=True)
SPECIES = IRIS.target.map(dict(enumerate(IRIS.target_names))).astype(object)
FLOAT8 = {"type": "double precision", "kind": "float8"}


def array_send(values: list[float | None]) -> bytes:
    """float8[] as PostgreSQL sends it, in hex."""
    if not values:
        return struct.pack("!iii", 0, 0, 701).hex().encode()
    body = struct.pack("!iiiii", 1, int(None in values), 701, len(values), 1)
    for value in values:
        body += struct.pack("!i", -1) if value is None else struct.pack("!id", 8, value)
    return body.hex().encode()


def chunk(frame: pandas.DataFrame) -> tuple[list[dict[str, str]], bytes]:
    """A chunk of float8, bigint and text columns without NULL."""
    columns, lines = [], [b""]
    for name, series in frame.items():
        if series.dtype.kind == "f":
            columns.append({"name": name, "type": "double precision", "kind": "float8"})
            lines.append(series.to_numpy().astype(">f8").tobytes().hex().encode())
        elif series.dtype.kind == "i":
            columns.append({"name": name, "type": "bigint", "kind": "int8"})
            lines.append(series.to_numpy().astype(">i8").tobytes().hex().encode())
        else:
            texts = [text.encode() for text in series]
            columns.append({"name": name, "type": "text", "kind": "text"})
            lines += [b"".join(struct.pack("!i", len(text)) for text in texts).hex().encode(), b"".join(texts).hex().encode()]
    return columns, b"\n".join(lines)


class Scorer:
    """The router's end of a scorer."""

    def __init__(self, house: Any, **limits: Any) -> None:
        self.house = house
        self.child: Child = house.run(house.zygote.fork("scorer", Limits(**limits)))

    def ask(self, head: dict[str, Any], body: bytes = b"") -> tuple[dict[str, Any], bytes]:
        async def work() -> tuple[dict[str, Any], bytes]:
            await self.child.send(head, body)
            return await self.child.receive()

        answer, content = self.house.run(work())
        if answer["tag"] == "error":
            raise errors.from_fields(answer)
        return answer, content

    def load(self, model: Any, digest: str | None = None) -> tuple[str, dict[str, Any]]:
        content = model if isinstance(model, bytes) else cloudpickle.dumps(model)
        digest = digest or hashlib.sha256(content).hexdigest()

        async def work() -> dict[str, Any]:
            await self.child.send({"tag": "load", "digest": digest})
            for start in range(0, len(content), 1 << 20):
                await self.child.send({"tag": "part"}, content[start : start + (1 << 20)])
            await self.child.send({"tag": "end"})
            return (await self.child.receive())[0]

        answer = self.house.run(work())
        if answer["tag"] == "error":
            raise errors.from_fields(answer)
        return digest, answer

    def row(self, digest: str, values: list[float | None], method: str = "predict") -> tuple[str, str]:
        answer, content = self.ask({"tag": "score_row", "digest": digest, "method": method}, array_send(values))
        return content.decode(), answer["type"]

    def record(self, digest: str, record: dict[str, Any], **head: Any) -> Any:
        _, content = self.ask({"tag": "score_record", "digest": digest, "method": "predict"} | head, json.dumps(record).encode())
        return json.loads(content)

    def rows(self, digest: str, frame: pandas.DataFrame, expected: dict[str, str] | None, method: str = "predict") -> str:
        columns, body = chunk(frame)
        wanted = None if expected is None else {"name": "prediction", **expected}
        head = {"tag": "score", "digest": digest, "method": method, "columns": columns, "n": len(frame), "expected": wanted}
        answer, content = self.ask(head, body)
        assert answer["n"] == len(frame)
        return content.decode()


@pytest.fixture
def scorer(house: Any) -> Iterator[Scorer]:
    made = Scorer(house)
    yield made
    made.child.kill()
    house.run(made.child.exited())


def test_a_row_equals_the_models_own_answer(scorer: Scorer) -> None:
    digest, about = scorer.load(RIDGE)
    assert about["features"] == list(X.columns) and about["n_features"] == 10 and not about["has_proba"]
    assert about["prediction"] == FLOAT8 and about["classes"] is None
    for i in (0, 7, 200):
        text, type_ = scorer.row(digest, X.iloc[i].tolist())
        assert float(text) == RIDGE.predict(X.iloc[[i]])[0] and type_ == "double precision"
    assert scorer.record(digest, X.iloc[3].to_dict() | {"more": "x"}) == RIDGE.predict(X.iloc[[3]])[0]
    assert scorer.ask({"tag": "describe", "digest": digest})[0] == about
    assert scorer.ask({"tag": "describe", "digest": "0" * 64})[0] == {"tag": "need", "digest": "0" * 64}


def test_rows_equal_the_models_own_answers(scorer: Scorer) -> None:
    digest, _ = scorer.load(RIDGE)
    answer = scorer.rows(digest, X, FLOAT8)
    numpy.testing.assert_array_equal([float(text) for text in answer.strip("{}").split(",")], RIDGE.predict(X))
    assert scorer.rows(digest, X[:0], FLOAT8) == "{}"
    with pytest.raises(errors.UnsupportedType):
        scorer.rows(digest, X, {"type": "bigint", "kind": "int8"})
    assert scorer.rows(digest, X[:1], None) == scorer.rows(digest, X[:1], FLOAT8)


def test_labels_as_text(scorer: Scorer) -> None:
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(IRIS.data, SPECIES)
    digest, about = scorer.load(model)
    assert about["prediction"] == {"type": "text", "kind": "text"} and about["has_proba"]
    assert about["classes"] == ["setosa", "versicolor", "virginica"]
    assert scorer.row(digest, [5.1, 3.5, 1.4, 0.2]) == ("setosa", "text")
    answer = scorer.rows(digest, IRIS.data, {"type": "text", "kind": "text"})
    assert [text.strip('"') for text in answer.strip("{}").split(",")] == list(model.predict(IRIS.data))
    text, type_ = scorer.row(digest, [5.1, 3.5, 1.4, 0.2], "predict_proba")
    assert type_ == "double precision[]"
    numpy.testing.assert_allclose(
        [float(t) for t in text.strip("{}").split(",")], model.predict_proba(IRIS.data[:1])[0], rtol=1e-12
    )
    answer = scorer.rows(digest, IRIS.data[:2], {"type": "double precision[]", "kind": "array:float8"}, "predict_proba")
    assert answer.count("{") == 3


@pytest.mark.parametrize(
    ("labels", "type_", "shown"),
    [
        (numpy.array([0, 1]), "bigint", "1"),
        (numpy.array([False, True]), "boolean", "true"),
        (numpy.array(['a "q" \\', "ü,}"]), "text", "ü,}"),
    ],
)
def test_labels_of_every_type(scorer: Scorer, labels: Any, type_: str, shown: str) -> None:
    model = RandomForestClassifier(8, random_state=0, bootstrap=False).fit([[0.0], [1.0]], labels)
    digest, about = scorer.load(model)
    assert about["prediction"]["type"] == type_
    assert scorer.row(digest, [1.0]) == (shown, type_)
    assert scorer.rows(digest, pandas.DataFrame({"x": [0.0, 1.0]}), about["prediction"])


def test_several_outputs(scorer: Scorer) -> None:
    model = LinearRegression().fit([[0.0], [1.0], [2.0]], [[0.0, 1.0], [1.0, 3.0], [2.0, 5.0]])
    digest, about = scorer.load(model)
    assert about["prediction"] == {"type": "double precision[]", "kind": "array:float8"}
    text, _ = scorer.row(digest, [3.0])
    numpy.testing.assert_allclose([float(t) for t in text.strip("{}").split(",")], [3.0, 7.0])
    numpy.testing.assert_allclose(scorer.record(digest, {"x": 3.0}), [3.0, 7.0])
    assert scorer.rows(digest, pandas.DataFrame({"x": [3.0]}), about["prediction"]).startswith('{"{')
    labels = MultiOutputClassifier(LogisticRegression()).fit([[0.0], [1.0]], [["a", "x"], ["b", "y"]])
    digest, about = scorer.load(labels)
    assert about["prediction"] == {"type": "text[]", "kind": "textarray"}
    assert scorer.record(digest, {"x": 1.0}) == ["b", "y"]
    assert scorer.rows(digest, pandas.DataFrame({"x": [1.0]}), about["prediction"]) in ('{"{b,y}"}', '{"{\\"b\\",\\"y\\"}"}')


def mixed() -> tuple[Any, pandas.DataFrame]:
    frame = pandas.DataFrame({"colour": ["red", "green", "blue", "red"] * 10, "size": numpy.arange(40.0), "n": range(40)})
    target = frame["size"] * 2 + frame.colour.map({"red": 1.0, "green": 5.0, "blue": 9.0})
    inner = ColumnTransformer([("c", OneHotEncoder(handle_unknown="ignore"), ["colour", "n"])], remainder="passthrough")
    return make_pipeline(inner, LinearRegression()).fit(frame, target), frame


def test_a_pipeline_that_looks_columns_up_by_name(scorer: Scorer) -> None:
    model, frame = mixed()
    digest, about = scorer.load(model)
    assert about["features"] == ["colour", "size", "n"] and about["prediction"] == FLOAT8
    answer = scorer.rows(digest, frame, FLOAT8)
    numpy.testing.assert_allclose([float(text) for text in answer.strip("{}").split(",")], model.predict(frame), rtol=1e-12)
    assert scorer.record(digest, {"n": 2, "size": 2, "colour": "green"}) == pytest.approx(
        model.predict(pandas.DataFrame({"colour": ["green"], "size": [2], "n": [2]}))[0]
    )


def test_a_step_of_ones_own_that_wants_a_frame(scorer: Scorer) -> None:
    cloudpickle.register_pickle_by_value(__import__(__name__, fromlist=["x"]))

    class Own:
        def predict(self, rows: Any) -> Any:
            return [f"{a}-{b}" for a, b in zip(rows["a"].astype(str), rows["b"], strict=True)]

    digest, about = scorer.load(Own())
    assert about["features"] is None and about["n_features"] is None
    frame = pandas.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    assert scorer.rows(digest, frame, {"type": "text", "kind": "text"}).replace('"', "") == "{1-x,2-y}"
    assert scorer.record(digest, {"b": "z", "a": 3}) == "3-z"
    assert scorer.record(digest, {"b": "z", "a": 3, "c": 0}, signature={"features": [{"name": "a"}, {"name": "b"}]}) == "3-z"


def test_clusters_and_models_that_do_not_tell(scorer: Scorer) -> None:
    _, about = scorer.load(KMeans(2, n_init=1).fit(X))
    assert about["prediction"]["type"] == "bigint"


def test_features_that_are_missing_or_too_many(scorer: Scorer) -> None:
    digest, _ = scorer.load(RIDGE)
    for features in ([1.0], [1.0] * 11, []):
        with pytest.raises(errors.InvalidArgument, match="10 features"):
            scorer.row(digest, features)
    with pytest.raises(errors.MissingFeature, match='column "s6"') as caught:
        scorer.record(digest, X.iloc[0, :-1].to_dict())
    assert caught.value.detail["missing"] == ["s6"]
    with pytest.raises(errors.PredictionError, match="NaN"):
        scorer.row(digest, [None] + [1.0] * 9)
    with pytest.raises(errors.PredictionError, match="predict_proba"):
        scorer.row(digest, [1.0] * 10, "predict_proba")
    assert scorer.row(digest, [0.0] * 10)[1] == "double precision"


class Exits:
    def __init__(self, how: str) -> None:
        self.how = how

    def __reduce__(self) -> Any:
        return eval, (f"__import__('sys').exit('{self.how}')",)


@pytest.mark.parametrize(
    "content", [b"", b"no pickle", pickle.dumps({"a": 1}), pickle.dumps(Exits("x")), pickle.dumps(RIDGE)[:-20]]
)
def test_bytes_that_are_no_model(scorer: Scorer, content: bytes) -> None:
    with pytest.raises(errors.ModelLoadError):
        scorer.load(content)
    assert scorer.load(RIDGE)[1]["tag"] == "loaded"


def test_bytes_of_another_digest_are_not_unpickled(scorer: Scorer) -> None:
    with pytest.raises(errors.ModelLoadError, match="do not match their digest"):
        scorer.load(pickle.dumps(Exits("unpickled")), digest="0" * 64)
    assert scorer.ask({"tag": "describe", "digest": "0" * 64})[0]["tag"] == "need"


def test_a_model_that_raises_anything_does_not_end_the_scorer(scorer: Scorer) -> None:
    cloudpickle.register_pickle_by_value(__import__(__name__, fromlist=["x"]))

    class Raises:
        def __init__(self, code: str) -> None:
            self.code = code

        def predict(self, rows: Any) -> Any:
            exec(self.code)

    for code, message in (("raise KeyboardInterrupt", "KeyboardInterrupt"), ("import sys; sys.exit(3)", "SystemExit"),
                          ("1/0", "division by zero"), ("pass", "shape"), ("raise ValueError('a\\x00b')", "a\ufffdb")):  # fmt: skip
        digest, _ = scorer.load(Raises(code))
        with pytest.raises(errors.PredictionError, match=message):
            scorer.row(digest, [1.0])
    digest, _ = scorer.load(Raises("raise MemoryError"))
    with pytest.raises(errors.LimitExceeded, match="memory_mb = 4096"):
        scorer.row(digest, [1.0])
    with pytest.raises(errors.DbmlError):
        scorer.ask({"tag": "score_row", "digest": scorer.load(RIDGE)[0], "method": "predict"}, b"nonsense")
    digest, _ = scorer.load(Raises("import os; os._exit(5)"))
    with pytest.raises(ChildLost, match="exit code 5"):
        scorer.row(digest, [1.0])


def test_the_least_recently_used_model_goes_first(house: Any) -> None:
    scorer = Scorer(house, cache_mb=1)
    cloudpickle.register_pickle_by_value(__import__(__name__, fromlist=["x"]))

    class Heavy:
        def __init__(self, n: int) -> None:
            self.n = n
            self.ballast = bytes([n]) * 400_000

        def predict(self, rows: Any) -> Any:
            return numpy.full(len(rows), float(self.n))

    a, _ = scorer.load(Heavy(1))
    b, _ = scorer.load(Heavy(2))
    assert scorer.row(a, [1.0])[0] == "1.0"
    scorer.load(Heavy(2))  # again: it is held once
    assert scorer.row(a, [1.0])[0] == "1.0"
    c, _ = scorer.load(Heavy(3))
    held = [scorer.ask({"tag": "describe", "digest": digest})[0]["tag"] for digest in (a, b, c)]
    assert held == ["loaded", "need", "loaded"]
    scorer.child.kill()
    house.run(scorer.child.exited())


def test_a_model_larger_than_the_cache_is_kept_alone(house: Any) -> None:
    scorer = Scorer(house, cache_mb=0)
    digest, _ = scorer.load(RIDGE)
    assert scorer.row(digest, [0.0] * 10)[1] == "double precision"
    scorer.child.kill()
    house.run(scorer.child.exited())


def test_arrays_as_postgresql_sends_them() -> None:
    def read(values: list[float | None]) -> Any:
        return read_float_array(bytes.fromhex(array_send(values).decode()))

    assert read([]).tolist() == []
    assert read([1.5, -0.0]).tolist() == [1.5, -0.0]
    numpy.testing.assert_array_equal(read([1.5, None, 2.5, None]), [1.5, numpy.nan, 2.5, numpy.nan])
    for broken in (b"", b"\x00" * 4, bytes.fromhex(array_send([1.0, 2.0]).decode())[:-1]):
        with pytest.raises(errors.ProtocolMismatch):
            read_float_array(broken)
