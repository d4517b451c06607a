"""The listener: an address where PostgreSQL clients find the worker.

A client is mostly dblink in a PostgreSQL backend; psql and psycopg work for a look by hand.

    listener    the address, start and stop
    connection  one client: messages in, answers out, cancellation
    login       startup and authentication, up to the session
    scram, wire the password's exchange; the format of messages

None of them knows what a query means: whoever does is the `Handler`.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from pathlib import Path
from typing import cast

from dbml.worker.connection import Connection, Counts, Handler, Service, Session
from dbml.worker.scram import ScramSecret
from dbml.worker.wire import Row

__all__ = ["Counts", "Handler", "Listener", "Row", "Session"]

MAX_MESSAGE = 80 << 20
MAX_MESSAGES = 2048 << 20
MAX_UNAUTHENTICATED = 100
LOGIN_TIMEOUT_S = 10.0
BACKLOG = 4096  # the kernel takes no more than net.core.somaxconn
STOP_TIMEOUT_S = 5.0


class Listener:
    """Listens at host and port, or at the file '.s.PGSQL.<port>' of a directory; one user, one password.

    port: 0 chooses a free one (TCP).  directory must exist; who may search it may connect, unless socket_mode
    says less.  max_connections: authenticated ones; beyond it a client gets 53300.  max_message: bytes of one message;
    max_messages: of those above READ_AHEAD of all connections together; beyond it a query gets 53200.
    on_wrong_password: called after each.
    Raises: ValueError unless exactly one of host and directory is given and the password is printable ASCII.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        password: str,
        host: str | None = None,
        port: int = 0,
        directory: str | None = None,
        user: str = "dbml",
        socket_mode: int = 0o777,
        max_connections: int = 1000,
        max_unauthenticated: int = MAX_UNAUTHENTICATED,
        max_message: int = MAX_MESSAGE,
        max_messages: int = MAX_MESSAGES,
        login_timeout_s: float = LOGIN_TIMEOUT_S,
        on_wrong_password: Callable[[], object] | None = None,
    ) -> None:
        if (host is None) == (directory is None):
            raise ValueError("exactly one of host and directory must be given")
        self._host = host
        self._port = port
        self._directory = directory
        self._socket_mode = socket_mode
        self._service = Service(
            handler=handler,
            secret=ScramSecret.derive(password),
            user=user,
            max_connections=max_connections,
            max_unauthenticated=max_unauthenticated,
            max_message=max_message,
            max_messages=max_messages,
            login_timeout_s=login_timeout_s,
            on_wrong_password=on_wrong_password,
        )
        self._server: asyncio.Server | None = None
        self._path: Path | None = None

    def change_password(self, password: str, former: str | None = None) -> None:
        """Take another password from now on; former: one that is taken too.  Sessions stay."""
        service = self._service
        service.secret = secret = ScramSecret.derive(password)
        service.former = None if former is None else ScramSecret.derive(former, salt=secret.salt)

    @property
    def counts(self) -> Counts:
        """Return what the listener does and has done, counted as it goes."""
        return self._service.counts

    async def start(self) -> tuple[str, int]:
        """Listen; returns (host, port), or (directory, port), as libpq takes them.

        Raises: OSError where the address is taken or cannot be had.
        """
        loop = asyncio.get_running_loop()
        if self._directory is not None:
            directory = Path(self._directory).absolute()
            path = directory / f".s.PGSQL.{self._port}"
            bound = _bind_unix(path, self._socket_mode)
            self._path = path
            self._server = await loop.create_unix_server(self._accept, sock=bound, backlog=BACKLOG)
            return str(directory), self._port
        host = cast(str, self._host)
        if self._port == 0:  # one address: each would choose a port of its own
            host = str((await loop.getaddrinfo(host, 0, type=socket.SOCK_STREAM))[0][4][0])
        self._server = await loop.create_server(self._accept, host, self._port, backlog=BACKLOG)
        name = self._server.sockets[0].getsockname()
        return str(name[0]), int(name[1])

    async def stop(self) -> None:
        """Stop listening and end all sessions; a running query is cancelled, and its client is told 57P01."""
        service = self._service
        service.stopping = True
        if self._server is not None:
            self._server.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        for connection in tuple(service.connections):
            connection.shut_down()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + STOP_TIMEOUT_S
        while service.connections and loop.time() < deadline:
            await asyncio.sleep(0.005)
        for connection in tuple(service.connections):
            connection.abort()
        await asyncio.sleep(0)

    def _accept(self) -> asyncio.Protocol:
        return Connection(self._service)


def _bind_unix(path: Path, mode: int) -> socket.socket:
    """Bind a Unix socket; a file that nobody listens at any more is replaced."""
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.exists():
            if not path.is_socket():
                raise OSError(errno.EADDRINUSE, "the address is taken by a file that is no socket", str(path))
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                probe.setblocking(False)
                if probe.connect_ex(str(path)) != errno.ECONNREFUSED:
                    raise OSError(errno.EADDRINUSE, "another process listens at this address", str(path))
            path.unlink()
        try:
            bound.bind(str(path))
        except OSError as error:
            reason = f"cannot listen at a Unix socket: {error.strerror or error}"
            raise OSError(error.errno or errno.EINVAL, reason, str(path)) from None
        path.chmod(mode)
        bound.setblocking(False)
    except BaseException:
        bound.close()
        raise
    return bound
