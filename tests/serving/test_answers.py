"""What answers cost little by must not change what they say."""

from __future__ import annotations

import json
import uuid

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from dbml.serving.app import answers
from dbml.serving.app.front import Measures, _new_id

FRAME = pd.DataFrame({"label": pd.Categorical(["a", "b", "a"]), "p": [0.1, 0.2, 0.3]})


@pytest.mark.parametrize("scores", [np.array([0.1, np.inf]), np.array([[1, 2], [3, 4]]), np.array(["a", None], object), FRAME])
def test_an_arrow_answer_is_what_pyarrow_writes(scores: object) -> None:
    columns = answers.columns_of(scores)
    table = pa.table({name: pa.array(values, from_pandas=False) for name, values in columns.items()})
    assert pa.ipc.open_stream(answers.to_arrow(scores)).read_all().equals(table)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, np.int16, np.bool_, ">f8"])
def test_an_array_is_written_as_its_values_are(dtype: object) -> None:
    for scores in (np.array([[0.1, 1e4], [3.0, 2.0]]).astype(dtype), np.array([0.1, 0.7, 9.0]).astype(dtype)[::2]):
        assert json.loads(answers.to_json(answers.as_list(scores))) == scores.tolist()


def test_measures_count_into_the_right_bucket() -> None:
    measures = Measures()
    for seconds in (0.001, 0.002, 100.0):
        measures.answered("/score", 200, seconds)
    text = measures.text().decode()
    for line in ('bucket{le="0.001",path="/score"} 1.0', 'bucket{le="0.0025",path="/score"} 2.0',
                 'bucket{le="60.0",path="/score"} 2.0', 'bucket{le="+Inf",path="/score"} 3.0', 'count{path="/score"} 3.0'):  # fmt: skip
        assert f"dbml_request_seconds_{line}" in text


def test_a_request_id_is_a_random_uuid() -> None:
    made = [uuid.UUID(_new_id().decode()) for _ in range(100)]
    assert len(set(made)) == 100 and {(one.version, one.variant) for one in made} == {(4, uuid.RFC_4122)}
