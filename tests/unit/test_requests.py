"""Requests: signed, fresh and new, or refused."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbml import errors
from dbml.worker.requests import Verifier, split

SECRET = b"s" * 64


def signed(secret: bytes = SECRET, **changes: Any) -> tuple[bytes, bytes]:
    header = {"kind": "ping", "protocol": 1, "nonce": str(uuid.uuid4()), "expires": time.time() + 60} | changes
    text = json.dumps(header).encode()
    return hmac.new(secret, text, hashlib.sha256).hexdigest().encode(), text


def test_a_good_request_opens_once() -> None:
    verifier = Verifier(SECRET)
    signature, header = signed()
    assert verifier.open(signature, header)["kind"] == "ping"
    with pytest.raises(errors.WorkerRefused, match="seen before"):
        verifier.open(signature, header)


@pytest.mark.parametrize("from_now", [float("-inf"), -3600.0, 7200.0])
def test_an_old_one_and_one_from_the_future(from_now: float) -> None:
    with pytest.raises(errors.WorkerRefused, match="clock"):
        Verifier(SECRET).open(*signed(expires=max(0.0, time.time() + from_now)))


def test_another_secret_and_another_version() -> None:
    with pytest.raises(errors.WorkerRefused, match="not signed"):
        Verifier(SECRET).open(*signed(secret=b"x" * 64))
    with pytest.raises(errors.ProtocolMismatch, match="version 2"):
        Verifier(SECRET).open(*signed(protocol=2))


@given(st.binary(max_size=99), st.binary(max_size=99))
def test_anything_unsigned_is_refused_before_it_is_read(signature: bytes, header: bytes) -> None:
    with pytest.raises(errors.WorkerRefused, match="not signed"):
        Verifier(SECRET).open(signature, header)


@given(st.binary(max_size=99))
def test_any_bytes_split(text: bytes) -> None:
    verb, head, body = split(text)
    assert isinstance(verb, str) and len(head) + len(body) <= len(text)
