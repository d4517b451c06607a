"""Where a listener listens, and how it ends."""

import asyncio
import socket

import psycopg
import pytest

from dbml.worker.listener import Listener

from .listening import (
    Answers,
    Served,
    answer,
    execute,
    read_all,
)


def test_an_address_that_is_taken(directory):
    one = Served(directory=str(directory), port=1)
    again = Listener(Answers(), password="x", directory=str(directory), port=1)
    with pytest.raises(OSError, match="another process listens"):
        asyncio.run(again.start())
    with one.connect() as connection:
        assert execute(connection, "echo x")
    one.stop()
    (directory / ".s.PGSQL.1").write_text("")
    with pytest.raises(OSError, match="no socket"):
        asyncio.run(again.start())


def test_a_socket_left_by_a_dead_worker_is_replaced(directory):
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(directory / ".s.PGSQL.1"))
    served = Served(directory=str(directory), port=1)
    with served.connect() as connection:
        assert execute(connection, "echo x")
    served.stop()


def test_a_directory_whose_name_is_too_long(directory):
    deep = directory / ("x" * 120)
    deep.mkdir()
    with pytest.raises(OSError, match="cannot listen at a Unix socket"):
        asyncio.run(Listener(Answers(), password="x", directory=str(deep), port=1).start())


@pytest.mark.parametrize("where", [{}, {"host": "127.0.0.1", "directory": "/tmp"}])
def test_a_listener_has_one_address(where):
    with pytest.raises(ValueError, match="exactly one"):
        Listener(Answers(), password="x", **where)


def test_stopping_tells_who_waits_and_ends_the_rest(directory):
    served = Served(directory=str(directory), port=5432)
    with (
        served.connect() as busy,
        served.connect() as stubborn,
        served.connect() as idle,
        served.socket() as fresh,
    ):
        for connection, text in ((busy, b"wait 30"), (stubborn, b"stubborn 30")):
            served.answers.running.clear()
            connection.pgconn.send_query(text)
            assert served.answers.running.wait(5)
        served.stop()
        with pytest.raises(psycopg.errors.AdminShutdown, match="the worker is shutting down"):
            answer(busy)
        assert answer(stubborn) == [(b"went on", None, None)]
        with pytest.raises(psycopg.DatabaseError, match="closed the connection"):
            execute(idle, "echo x")
        assert read_all(fresh) == b""
    assert served.answers.names().count("disconnected") == 3
    assert list(directory.iterdir()) == []
