"""Clients that keep to no rule: nothing that they send breaks the listener."""

import contextlib
import socket
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbml.worker import wire

from .listening import Served, eventually, execute, log_in, read_all


@pytest.fixture(scope="module")
def fuzzed():
    made = Served(host="127.0.0.1", max_message=100_000, login_timeout_s=0.5)
    yield made
    made.stop()


QUERIES = [b"echo x", b"", b"set client_encoding='x'", b"wait 0.001", b"crash", b"nul"]
VALID = st.sampled_from(
    [wire.message(b"Q", text + b"\0") for text in QUERIES] + [wire.message(bytes([kind]), b"x\0\0\0") for kind in b"PBDECSHFdcf"]
)
STREAM = st.lists(VALID | st.binary(max_size=50) | VALID.map(lambda m: m[:-1])).map(b"".join)


@pytest.mark.parametrize("message", [b"\x16\x03\x01\x02\x00", wire.message(b"Q", b"no end"), wire.message(b"p", b"again")])
def test_nonsense_after_the_login_ends_the_connection(served, message):
    with served.socket() as client:
        log_in(client)
        client.sendall(message)
        assert b"SFATAL\0VFATAL\0C08P01" in read_all(client)


@settings(max_examples=60)
@given(st.binary(max_size=300) | st.binary(max_size=300).map(lambda b: struct.pack("!i", len(b) + 4) + b))
def test_no_bytes_break_the_listener_before_the_login(fuzzed, stream):
    with fuzzed.socket() as client:
        with contextlib.suppress(ConnectionError):
            client.sendall(stream)
            client.shutdown(socket.SHUT_WR)
        read_all(client)


@settings(max_examples=60)
@given(STREAM)
def test_no_bytes_break_the_listener_after_the_login(fuzzed, stream):
    with fuzzed.socket() as client:
        log_in(client)
        with contextlib.suppress(ConnectionError):
            client.sendall(stream + wire.message(b"X"))
            client.shutdown(socket.SHUT_WR)
        read_all(client)


def test_after_all_that_it_works(fuzzed):
    eventually(lambda: fuzzed.counts.connections == fuzzed.counts.unauthenticated == fuzzed.counts.running == 0)
    with fuzzed.connect() as connection:
        assert execute(connection, "echo x")
