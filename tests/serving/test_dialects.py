"""MLflow's and the Open Inference Protocol's own clients, unchanged, and what each dialect answers to what is wrong."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge

from dbml.serving.app.problems import BadRequest
from dbml.serving.app.rows import Expected
from tests.serving.services import GENERATED, Served

DATA = load_diabetes(as_frame=True)
EXPECTED = Ridge().fit(DATA.data.to_numpy(), DATA.target).predict(DATA.data.to_numpy()[:5])
FRAME = DATA.data.head(5)


def test_the_walk_through_gets_its_prediction(ridge: Served) -> None:
    answer = httpx.post(ridge.url + "/score", json={"data": [[1, 2, 3, 4, 5, 4, 3, 2, 9, 187]], "method": "predict"})
    assert answer.status_code == 200
    assert answer.json() == pytest.approx([24718.712200131304], rel=1e-9)


def test_mlflows_own_client(ridge: Served) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow.pyfunc.scoring_server.client import ScoringServerClient

        host, port = ridge.url.removeprefix("http://").split(":")
        client = ScoringServerClient(host, int(port))
        client.wait_server_ready(timeout=10)
        for data in (FRAME, FRAME[list(reversed(FRAME.columns))], FRAME.to_numpy()):
            answer = client.invoke(data).get_predictions()
            assert answer.to_numpy().ravel() == pytest.approx(EXPECTED)
    assert httpx.get(ridge.url + "/version").text.count(".") == 2


@pytest.mark.parametrize(
    "payload",
    [
        {"dataframe_split": FRAME.to_dict(orient="split")}, {"dataframe_records": FRAME.to_dict(orient="records")},
        {"instances": FRAME.to_numpy().tolist()}, {"inputs": FRAME.to_dict(orient="list")},
        {"inputs": {name: [[value] for value in FRAME[name]] for name in FRAME}}, {"instances": FRAME.to_dict(orient="records")},
    ],
)  # fmt: skip
def test_mlflows_forms(ridge: Served, payload: dict[str, Any]) -> None:
    answer = httpx.post(ridge.url + "/invocations", json=payload)
    assert answer.json()["predictions"] == pytest.approx(EXPECTED), answer.text


@pytest.mark.parametrize("binary", [True, False])
def test_a_client_of_the_open_inference_protocol(ridge: Served, binary: bool) -> None:
    from tritonclient import http as triton

    client = triton.InferenceServerClient(ridge.url.removeprefix("http://"))
    try:
        assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("diabetes", "3")
        told = client.get_model_metadata("diabetes")
        assert told["inputs"] == [{"name": "input", "datatype": "FP64", "shape": [-1, 10]}]
        tensor = triton.InferInput("input", [5, 10], "FP64")
        tensor.set_data_from_numpy(FRAME.to_numpy(), binary_data=binary)
        wanted = triton.InferRequestedOutput("predict", binary_data=binary)
        answer = client.infer("diabetes", [tensor], outputs=[wanted], request_id="seven")
        assert answer.as_numpy("predict") == pytest.approx(EXPECTED)
        assert answer.get_response()["id"] == "seven"
    finally:
        client.close()


def test_tensors_by_name_with_text_there_and_back(mixed: Served) -> None:
    from tritonclient import http as triton

    client = triton.InferenceServerClient(mixed.url.removeprefix("http://"))
    try:
        assert [i["datatype"] for i in client.get_model_metadata("iris")["inputs"]] == ["FP64", "BYTES"]
        length, size = triton.InferInput("length", [2, 1], "FP64"), triton.InferInput("size", [2, 1], "BYTES")
        length.set_data_from_numpy(np.array([[1.4], [6.0]]))
        size.set_data_from_numpy(np.array([["small"], ["big"]], dtype=object))
        answer = client.infer("iris", [length, size], outputs=[triton.InferRequestedOutput("predict")])
        assert [label.decode() for label in answer.as_numpy("predict")] == ["setosa", "virginica"]
        proba = client.infer("iris", [length, size], outputs=[triton.InferRequestedOutput("predict_proba")])
        assert proba.as_numpy("predict_proba").shape == (2, 3)
    finally:
        client.close()


def test_arrow_and_csv_bodies(ridge: Served) -> None:
    table = pa.Table.from_pandas(FRAME, preserve_index=False)
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    for path in ("/score", "/invocations"):
        answer = httpx.post(
            ridge.url + path, content=sink.getvalue(), headers={"content-type": "application/vnd.apache.arrow.stream"}
        )
        assert pa.ipc.open_stream(answer.content).read_all()["prediction"].to_pylist() == pytest.approx(EXPECTED)
    answer = httpx.post(ridge.url + "/score", content=FRAME.to_csv(index=False), headers={"content-type": "text/csv"})
    assert pd.read_csv(io.StringIO(answer.text)).prediction.tolist() == pytest.approx(EXPECTED)
    answer = httpx.post(ridge.url + "/invocations", content=FRAME.to_csv(index=False), headers={"content-type": "text/csv"})
    assert answer.json()["predictions"] == pytest.approx(EXPECTED)


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        ({"data": [[1, 2]]}, "the model takes 10 features, got 2 in a row"),
        ({"data": [{"age": 1}]}, "the model's feature 'sex' is not in the input, which has age"),
        ({"data": [dict.fromkeys(DATA.data.columns, 1) | {"bmi": "fat"}]}, "column 'bmi' must hold numbers, got 'fat' in row 1"),
        ({"data": [[1] * 9 + ["x"]]}, "column 's6' must hold numbers, got 'x' in row 1"),
        ({"data": [[1] * 10, [1]]}, "row 2 of data must be a list of 10 values like the first, got 1 values"),
        ({"data": "x"}, "data must be a list of rows, got 'x'"),
        ({"data": [1, 2]}, "data must be a list of rows, each a list or an object; got 1 as a row"),
        ({"data": [[1] * 10], "method": "fit"}, "method must be one of predict"),
        ({"rows": []}, "A value is not provided for the 'data' parameter."),
        ([], "POST body should be a JSON dictionary."),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(ridge: Served, payload: Any, words: str) -> None:
    answer = httpx.post(ridge.url + "/score", json=payload)
    assert answer.status_code == 400
    assert words in answer.json()["message"]


def test_no_rows_and_many_rows(ridge: Served) -> None:
    assert httpx.post(ridge.url + "/score", json={"data": []}).json() == []
    rows = np.tile(DATA.data.to_numpy(), (30, 1))
    assert len(httpx.post(ridge.url + "/score", json={"data": rows.tolist()}, timeout=30).json()) == len(rows)


@pytest.mark.parametrize(
    ("path", "body", "status", "key"),
    [
        ("/invocations", b"{}", 400, "error_code"), ("/invocations", b'{"instances": [], "inputs": []}', 400, "error_code"),
        ("/invocations", b"{bad", 400, "error_code"), ("/v2/models/nobody/infer", b"{}", 404, "error"),
        ("/v2/models/diabetes/versions/9/infer", b"{}", 404, "error"), ("/v2/models/diabetes/infer", b"{}", 400, "error"),
        ("/v2/models/diabetes/infer", b'{"inputs": [{"name": "x", "shape": [1, 10], "datatype": "FP64", "data": [1]}]}', 400, "error"),
        ("/v2/models/diabetes/infer", b'{"inputs": [{"name": "x", "shape": [1, 10], "datatype": "NO", "data": [1]}]}', 400, "error"),
        ("/v2/models/diabetes/infer", b'{"inputs": [{"name": "x", "shape": [-1], "datatype": "FP64", "data": [1]}]}', 400, "error"),
        ("/v2/models/diabetes/infer", b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": ["a"]}]}', 400, "error"),
    ],
)  # fmt: skip
def test_each_dialect_says_no_in_its_own_words(ridge: Served, path: str, body: bytes, status: int, key: str) -> None:
    answer = httpx.post(ridge.url + path, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == status, answer.text
    assert answer.json()[key]


def test_what_the_model_refuses_is_the_requests_fault(ridge: Served) -> None:
    answer = httpx.post(ridge.url + "/score", json={"data": [[None] * 10]})
    assert answer.status_code == 400
    assert "NaN" in answer.json()["message"]


def test_labels_of_text_and_their_probabilities(mixed: Served) -> None:
    rows = [{"length": 1.4, "size": "small"}, {"length": 6.0, "size": "never seen"}]
    assert httpx.post(mixed.url + "/score", json={"data": rows}).json() == ["setosa", "virginica"]
    proba = httpx.post(mixed.url + "/score", json={"data": rows, "method": "predict_proba"}).json()
    assert np.sum(proba, axis=1) == pytest.approx([1, 1])
    wrong = httpx.post(mixed.url + "/score", json={"data": [{"length": 1.4, "size": 3}]})
    assert (wrong.status_code, wrong.json()["message"]) == (400, "column 'size' must hold text, got 3")


def test_a_script_without_predict_answers_the_other_dialects_by_run(serve: Callable[..., Served]) -> None:
    served = serve(
        "import json\ndef init(): pass\ndef run(data):\n    return json.dumps({'result': [sum(r) for r in json.loads(data)['data']]})\n"
    )
    assert httpx.post(served.url + "/invocations", json={"instances": [[1, 2], [3, 4]]}).json() == {"predictions": [3.0, 7.0]}
    tensor = {"name": "x", "shape": [2, 2], "datatype": "FP64", "data": [1, 2, 3, 4]}
    answer = httpx.post(served.url + "/v2/models/m/infer", json={"inputs": [tensor]}).json()
    assert answer["outputs"] == [{"name": "predict", "shape": [2], "datatype": "FP64", "data": [3.0, 7.0]}]


def test_the_generated_run_and_predict_agree(serve: Callable[..., Served]) -> None:
    model = Ridge().fit(DATA.data.to_numpy(), DATA.target)
    by_predict = serve(GENERATED, model=model)
    by_run = serve(GENERATED.replace("MADE_BY_DBML = True", ""), model=model)
    payload = {"data": FRAME.to_numpy().tolist()}
    answers = [httpx.post(served.url + "/score", json=payload).json() for served in (by_predict, by_run)]
    assert answers[0] == answers[1] == pytest.approx(EXPECTED)


def test_columns_with_spaces_are_those_that_lightgbm_has_named() -> None:
    signature = {"features": [{"name": "a_b", "type": "double precision"}, {"name": "c", "type": "double precision"}]}
    fitted = Expected(signature).fit(pd.DataFrame({"c": [1.0], "a b": [2.0], "more": [3.0]}))
    assert isinstance(fitted, pd.DataFrame) and fitted.to_dict(orient="list") == {"a_b": [2.0], "c": [1.0]}
    both = Expected(signature).fit(pd.DataFrame({"a b": [1.0], "a_b": [2.0], "c": [3.0]}))
    assert isinstance(both, pd.DataFrame) and both["a_b"].tolist() == [2.0]
    with pytest.raises(BadRequest, match="the model's feature 'a_b' is not in the input, which has a, c"):
        Expected(signature).fit(pd.DataFrame({"a": [1.0], "c": [3.0]}))
    twice = pd.DataFrame([[1.0, 2.0, 3.0]], columns=["a b", "a b", "c"])
    with pytest.raises(BadRequest, match="'a_b' is not in the input"):
        Expected(signature).fit(twice)
