"""Arrow streams that begin alike: read without their schema, and just as they are with it."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dbml.serving.app.problems import BadRequest
from dbml.serving.app.rows import Expected, from_arrow

SIGNATURE = {"features": [{"name": name, "type": "double precision"} for name in ("a", "b")]}


def stream(*batches: pa.RecordBatch, schema: pa.Schema | None = None) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, schema or batches[0].schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return sink.getvalue()


def batch(a: list[Any], b: list[Any], names: tuple[str, str] = ("a", "b")) -> pa.RecordBatch:
    return pa.record_batch([pa.array(a, pa.float64()), pa.array(b, pa.int32())], names=list(names))


def outcome(expected: Expected, body: bytes) -> Any:
    """The rows, or in which words they are refused."""
    try:
        return np.asarray(from_arrow(body, expected)).tolist()
    except BadRequest as error:
        return error.message.partition(":")[0]


FIRST = stream(batch([1.5, None], [2, 3]))


@pytest.fixture
def warm() -> Expected:
    """One that has read a stream of this schema before."""
    expected = Expected(SIGNATURE)
    assert repr(outcome(expected, FIRST)) == "[[1.5, 2.0], [nan, 3.0]]"
    assert expected.known is not None and FIRST.startswith(expected.known.head)
    return expected


@pytest.mark.parametrize(
    "body",
    [
        FIRST, stream(batch([7.0], [8])), stream(batch([], [])), stream(schema=batch([], []).schema),
        stream(batch([1.0], [2]), batch([3.0, 4.0], [None, 6])), stream(batch([1.0], [2], ("b", "a"))), FIRST[:-8],
        FIRST[:-8] + b"more than a stream", b"", b"ARROW1",
    ],
)  # fmt: skip
def test_it_reads_as_one_that_has_read_none(warm: Expected, body: bytes) -> None:
    assert repr(outcome(warm, body)) == repr(outcome(Expected(SIGNATURE), body))


def test_wherever_a_body_ends_it_is_read_or_refused_alike(warm: Expected) -> None:
    for end in range(len(FIRST)):
        assert repr(outcome(warm, FIRST[:end])) == repr(outcome(Expected(SIGNATURE), FIRST[:end])), end


def test_another_schema_is_read_as_such(warm: Expected) -> None:
    other = pa.record_batch([pa.array([1.0]), pa.array(["x"])], names=["a", "b"])
    assert list(from_arrow(stream(other), warm).columns) == ["a", "b"]  # type: ignore[union-attr]
    assert repr(outcome(warm, FIRST)) == "[[1.5, 2.0], [nan, 3.0]]"
