"""Limits after the login: connections, messages, what is sent ahead and what is not read."""

import contextlib
import time

import psycopg
import pytest

from dbml.worker import wire

from .listening import Served, eventually, execute, log_in


def test_connections_have_a_limit():
    served = Served(host="127.0.0.1", max_connections=2)
    with served.connect(), served.connect() as second:
        with pytest.raises(psycopg.OperationalError, match="2 connections already"):
            psycopg.connect(served.conninfo())
        second.close()
        eventually(lambda: served.counts.connections == 1)
        with served.connect() as third:
            assert execute(third, "echo x")
    served.stop()


def test_after_the_login_messages_have_a_limit():
    served = Served(host="127.0.0.1", max_message=100_000)
    with served.connect() as connection:
        assert execute(connection, b"size " + b"x" * 90_000)
        with pytest.raises(psycopg.DatabaseError, match="closed the connection"):
            execute(connection, b"size " + b"x" * 30_000_000)
        assert "4 to 100000 bytes, got 30000010" in connection.pgconn.get_error_message()
    eventually(lambda: served.counts.connections == 0)
    served.stop()


def test_what_is_sent_ahead_is_not_all_kept(served):
    with served.socket() as client:
        log_in(client)
        client.sendall(wire.message(b"Q", b"wait 1\0"))
        client.settimeout(0.3)
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < 100 << 20:
                sent += client.send(wire.message(b"Q", b"size " + b"x" * 100_000 + b"\0"))
        assert sent < 30 << 20
    eventually(lambda: served.counts.connections == 0)


def test_a_client_that_reads_nothing_gets_nothing_more_done(served):
    with served.socket() as client:
        log_in(client)
        client.sendall(wire.message(b"Q", b"give 3000000\0") * 20)
        time.sleep(0.5)
        assert served.counts.queries_total < 5
        client.settimeout(10)
        got = 0
        while got < 20 * 6_000_000:
            got += len(client.recv(1 << 20))
    assert served.counts.queries_total == 20
