"""The listener called by real servers, through dblink."""

import contextlib
import threading

import psycopg
import pytest

from dbml import errors

from .listening import ML001, Served, eventually

CALL = "select * from dblink(%s, %s) as t(tag text, head text, body text)"


@contextlib.contextmanager
def linked(served, dsn, **options):
    """A session whose dblink connection 'c' goes to the listener."""
    with psycopg.connect(dsn, autocommit=True, client_encoding="UTF8") as session:
        session.execute("create extension if not exists dblink")
        session.execute("select dblink_connect('c', %s)", [served.conninfo(**options)])
        yield session


def test_dblink(server, empty, served, directory):
    other = Served(directory=str(directory), port=5432)
    for one in (served, other):
        with linked(one, empty) as session:
            assert session.execute(CALL, ["c", "echo hällo"]).fetchall() == [("echo", None, "hällo")]
            text = "x" * 3_000_000
            assert session.execute(CALL, ["c", f"echo {text}"]).fetchall() == [("echo", None, text)]
            with pytest.raises(errors.ScriptError) as caught:
                session.execute(CALL, ["c", "fail"])
            said = caught.value
            assert said.context.startswith(ML001["context"])
            assert {name: getattr(said, name) for name in ML001 if name != "context"} == {
                name: value for name, value in ML001.items() if name != "context"
            }
            assert session.execute(CALL, ["c", "rows 3"]).rowcount == 3
    other.stop()


def test_dblink_of_a_role_that_is_no_superuser(server, empty, served, directory):
    other = Served(directory=str(directory), port=5432)
    role = f"dbml_wire_{served.port}"
    with psycopg.connect(empty, autocommit=True) as session:
        session.execute("create extension dblink")
        session.execute(f"create role {role}")
        try:
            session.execute(f"set role {role}")
            for one in (served, other):
                session.execute("select dblink_connect('n', %s)", [one.conninfo()])
                assert session.execute(CALL, ["n", "echo x"]).fetchall() == [("echo", None, "x")]
                session.execute("select dblink_disconnect('n')")
        finally:
            session.execute("reset role")
            session.execute(f"drop role {role}")
    other.stop()


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII", "EUC_JP", "EUC_TW"])
def test_dblink_in_databases_of_other_encodings(server, served, encoding):
    name = server.create()
    server.drop(name)
    server.run(f"create database {name} template template0 encoding '{encoding}' lc_collate 'C' lc_ctype 'C'")
    call = "select length(c), ascii(c) from dblink('c', 'echo ' || chr(%s)) as t(a text, b text, c text)"
    try:
        with linked(served, server.dsn(name), client_encoding="UTF8") as session:
            assert session.execute(CALL, ["c", "echo x"]).fetchall() == [("echo", None, "x")]
            if encoding == "LATIN1":
                assert session.execute(call, [228]).fetchall() == [(1, 228)]
                assert session.execute(CALL, ["c", "size " + "ä"]).fetchall() == [("size", "2", None)]
            if encoding == "EUC_TW":
                with pytest.raises(psycopg.errors.UntranslatableCharacter):
                    session.execute(CALL, ["c", "give 1"])
    finally:
        server.drop(name)


def test_dblink_cancels(server, empty, served):
    with linked(served, empty) as session:
        session.execute("select dblink_send_query('c', 'wait 30')")
        assert served.answers.running.wait(5)
        assert session.execute("select dblink_cancel_query('c')").fetchone() == ("OK",)
        with pytest.raises(psycopg.errors.QueryCanceled):
            session.execute("select * from dblink_get_result('c') as t(tag text, head text, body text)")
        session.execute("select * from dblink_get_result('c') as t(tag text, head text, body text)")
        assert session.execute(CALL, ["c", "echo on"]).fetchall() == [("echo", None, "on")]
        assert "cancelled" in served.answers.names()
        served.answers.running.clear()
        session.execute("select dblink_send_query('c', 'wait 30')")
        assert served.answers.running.wait(5)
    eventually(lambda: served.answers.names().count("cancelled") == 2)
    eventually(lambda: "disconnected" in served.answers.names())


def test_dblink_sees_the_worker_stop(server, empty):
    served = Served(host="127.0.0.1")
    with linked(served, empty) as session:
        session.execute("select dblink_connect('idle', %s)", [served.conninfo()])
        timer = threading.Timer(0.3, served.begin_stop)
        timer.start()
        with pytest.raises(psycopg.errors.AdminShutdown, match="the worker is shutting down"):
            session.execute(CALL, ["c", "wait 30"])
        timer.join()
        served.stop()
        with pytest.raises(psycopg.errors.ConnectionFailure):
            session.execute(CALL, ["idle", "echo x"])
