"""Who gets in, and what somebody who is not in yet may cost: messages, connections and time."""

import contextlib
import struct
import time

import psycopg
import pytest

from dbml.worker.listener import Listener

from .listening import Answers, Served, eventually, execute, read_all


def test_wrong_passwords_and_users(served):
    for wrong in ({"password": "x"}, {"user": "postgres"}):
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(served.conninfo(**wrong))
    with pytest.raises(psycopg.OperationalError, match="client_encoding"):
        psycopg.connect(served.conninfo(client_encoding="EUC_TW"))
    assert served.answers.events == []


def test_a_handler_that_does_not_take_a_client(served, caplog):
    with (
        pytest.raises(psycopg.OperationalError, match="failed unexpectedly"),
        served.connect(application_name="unwanted"),
    ):
        pass
    served.answers.events.clear()


def test_a_listener_shows_no_password():
    assert "s3cret" not in repr(Listener(Answers(), password="s3cret", host="127.0.0.1"))


def test_logins_have_a_limit_and_a_time():
    served = Served(host="127.0.0.1", max_unauthenticated=3, login_timeout_s=0.5)
    begun = time.monotonic()
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(served.socket()) for _ in range(3)]
        eventually(lambda: served.counts.unauthenticated == 3)
        with served.socket() as fourth:
            assert b"53300" in read_all(fourth)
        assert all(b"the login took too long" in read_all(one) for one in idle)
    assert 0.4 < time.monotonic() - begun < 3
    eventually(lambda: served.counts.unauthenticated == 0)
    with served.connect() as connection:
        assert execute(connection, "echo x")
    served.stop()


@pytest.mark.parametrize("length", [10_001, 2**31 - 1, -1, 0])
def test_before_the_login_messages_are_small(served, length):
    with served.socket() as client:
        client.sendall(struct.pack("!i", length))
        assert b"FATAL" in read_all(client)
