"""A listener in a thread, a handler that answers each verb, and clients: libpq, and one that speaks the protocol by hand."""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import select
import socket
import struct
import threading
import time

import psycopg
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
            case b"hold" | b"release":
                session.holds = verb == b"hold"
                return [("held" if session.holds else "released", None, None)]
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
