"""Limits after the login: connections, messages, what is sent ahead and what is not read."""

import contextlib
import struct
import time

import psycopg
import pytest

from dbml.worker import wire

from .listening import Served, eventually, execute, log_in, read_all, read_messages


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


@contextlib.contextmanager
def crowded(limit_mb):
    """A listener whose long messages may have so much together, and nothing reserved at its end."""
    served = Served(host="127.0.0.1", max_messages=limit_mb << 20)
    yield served
    eventually(lambda: served.counts.connections == 0)
    assert served.counts.reserved == 0
    served.stop()


def begin_message(client, size):
    """Send the head of a query and a little of it."""
    client.sendall(b"Q" + struct.pack("!i", 4 + size) + b"size ")


def test_long_messages_of_all_connections_have_a_limit_together():
    with crowded(10) as served, served.connect() as other:
        with served.socket() as one, served.socket() as two:
            for client in (one, two):
                log_in(client)
                begin_message(client, 4 << 20)
            eventually(lambda: served.counts.reserved > 8 << 20)
            with pytest.raises(
                psycopg.errors.OutOfMemory, match=r"of 4.0 MB now: .* may have 10 MB together, and 8 MB are taken"
            ):
                execute(other, b"size " + b"x" * (4 << 20))
            # Shorter ones need no room, the session goes on, and a long one that fits is taken.
            assert execute(other, b"size " + b"x" * 900_000) == [(b"size", b"900000", None)]
            assert execute(other, b"size " + b"x" * (1 << 20)) == [(b"size", b"1048576", None)]
            one.sendall(b"x" * ((4 << 20) - 6) + b"\0")
            assert dict(read_messages(one, b"Z"))[b"C"] == b"SELECT 1\0"
        # A client that goes away in the midst of its message leaves its room.
        eventually(lambda: served.counts.reserved == 0)
        assert execute(other, b"size " + b"x" * (9 << 20)) == [(b"size", b"9437184", None)]
        assert served.counts.no_room_total == 1


def test_a_message_keeps_its_room_while_the_handler_needs_it():
    with crowded(10) as served, served.connect() as one, served.connect() as two:
        assert execute(one, b"hold " + b"x" * (6 << 20)) == [(b"held", None, None)]
        for _ in range(2):  # what it sends in the meantime takes and gives its own
            assert execute(one, b"hold " + b"x" * (3 << 20))
        with pytest.raises(psycopg.errors.OutOfMemory):
            execute(two, b"size " + b"x" * (6 << 20))
        assert execute(one, "release")
        assert execute(two, b"size " + b"x" * (6 << 20))
        assert execute(one, b"hold " + b"x" * (6 << 20))


def test_what_is_no_query_or_has_no_room_is_answered_in_its_order():
    with crowded(2) as served, served.socket() as client:
        log_in(client)
        client.sendall(
            wire.message(b"Q", b"size " + b"x" * (3 << 20) + b"\0")
            + wire.message(b"Q", b"echo y\0")
            + wire.message(b"P", b"\0" * (3 << 20))
            + wire.message(b"Q", b"size " + b"x" * (3 << 20) + b"\0")  # before Sync, not even refused
            + wire.message(b"S")
            + wire.message(b"X")
        )
        said, kinds = read_all(client), []
        while said:
            kinds.append(said[:1])
            said = said[1 + struct.unpack_from("!i", said, 1)[0] :]
        assert kinds == [b"E", b"Z", b"T", b"D", b"C", b"Z", b"E", b"Z"]


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
