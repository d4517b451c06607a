"""One client's connection: login, then queries, one at a time, each handed to the `Handler`.

The socket is read while a query runs, so that a client that goes away is noticed at once; what a client sends
ahead of its turn is kept up to READ_AHEAD.  A longer message is taken only while the messages of all connections
have room together; one that has none is dropped as it comes, and its query answered by 53200.
Nothing here knows what a query means.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import re
import secrets
import socket
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import dbml
from dbml.errors import DbmlError
from dbml.worker import wire
from dbml.worker.login import NEWEST_MINOR, Admitted, Login
from dbml.worker.scram import ScramSecret
from dbml.worker.wire import CancelRequest, Codec, ProtocolError, Row

log = logging.getLogger("dbml.listener")

MAX_MESSAGE_UNAUTHENTICATED = 10_000
INVALID_PASSWORD = "28P01"  # noqa: S105 - an SQLSTATE
LINGER_S = 5.0
READ_AHEAD = 1 << 20  # bytes taken from a client whose turn it is not, and the longest message that needs no room of its own
NO_ROOM = "53200"  # out_of_memory

_TOLD = {
    "server_version": f"16.0 (dbml {dbml.__version__})",
    "server_encoding": "UTF8",
    "client_encoding": "UTF8",
    "standard_conforming_strings": "on",
    "integer_datetimes": "on",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "iso_8601",
    "TimeZone": "UTC",
    "is_superuser": "off",
}
# A peer that is gone without a word is noticed within two minutes.
_TCP_OPTIONS = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 6),
)
_SET_ENCODING = re.compile(
    rb"\s*set\s+(?:(?:session\s+|local\s+)?client_encoding\s*(?:=|\sto\s)|names\s)"
    rb"\s*['\"]?([^'\";]*?)['\"]?[\s;]*",
    re.IGNORECASE,
)
_ONE = (
    wire.row_description(["?column?"], type_oid=23) + wire.message(b"D", b"\0\1\0\0\0\0011") + wire.command_complete("SELECT 1")
)
_PLAIN = {
    b"begin": "BEGIN",
    b"commit": "COMMIT",
    b"rollback": "ROLLBACK",
    b"reset": "RESET",
    b"discard": "DISCARD ALL",
}
_SHUTDOWN = {
    "sqlstate": "57P01",
    "message": "the worker is shutting down",
    "hint": "repeat the statement when the worker is back",
}
_INTERNAL = {
    "sqlstate": "XX000",
    "message": "the worker failed unexpectedly",
    "hint": "the worker's log has the traceback",
}


@dataclass(eq=False, slots=True)
class Session:
    """One authenticated connection, as the handler sees it.

    peer: the client's address, or its process and account on a Unix socket.  state is the handler's own.
    lost: the connection has ended.  holds: set by the handler where it has answered a query and goes on to need its text.
    """

    id: int
    user: str
    database: str
    application_name: str
    peer: str
    codec: Codec
    state: Any = None
    lost: bool = False
    holds: bool = False


class Handler(Protocol):
    """What answers queries.  All methods are called in the event loop; one query at a time a session."""

    def connected(self, session: Session) -> None:
        """Take a new session; called once, before anything else of it."""

    async def query(self, session: Session, text: bytes) -> Sequence[Row]:
        """Answer a query, UTF-8 without NUL, by rows of tag, head and body; runs in a task of its own.

        Cells given as bytes are UTF-8.  A DbmlError is told to the client as it is; any other exception is
        logged and told as XX000 without its text; asyncio.CancelledError is told as 57014.
        """

    def cancel(self, session: Session) -> None:
        """Make the running query end soon: its client cancelled or is gone, or the listener stops."""

    def disconnected(self, session: Session) -> None:
        """Let a session go; called once, after its last query has ended."""


@dataclass(slots=True)
class Counts:
    """What a listener has to do and has done; connections are the authenticated ones.

    reserved: bytes of the messages above READ_AHEAD that come or are worked on.  no_room_total: those that had no room.
    """

    connections: int = 0
    unauthenticated: int = 0
    running: int = 0
    reserved: int = 0
    no_room_total: int = 0
    accepted_total: int = 0
    refused_total: int = 0
    queries_total: int = 0


@dataclass(eq=False)
class Service:
    """What all connections of one listener share: whom they serve, within which limits, and each other."""

    handler: Handler
    secret: ScramSecret
    user: str
    max_connections: int
    max_unauthenticated: int
    max_message: int
    max_messages: int
    login_timeout_s: float
    former: ScramSecret | None = None  # of the password before, while it is taken too
    on_wrong_password: Callable[[], object] | None = None
    counts: Counts = field(default_factory=Counts)
    connections: set[Connection] = field(default_factory=set)
    sessions: dict[int, Connection] = field(default_factory=dict)
    stopping: bool = False


class Connection(asyncio.Protocol):
    """One client's connection, from the first byte to the last."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._reader = wire.MessageReader(MAX_MESSAGE_UNAUTHENTICATED)
        self._take: Callable[[int, bytes], None] = self._log_in
        self._transport = cast(asyncio.Transport, None)
        self._loop = asyncio.get_running_loop()
        self._login_timer: asyncio.TimerHandle | None = None
        self._login = Login(service.secret, service.user, service.former)
        self._key = b""
        self._session: Session | None = None
        self._task: asyncio.Task[None] | None = None
        self._reserved = 0  # for the message that comes or is answered
        self._refused_mb = 0.0  # of the last message that had no room
        self._held = 0  # for one that is answered, and that the handler goes on to need
        self._until_sync = False  # after an error of the extended protocol
        self._full = False  # the client does not read its answers
        self._paused = False  # nothing more is read
        self._over = False  # nothing more is answered
        self._lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; called by asyncio, as are the four below."""
        self._transport = cast(asyncio.Transport, transport)
        service = self._service
        service.connections.add(self)
        service.counts.accepted_total += 1
        service.counts.unauthenticated += 1
        found = cast(socket.socket, transport.get_extra_info("socket"))
        if found.family != socket.AF_UNIX:
            for level, option, value in _TCP_OPTIONS:
                found.setsockopt(level, option, value)
        if service.counts.unauthenticated > service.max_unauthenticated:
            self._refuse("53300", "too many clients are logging in")
        else:
            self._login_timer = self._loop.call_later(service.login_timeout_s, self._refuse, "08P01", "the login took too long")

    def data_received(self, data: bytes) -> None:
        """Take what has come."""
        if not self._over:
            self._reader.feed(data)
            self._advance()
        elif self._reader.discard(data) <= 0:
            self._close()

    def pause_writing(self) -> None:
        """Start nothing more until the client reads its answers."""
        self._full = True

    def resume_writing(self) -> None:
        """Go on."""
        self._full = False
        self._advance()

    def connection_lost(self, exc: Exception | None) -> None:
        """End; a query that runs for nobody is cancelled."""
        self._over = self._lost = True
        service = self._service
        if self._login_timer is not None:
            self._login_timer.cancel()
        if self._session is None:
            service.counts.unauthenticated -= 1
            service.connections.discard(self)
            return
        self._session.lost = True
        service.counts.connections -= 1
        del service.sessions[self._session.id]
        if self._task is None:
            self._release()
            self._disconnect(self._session)
        else:
            self.cancel()

    def cancel(self) -> None:
        """Tell the handler that the query that runs now, if any, is to end."""
        if self._task is not None:
            # After the task's first step, so that the handler knows of it.
            self._loop.call_soon(self._cancel, self._task)

    def shut_down(self) -> None:
        """End the session, a running query first."""
        if self._task is None:
            # Without a word: a client that finds a mere end of file may try elsewhere or later.
            self._close()
        else:
            self.cancel()

    def abort(self) -> None:
        """End the session without waiting for anyone."""
        if self._task is not None:
            self._task.cancel()
        self._transport.abort()

    def matches(self, key: bytes) -> bool:
        """Tell whether a cancel request's key is this session's, in constant time."""
        return hmac.compare_digest(self._key, key)

    def _advance(self) -> None:
        """Take messages as long as it is this client's turn."""
        try:
            while self._task is None and not self._full and not self._over:
                message = self._reader.read()
                if message is None:
                    self._reserve()
                    break
                self._take(*message)
            if self._task is not None and self._reader.peek() == wire.TERMINATE:
                self._close()
        except ProtocolError as error:
            self._refuse(error.sqlstate, error.message, error.hint)
            if error.sqlstate == INVALID_PASSWORD and self._service.on_wrong_password is not None:
                self._service.on_wrong_password()
        waiting = self._task is not None or self._full
        if not self._over and self._paused != (waiting and len(self._reader) > READ_AHEAD):
            self._paused = not self._paused
            if self._paused:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def _reserve(self) -> None:
        """Find room for a long message that has begun, or drop it."""
        size = self._reader.begun()
        if size <= READ_AHEAD or self._reserved:
            return
        counts = self._service.counts
        if counts.reserved + size > self._service.max_messages:
            counts.no_room_total += 1
            self._refused_mb = size / (1 << 20)
            log.warning("a message of %d bytes from %s has no room", size, _peer(self._transport))
            self._reader.skip()
        else:
            self._reserved = size
            counts.reserved += size

    def _release(self) -> None:
        """Give the room of messages back, but of what the handler still needs."""
        counts, session = self._service.counts, self._session
        if session is not None and session.holds and not session.lost:
            if not self._held:
                self._held, self._reserved = self._reserved, 0
        else:
            counts.reserved -= self._held
            self._held = 0
        counts.reserved -= self._reserved
        self._reserved = 0

    def _log_in(self, kind: int, content: bytes) -> None:
        """Take a message of the login; at its end the session begins."""
        said = self._login.take(kind, content)
        self._reader.startup = self._login.expects_startup
        if isinstance(said, bytes):
            self._transport.write(said)
        elif isinstance(said, CancelRequest):
            target = self._service.sessions.get(said.session_id, self)
            if target.matches(said.key):
                target.cancel()
            self._close()
        else:
            self._begin_session(said)

    def _begin_session(self, client: Admitted) -> None:
        service, options = self._service, client.parameters
        if len(service.sessions) >= service.max_connections:
            raise ProtocolError(
                "53300",
                f"the worker has its {service.max_connections} connections already",
                "close sessions, or start the worker with a larger --max-connections",
            )
        number = 0
        while number == 0 or number in service.sessions:
            number = secrets.randbits(31)
        self._key = secrets.token_bytes(32 if client.minor >= NEWEST_MINOR else 4)
        session = Session(
            id=number,
            user=options["user"],
            database=options.get("database") or options["user"],
            application_name=options.get("application_name", ""),
            peer=_peer(self._transport),
            codec=client.codec,
        )
        try:
            service.handler.connected(session)
        except Exception:
            log.exception("the handler did not take a connection")
            raise ProtocolError("XX000", _INTERNAL["message"], _INTERNAL["hint"]) from None
        self._session = session
        service.sessions[number] = self
        service.counts.unauthenticated -= 1
        service.counts.connections += 1
        if self._login_timer is not None:
            self._login_timer.cancel()
            self._login_timer = None
        self._reader.limit = service.max_message
        self._take = self._serve
        told = {
            **_TOLD,
            "client_encoding": session.codec.name,
            "application_name": session.application_name,
            "session_authorization": session.user,
        }
        states = b"".join(wire.parameter_status(name, value) for name, value in told.items())
        self._transport.write(client.answer + states + wire.backend_key(number, self._key) + wire.READY)

    def _serve(self, kind: int, content: bytes) -> None:
        session = cast(Session, self._session)
        if kind == wire.QUERY and not self._until_sync:
            if self._reader.skipped:
                self._transport.write(self._no_room(session.codec) + wire.READY)
            elif len(content) < 256 and (known := self._answer_known(content, session)) is not None:
                self._transport.write(known + wire.READY)
            else:
                self._service.counts.running += 1
                self._service.counts.queries_total += 1
                self._task = self._loop.create_task(self._run(session, content))
        elif kind == wire.TERMINATE:
            self._close()
        elif kind == wire.SYNC:
            self._until_sync = False
            self._transport.write(wire.READY)
        elif kind == wire.FUNCTION_CALL and not self._until_sync:
            self._transport.write(_refused("function calls", session.codec) + wire.READY)
        elif kind in wire.EXTENDED and not self._until_sync:
            self._until_sync = True
            self._transport.write(_refused("the extended query protocol", session.codec))
        elif kind == wire.PASSWORD:
            raise ProtocolError("08P01", f"invalid frontend message type {kind}")
        if self._task is None:
            self._release()

    def _no_room(self, codec: Codec) -> bytes:
        service = self._service
        fields = {
            "sqlstate": NO_ROOM,
            "message": f"the worker has no room for a message of {self._refused_mb:.1f} MB now: those of all connections may have"
            f" {service.max_messages >> 20} MB together, and {service.counts.reserved >> 20} MB are taken",
            "hint": "repeat the statement later, or start the worker with more: dbml worker --messages-mb N",
        }
        return wire.error_response(fields, codec)

    def _answer_known(self, text: bytes, session: Session) -> bytes | None:
        """Answer what clients send of their own accord, settings and health checks; None for the rest."""
        words = text.rstrip(b"; \t\r\n").lower().split(None, 1)
        if not words:
            return wire.EMPTY_QUERY
        if words[0] == b"set":
            return self._set(text, session)
        if words == [b"select", b"1"]:
            return _ONE
        tag = _PLAIN.get(words[0])
        return None if tag is None else wire.command_complete(tag)

    def _set(self, text: bytes, session: Session) -> bytes:
        match = _SET_ENCODING.fullmatch(text)
        if match is None:
            return wire.command_complete("SET")
        try:
            name = match[1].decode("utf-8", "replace")
            session.codec = wire.UTF8 if name.lower() == "default" else wire.find_codec(name)
        except ProtocolError as error:
            # dblink does not look at this answer and goes on in its database's encoding: only ASCII is safe.
            session.codec = wire.only_ascii(name)
            return wire.error_response(error.fields(), session.codec)
        return wire.command_complete("SET") + wire.parameter_status("client_encoding", session.codec.name)

    async def _run(self, session: Session, text: bytes) -> None:
        codec = session.codec
        failed: Mapping[str, str | None] | None = None
        reply = b""
        try:
            text = codec.decode(text)
            reply = wire.rows_reply(await self._service.handler.query(session, text), codec)
        except (DbmlError, ProtocolError) as error:
            failed = error.fields()
        except asyncio.CancelledError:
            failed = {"sqlstate": "57014", "message": "the query was cancelled"}
        except Exception:
            log.exception("a query of session %d failed unexpectedly", session.id)
            failed = _INTERNAL
        self._task = None
        self._service.counts.running -= 1
        self._release()
        if self._lost:
            self._disconnect(session)
            return
        if failed is not None:
            reply = wire.error_response(_SHUTDOWN if self._service.stopping else failed, codec) + wire.READY
        self._transport.write(reply)
        if self._service.stopping:
            self._close()
        else:
            self._advance()

    def _cancel(self, task: asyncio.Task[None]) -> None:
        if self._task is not task or self._session is None:
            return
        try:
            self._service.handler.cancel(self._session)
        except Exception:
            log.exception("the cancellation of session %d failed unexpectedly", self._session.id)

    def _disconnect(self, session: Session) -> None:
        self._service.connections.discard(self)
        try:
            self._service.handler.disconnected(session)
        except Exception:
            log.exception("the end of session %d failed unexpectedly", session.id)

    def _refuse(self, sqlstate: str, message: str, hint: str | None = None) -> None:
        """Tell a client why this is the end, and end it."""
        self._service.counts.refused_total += 1
        log.warning("a client at %s was refused: %r", _peer(self._transport), message)
        fields = {"sqlstate": sqlstate, "message": message, "hint": hint}
        codec = self._login.codec if self._session is None else self._session.codec
        self._transport.write(wire.error_response(fields, codec, "FATAL"))
        if self._session is None or self._reader.owed <= 0:
            self._close()
        else:
            # A client in the midst of a message that is too long hears of it only after it has sent the rest.
            self._over = True
            self._loop.call_later(LINGER_S, self._transport.abort)

    def _close(self) -> None:
        self._over = True
        self._transport.close()


def _refused(what: str, codec: Codec) -> bytes:
    return wire.error_response(
        {
            "sqlstate": "0A000",
            "message": f"the worker does not speak {what}",
            "hint": "send the text as a simple query",
        },
        codec,
    )


def _peer(transport: asyncio.Transport) -> str:
    found = cast(socket.socket, transport.get_extra_info("socket"))
    if found.family == socket.AF_UNIX:
        process, account, _ = struct.unpack("3i", found.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return f"process {process} of account {account}"
    name = transport.get_extra_info("peername")
    return "an unknown address" if name is None else f"{name[0]}:{name[1]}"
