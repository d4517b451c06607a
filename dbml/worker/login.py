"""The login: from a connection's first message to an authenticated client, without a socket.

    SSLRequest, GSSENCRequest (refused, each once) ── CancelRequest
      └ startup (protocol 3.0 or 3.2) ── SASL, SCRAM-SHA-256: two messages ── Admitted

Every step that the client gets wrong is a `ProtocolError`, and the end of the connection.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dbml.worker import wire
from dbml.worker.scram import MECHANISM, ScramError, ScramExchange, ScramSecret
from dbml.worker.wire import CancelRequest, Codec, EncryptionRequest, ProtocolError, Startup

NEWEST_MINOR = 2  # of protocol 3: cancel keys of 32 bytes


@dataclass(frozen=True, slots=True)
class Admitted:
    """The end of a login: what to answer, and who came with which parameters."""

    answer: bytes
    parameters: Mapping[str, str]
    codec: Codec
    minor: int


class Login:
    """One client's login; `take` its messages until it is Admitted or a CancelRequest.

    expects_startup: the next message has no type byte.  former: of a password that is taken too.
    """

    def __init__(self, secret: ScramSecret, user: str, former: ScramSecret | None = None) -> None:
        self.expects_startup = True
        self.codec = wire.UTF8
        self._user = user
        self._exchange = ScramExchange(secret, former=former)
        self._startup = Startup(0, {})
        self._refused: set[str] = set()
        self._step: Callable[[bytes], bytes | Admitted] = self._begin_sasl

    def take(self, kind: int, content: bytes) -> bytes | CancelRequest | Admitted:
        """Take a message; returns what to answer, or how the login ended.

        Raises: ProtocolError with 28P01 where user or password are wrong, with others where the message is.
        """
        if self.expects_startup:
            return self._start(wire.parse_startup(content))
        if kind != wire.PASSWORD:
            raise ProtocolError("08P01", f"expected SASL response, got message type {kind}")
        try:
            return self._step(content)
        except ScramError as error:
            raise ProtocolError("08P01", str(error)) from None

    def _start(self, asked: Startup | CancelRequest | EncryptionRequest) -> bytes | CancelRequest:
        if isinstance(asked, CancelRequest):
            return asked
        if isinstance(asked, EncryptionRequest):
            if asked.method in self._refused:
                raise ProtocolError("08P01", f"{asked.method} was asked for and refused already")
            self._refused.add(asked.method)
            return wire.NO_ENCRYPTION
        options = asked.parameters
        if not options.get("user"):
            raise ProtocolError("28000", "no PostgreSQL user name specified in startup packet")
        if options.get("replication", "false").lower() not in ("false", "off", "no", "0"):
            raise ProtocolError("0A000", "the worker does not speak the replication protocol")
        self.codec = wire.find_codec(options.get("client_encoding", "UTF8"))
        self._startup = Startup(NEWEST_MINOR if asked.minor >= NEWEST_MINOR else 0, options)
        self.expects_startup = False
        unknown = [name for name in options if name.startswith("_pq_.")]
        answer = b""
        if unknown or asked.minor != self._startup.minor:
            answer = wire.negotiate(self._startup.minor, unknown)
        return answer + wire.authentication(10, wire.text_fields(MECHANISM.encode(), b""))

    def _begin_sasl(self, content: bytes) -> bytes:
        mechanism, initial = wire.parse_sasl_first(content)
        if mechanism != MECHANISM:
            raise ProtocolError("08P01", "client selected an invalid SASL authentication mechanism")
        self._step = self._end_sasl
        return wire.authentication(11, self._exchange.first(initial))

    def _end_sasl(self, content: bytes) -> Admitted:
        proven = self._exchange.final(content)
        startup = self._startup
        user = startup.parameters["user"]
        known = hmac.compare_digest(user.encode(), self._user.encode())
        if proven is None or not known:  # the same answer, after the same work
            raise ProtocolError("28P01", f'password authentication failed for user "{user[:63]}"')
        answer = wire.authentication(12, proven) + wire.authentication(0)
        return Admitted(answer, startup.parameters, self.codec, startup.minor)
