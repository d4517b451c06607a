"""Queries and their answers: errors, sizes, encodings, and what clients send of their own accord."""

import re

import psycopg
import pytest

from dbml import errors
from dbml.worker import wire

from .listening import ML001, Served, execute, log_in


def test_a_query_and_its_answer(served):
    with served.connect() as connection:
        assert execute(connection, "echo hällo") == [(b"echo", None, "hällo".encode())]
        assert execute(connection, "rows 3") == [(b"0", None, b"x"), (b"1", None, b"x"), (b"2", None, b"x")]
        assert execute(connection, "rows 0") == []
        assert connection.info.server_version == 160000
        assert served.counts.connections == 1
    assert served.counts.queries_total == 3


def test_what_the_handler_learns_of_a_client(served, directory):
    with served.connect(application_name="me ä", dbname="here", client_encoding="LATIN1") as connection:
        user, database, rest = execute(connection, "about")[0]
    assert (user, database) == (b"dbml", b"here")
    assert rest.decode("latin1").startswith("me ä 127.0.0.1:")
    assert rest.endswith(b" LATIN1")
    other = Served(directory=str(directory), port=7)
    with other.connect() as connection:
        assert b"process " in execute(connection, "about")[0][2]
    other.stop()


def test_errors_of_dbml_arrive_as_themselves(served):
    with served.connect() as connection, psycopg.ClientCursor(connection) as cursor:
        with pytest.raises(errors.ScriptError) as caught:
            cursor.execute("fail")
        said = caught.value
        assert {name: getattr(said, name) for name in ML001} == ML001
        assert said.sqlstate == "ML001"
        assert said.diag.severity == "ERROR"
        assert execute(connection, "echo on")


def test_other_errors_are_logged_and_not_shown(served, caplog):
    with served.connect() as connection:
        with pytest.raises(psycopg.errors.InternalError_, match="failed unexpectedly"):
            execute(connection, "crash")
        with pytest.raises(psycopg.errors.CharacterNotInRepertoire):
            execute(connection, "nul")
        assert execute(connection, "echo on")
    assert "nobody's business" in caplog.text


@pytest.mark.parametrize("text", ["", ";", "select 1", "SET datestyle = ISO", "begin", "commit;", "discard all", "reset x"])
def test_what_clients_send_of_their_own_accord_is_not_the_handlers_business(served, text):
    with served.connect() as connection:
        assert execute(connection, text) == ([(b"1",)] if text == "select 1" else [])
    assert served.counts.queries_total == 0


def test_extended_queries_are_refused_and_the_connection_lives(served):
    with served.connect() as connection:
        for _ in range(2):
            with pytest.raises(psycopg.errors.FeatureNotSupported):
                connection.execute("select %s", ["x"])
        with pytest.raises(psycopg.errors.FeatureNotSupported), connection.pipeline():
            connection.execute("select 1").fetchall()
        assert execute(connection, "echo on")


@pytest.mark.parametrize("size", [0, 1, 300, 70_000, 3_000_000])
def test_sizes(served, directory, size):
    other = Served(directory=str(directory), port=5432)
    for one in (served, other):
        with one.connect() as connection:
            assert execute(connection, b"size " + b"x" * size) == [(b"size", str(size).encode(), None)]
            assert execute(connection, f"give {size}") == [(b"give", None, "ä".encode() * size)]
    other.stop()


def test_client_encodings(served):
    with served.connect() as connection:
        execute(connection, "set client_encoding to 'LATIN1'")
        assert connection.pgconn.parameter_status(b"client_encoding") == b"LATIN1"
        assert execute(connection, b"size \xe4") == [(b"size", b"2", None)]
        assert execute(connection, "give 1") == [(b"give", None, b"\xe4")]
        execute(connection, "SET client_encoding = win1251;")
        with pytest.raises(psycopg.errors.UntranslatableCharacter):
            execute(connection, "give 1")
        execute(connection, "set names 'utf-8'")
        assert connection.pgconn.parameter_status(b"client_encoding") == b"UTF8"
        with pytest.raises(psycopg.errors.CharacterNotInRepertoire):
            execute(connection, b"echo \xe4")


def test_a_refused_encoding_leaves_ascii(served):
    with served.connect() as connection:
        with pytest.raises(psycopg.errors.InvalidParameterValue):
            execute(connection, "set client_encoding to 'MULE_INTERNAL'")
        assert execute(connection, "echo x") == [(b"echo", None, b"x")]
        with pytest.raises(psycopg.errors.CharacterNotInRepertoire):
            execute(connection, "echo ä")
        with pytest.raises(psycopg.errors.UntranslatableCharacter):
            execute(connection, "give 1")


def test_queries_sent_ahead_are_answered_in_order(served):
    with served.socket() as client:
        log_in(client)
        client.sendall(b"".join(wire.message(b"Q", b"echo %d\0" % i) for i in range(500)))
        got = b""
        while got.count(wire.READY) < 500:
            got += client.recv(65536)
        answers = re.findall(rb"echo\xff{4}\0\0\0.(\d+)", got, re.DOTALL)
        assert answers == [b"%d" % i for i in range(500)]
