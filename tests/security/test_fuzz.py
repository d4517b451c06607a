"""A few of the inputs that benchmarks.fuzz feeds by the million: what reads bytes raises what it declares, and soon."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.fuzz.mutate import inputs
from benchmarks.fuzz.targets import TARGETS
from dbml import errors
from dbml.worker.requests import read_head

MANY = 3000


@pytest.mark.parametrize("name", TARGETS)
def test_mutated_samples_raise_what_is_declared(name: str) -> None:
    target = TARGETS[name]
    slowest = 0.0
    for number, data in enumerate(inputs(target.samples, seed=7)):
        if number == MANY:
            break
        began = time.perf_counter()
        target.feed(data)
        slowest = max(slowest, time.perf_counter() - began)
    assert slowest < 5


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=100)
@given(data=st.binary(max_size=300))
def test_any_bytes_raise_what_is_declared(name: str, data: bytes) -> None:
    TARGETS[name].feed(data)


@settings(max_examples=200)
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_an_error_of_any_fields_is_an_error(value: object) -> None:
    fields = {"sqlstate": value, "message": value, "detail": value, "hint": value, "context": value}
    assert set(errors.from_fields(fields).fields()) == {"sqlstate", "message", "detail", "hint", "context"}


@pytest.mark.parametrize("head", [b"", b"{", b"[]", b"1", b"\xff", b"[" * 100_000, b'{"a":' * 100_000, b"NaN", b'"x"'])
def test_a_head_that_is_no_object(head: bytes) -> None:
    with pytest.raises(errors.ProtocolMismatch, match="JSON object"):
        read_head(head)
