"""Cancel requests, and clients that go away in mid-query."""

import struct

import psycopg
import pytest

from dbml.worker import wire

from .listening import answer, cancel_by, eventually, execute, log_in, read_all, read_messages


def test_cancel(served):
    with served.connect() as connection:
        connection.pgconn.send_query(b"wait 30")
        assert served.answers.running.wait(5)
        connection.cancel_safe()
        with pytest.raises(psycopg.errors.QueryCanceled):
            answer(connection)
        assert execute(connection, "echo on") == [(b"echo", None, b"on")]
    assert served.answers.names()[:3] == ["connected", "cancel", "cancelled"]


def test_cancel_of_nothing_is_nothing(served):
    with served.connect() as connection:
        connection.cancel_safe()
        assert execute(connection, "echo on")
    assert "cancel" not in served.answers.names()


@pytest.mark.parametrize(("minor", "length"), [(0, 4), (2, 32)])
def test_only_the_right_key_cancels(served, minor, length):
    with served.socket() as client:
        told = log_in(client, minor)[b"K"]
        (session_id,), key = struct.unpack_from("!i", told), told[4:]
        assert len(key) == length
        client.sendall(wire.message(b"Q", b"wait 30\0"))
        assert served.answers.running.wait(5)
        for wrong in (b"\0" * length, key[:-1] + bytes([key[-1] ^ 1]), key[:-1], key + b"\0"):
            cancel_by(served, session_id, wrong)
        cancel_by(served, session_id ^ 1, key)
        assert "cancel" not in served.answers.names()
        cancel_by(served, session_id, key)
        assert b"C57014\0" in dict(read_messages(client, b"Z"))[b"E"]


def test_a_client_that_goes_away_in_mid_query(served):
    with served.connect() as connection:
        connection.pgconn.send_query(b"wait 30")
        assert served.answers.running.wait(5)
    eventually(lambda: "disconnected" in served.answers.names())
    assert served.answers.names() == ["connected", "cancel", "cancelled", "disconnected"]


def test_a_query_that_ignores_its_cancellation_ends_before_its_session(served):
    with served.connect() as connection:
        connection.pgconn.send_query(b"stubborn 30")
        assert served.answers.running.wait(5)
    eventually(lambda: "disconnected" in served.answers.names())
    assert served.answers.names() == ["connected", "cancel", "cancelled", "disconnected"]


def test_terminate_in_mid_query_cancels(served):
    with served.socket() as client:
        log_in(client)
        client.sendall(wire.message(b"Q", b"wait 30\0"))
        assert served.answers.running.wait(5)
        client.sendall(wire.message(b"X"))
        assert read_all(client) == b""
        eventually(lambda: "disconnected" in served.answers.names())
    assert "cancelled" in served.answers.names()
