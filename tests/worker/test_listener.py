"""The listener with real clients: libpq by psycopg and dblink, and sockets that keep to no rule."""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import re
import select
import shutil
import socket
import struct
import tempfile
import threading
import time
from pathlib import Path

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import pq

from dbml import errors
from dbml.worker import wire
from dbml.worker.listener import Listener

PASSWORD = "it's s3cret"
ML001 = {
    "message": "division by zero\nin two lines",
    "detail": {"type": "ZeroDivisionError", "line": 3},
    "hint": "select 1",
    "context": "script line 3, in <module>: x = 1/0",
}


class Answers:
    """A handler with an answer to each verb, that notes what it is told."""

    def __init__(self):
        self.events = []
        self.running = threading.Event()

    def connected(self, session):
        session.state = None
        self.events.append(("connected", session.id))
        if session.application_name == "unwanted":
            raise RuntimeError("unwanted")

    async def query(self, session, text):
        verb, _, rest = text.partition(b" ")
        match verb:
            case b"echo":
                return [("echo", None, rest)]
            case b"size":
                return [("size", str(len(rest)), None)]
            case b"give":
                return [("give", None, "ä" * int(rest))]
            case b"rows":
                return [(str(i), None, b"x") for i in range(int(rest))]
            case b"fail":
                message, *_ = ML001.values()
                raise errors.ScriptError(message, **{k: v for k, v in ML001.items() if k != "message"})
            case b"crash":
                raise RuntimeError("nobody's business")
            case b"nul":
                return [("nul", None, "a\0b")]
            case b"about":
                return [
                    (
                        session.user,
                        session.database,
                        f"{session.application_name} {session.peer} {session.codec.name}",
                    )
                ]
            case b"wait" | b"stubborn":
                session.state = asyncio.current_task()
                self.running.set()
                try:
                    await asyncio.sleep(float(rest))
                except asyncio.CancelledError:
                    self.events.append(("cancelled", session.id))
                    if verb == b"stubborn":
                        return [("went on", None, None)]
                    raise
                finally:
                    session.state = None
                return [("waited", None, None)]
        return [("text", None, text)]

    def cancel(self, session):
        self.events.append(("cancel", session.id))
        if session.state is not None:
            session.state.cancel()

    def disconnected(self, session):
        self.events.append(("disconnected", session.id))

    def names(self):
        return [name for name, _ in self.events]


class Served:
    """A listener in a thread of its own."""

    def __init__(self, **options):
        self.answers = Answers()
        self._begun = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(options)), daemon=True)
        self._thread.start()
        self._begun.wait(10)
        self.host, self.port = self.address

    async def _serve(self, options):
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        self.listener = Listener(self.answers, password=PASSWORD, **options)
        self.address = await self.listener.start()
        self._begun.set()
        await self._end.wait()
        await self.listener.stop()

    def begin_stop(self):
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._end.set)

    def stop(self):
        self.begin_stop()
        self._thread.join(20)
        assert not self._thread.is_alive()

    @property
    def counts(self):
        return self.listener.counts

    def conninfo(self, **options):
        given = {
            "host": self.host,
            "port": self.port,
            "user": "dbml",
            "password": PASSWORD,
            "dbname": "dbml",
            **options,
        }
        return psycopg.conninfo.make_conninfo(**given)

    def connect(self, **options):
        return contextlib.closing(psycopg.connect(self.conninfo(**options), autocommit=True))

    def socket(self):
        if self.host.startswith("/"):
            made = socket.socket(socket.AF_UNIX)
            made.connect(f"{self.host}/.s.PGSQL.{self.port}")
        else:
            made = socket.create_connection((self.host, self.port))
        made.settimeout(10)
        return made


def eventually(condition, timeout_s=5):
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.005)


def cells(result):
    """Return a result's cells; raises its error."""
    if result.status == pq.ExecStatus.FATAL_ERROR:
        raise psycopg.errors.error_from_result(result)
    return [tuple(result.get_value(i, j) for j in range(result.nfields)) for i in range(result.ntuples)]


def execute(connection, text):
    return cells(connection.pgconn.exec_(text.encode() if isinstance(text, str) else text))


def answer(connection):
    """Wait for the answer to what was sent; returns its cells, raises its error."""
    pgconn, results = connection.pgconn, []
    while True:
        while pgconn.is_busy():  # get_result would wait with the GIL held, and the listener is a thread
            assert select.select([pgconn.socket], [], [], 20)[0]
            pgconn.consume_input()
        if (result := pgconn.get_result()) is None:
            return cells(results[0])
        results.append(result)


@pytest.fixture
def served():
    made = Served(host="127.0.0.1")
    yield made
    made.stop()
    counts = made.counts
    assert (counts.connections, counts.unauthenticated, counts.running) == (0, 0, 0)
    assert made.answers.names().count("connected") == made.answers.names().count("disconnected")


@pytest.fixture
def directory():
    """A directory that a server's account can search, with a short path."""
    made = Path(tempfile.mkdtemp(prefix="dbml-listen-"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made)


# -- libpq


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


def test_a_handler_that_does_not_take_a_client(served, caplog):
    with (
        pytest.raises(psycopg.OperationalError, match="failed unexpectedly"),
        served.connect(application_name="unwanted"),
    ):
        pass
    served.answers.events.clear()


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


def test_wrong_passwords_and_users(served):
    for wrong in ({"password": "x"}, {"user": "postgres"}):
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(served.conninfo(**wrong))
    with pytest.raises(psycopg.OperationalError, match="client_encoding"):
        psycopg.connect(served.conninfo(client_encoding="EUC_TW"))
    assert served.answers.events == []


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


# -- limits and ends


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


def test_after_the_login_messages_have_a_limit():
    served = Served(host="127.0.0.1", max_message=100_000)
    with served.connect() as connection:
        assert execute(connection, b"size " + b"x" * 90_000)
        with pytest.raises(psycopg.DatabaseError, match="closed the connection"):
            execute(connection, b"size " + b"x" * 30_000_000)
        assert "4 to 100000 bytes, got 30000010" in connection.pgconn.get_error_message()
    eventually(lambda: served.counts.connections == 0)
    served.stop()


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


def test_a_listener_shows_no_password():
    assert "s3cret" not in repr(Listener(Answers(), password="s3cret", host="127.0.0.1"))


# -- clients that keep to no rule


def read_all(client):
    """Read to the end of file, which must come."""
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := client.recv(65536):
            found += piece
    return found


def read_messages(client, last):
    """Read messages up to one of type `last`."""
    found, buffer = [], b""
    while not found or found[-1][0] != last:
        while len(buffer) < 5 or len(buffer) < 1 + struct.unpack_from("!i", buffer, 1)[0]:
            piece = client.recv(65536)
            assert piece, (found, buffer)
            buffer += piece
        end = 1 + struct.unpack_from("!i", buffer, 1)[0]
        found.append((buffer[:1], buffer[5:end]))
        buffer = buffer[end:]
    return found


def log_in(client, minor=0, password=PASSWORD):
    """Log in without libpq; returns the server's messages after the proof."""
    content = struct.pack("!i", 3 << 16 | minor) + b"user\0dbml\0\0"
    client.sendall(struct.pack("!i", 4 + len(content)) + content)
    read_messages(client, b"R")
    client.sendall(wire.message(b"p", b"SCRAM-SHA-256\0\0\0\0\x0bn,,n=,r=abc"))
    ((_, first),) = read_messages(client, b"R")
    nonce, salt, _ = first[4:].split(b",")
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(salt[2:]), 4096)
    key = hmac.digest(salted, b"Client Key", "sha256")
    unproven = b"c=biws," + nonce
    said = b"n=,r=abc," + first[4:] + b"," + unproven
    signature = hmac.digest(hashlib.sha256(key).digest(), said, "sha256")
    proof = base64.b64encode(bytes(a ^ b for a, b in zip(key, signature, strict=True)))
    client.sendall(wire.message(b"p", unproven + b",p=" + proof))
    return dict(read_messages(client, b"Z"))


def cancel_by(served, session_id, key):
    content = struct.pack("!ii", 80877102, session_id) + key
    with served.socket() as client:
        client.sendall(struct.pack("!i", 4 + len(content)) + content)
        assert read_all(client) == b""


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


def test_queries_sent_ahead_are_answered_in_order(served):
    with served.socket() as client:
        log_in(client)
        client.sendall(b"".join(wire.message(b"Q", b"echo %d\0" % i) for i in range(500)))
        got = b""
        while got.count(wire.READY) < 500:
            got += client.recv(65536)
        answers = re.findall(rb"echo\xff{4}\0\0\0.(\d+)", got, re.DOTALL)
        assert answers == [b"%d" % i for i in range(500)]


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


def test_terminate_in_mid_query_cancels(served):
    with served.socket() as client:
        log_in(client)
        client.sendall(wire.message(b"Q", b"wait 30\0"))
        assert served.answers.running.wait(5)
        client.sendall(wire.message(b"X"))
        assert read_all(client) == b""
        eventually(lambda: "disconnected" in served.answers.names())
    assert "cancelled" in served.answers.names()


@pytest.mark.parametrize("message", [b"\x16\x03\x01\x02\x00", wire.message(b"Q", b"no end"), wire.message(b"p", b"again")])
def test_nonsense_after_the_login_ends_the_connection(served, message):
    with served.socket() as client:
        log_in(client)
        client.sendall(message)
        assert b"SFATAL\0VFATAL\0C08P01" in read_all(client)


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


# -- dblink, in real servers

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
