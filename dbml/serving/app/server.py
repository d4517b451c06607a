"""The server: uvicorn around the application, and an end that loses no request.

On SIGTERM it takes no new connection, answers what comes on open ones with `Connection: close`, and ends when none is
left or the time to drain is over.  A connection that is idle that long is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn

from dbml.serving.app.application import make_app
from dbml.serving.app.front import Drain, JsonLines, Keys
from dbml.serving.app.peer import PeerFile
from dbml.serving.app.scoring import Limits
from dbml.serving.app.service import Service

log = logging.getLogger("dbml.serving")


@dataclass(frozen=True)
class Settings:
    """Where a service is, where it listens, and its limits.

    max_body_mb: of a request's body; drain_s: for open connections when it ends; fd: a listening socket to use instead of
    host and port, a Unix one too; peer: the file that says where another version of the service runs; socket: a Unix socket
    that is listened at besides, for the process that shares requests out to this one.
    """

    folder: Path
    host: str = "127.0.0.1"
    port: int = 5001
    fd: int | None = None
    keys: Path | None = None
    max_body_mb: float = 100.0
    drain_s: float = 10.0
    limits: Limits = field(default_factory=Limits)
    peer: Path | None = None
    socket: Path | None = None


class _Server(uvicorn.Server):
    """A uvicorn server that drains."""

    def __init__(self, config: uvicorn.Config, drain: Drain, service: Service, drain_s: float) -> None:
        super().__init__(config)
        self._drain = drain
        self._service = service
        self._drain_s = drain_s

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Have SIGTERM and SIGINT end the server, and the process by itself after that: with exit code 0."""
        former = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more connections, let those that are open ask once more, then end."""
        self._service.ready = False
        self._drain.ending = True
        for server in self.servers:
            server.close()
        log.info("draining: %d connections are open", len(self.server_state.connections))
        loop = asyncio.get_running_loop()
        until = loop.time() + self._drain_s
        while self.server_state.connections and not self.force_exit and loop.time() < until:
            await asyncio.sleep(0.05)
        await super().shutdown(sockets)
        if self._drain.split is not None:
            await self._drain.split.drain()
        self._service.close()


def serve(
    settings: Settings, *, confinement: str | None = None, confined: bool = False, dialer: socket.socket | None = None
) -> None:  # fmt: skip
    """Load a service and answer requests until SIGTERM or SIGINT.

    confinement: what the log is to say of the process' walls, confined: whether it has any.  dialer: who connects for it.
    Raises: ServiceInvalid where its folder is not whole or its script does not load.
    """
    set_up_logging()
    if confinement is not None:
        log.log(logging.INFO if confined else logging.WARNING, "the scoring app is %s", confinement)
    service = Service(settings.folder, settings.limits)
    drain = Drain()
    app = make_app(
        service, keys=Keys(settings.keys), drain=drain, max_body_bytes=int(settings.max_body_mb * (1 << 20)),
        peer=None if settings.peer is None else PeerFile(settings.peer, dialer),
    )  # fmt: skip
    config = uvicorn.Config(
        app, host=settings.host, port=settings.port, log_config=None, access_log=False, lifespan="off", server_header=False,
        timeout_keep_alive=75, timeout_graceful_shutdown=max(1, round(settings.limits.timeout_s)), backlog=2048,
    )  # fmt: skip
    gc.collect()
    gc.freeze()  # libraries and models stay: no collection looks through them again, which would hold requests up
    sockets = _listen(settings)
    listening = sockets[0]
    names = ", ".join(f"{script.name} version {script.version}" for script in service.scripts)
    if listening.family == socket.AF_UNIX:
        log.info("%s answers at http+unix:%s", names, listening.getsockname())
    else:
        log.info("%s answers at http://%s:%d", names, *listening.getsockname()[:2])
    _Server(config, drain, service, settings.drain_s).run(sockets=sockets)


def _listen(settings: Settings) -> list[socket.socket]:
    """Return the listening sockets, the one that the log names first.

    Raises: OSError where an address is taken.
    """
    if settings.fd is not None:
        found = [socket.socket(fileno=settings.fd)]
    else:
        found = [socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET)]
        found[0].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found[0].bind((settings.host, settings.port))
    if settings.socket is not None:
        settings.socket.unlink(missing_ok=True)  # of a process that was killed
        found.append(socket.socket(socket.AF_UNIX))
        found[1].bind(str(settings.socket))
    for one in found:
        one.listen(2048)
    return found


def set_up_logging() -> None:
    """Write the log to standard error as JSON, one record a line."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
