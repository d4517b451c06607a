"""Where a worker should listen so that a given server, and as few others as can be, can reach it.

A Unix socket where the server runs on this host: in a folder that only the server's account may
enter if we can make one, else in one that all may enter (the password and the signature decide).
127.0.0.1 where the server is reached by TCP on this host, and what the user says elsewhere.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from dbml import errors
from dbml.database.account import Account
from dbml.database.embedded import LONGEST_SOCKET_PATH
from dbml.temporary import SOCKETS, sweep, temporary_directory

LOOPBACK = "127.0.0.1:0"  # a free port
SHORT = "/tmp"  # noqa: S108 - where a socket's path is short enough, and anyone may come
HERE = ("", "localhost", "127.0.0.1", "::1")


def server_uid(connection: psycopg.Connection[tuple[object, ...]]) -> int | None:
    """Return the account that the server runs as; None if it is not connected by a Unix socket.

    Source: unix(7), SO_PEERCRED: the credentials of who called listen().
    """
    if not hasattr(socket, "SO_PEERCRED"):
        return None
    with socket.socket(fileno=os.dup(connection.fileno())) as channel:
        if channel.family != socket.AF_UNIX:
            return None
        _, uid, _ = struct.unpack("3i", channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return int(uid)


@contextmanager
def listening_place(dsn: str, folder: Path | None = None) -> Iterator[str]:
    """Yield where to listen: a folder for a Unix socket in it, or host:port.

    folder: to use if it serves, made if it is not there; else a temporary one, deleted afterwards.
    Connects to the server to see who runs it.
    Raises: InvalidArgument when the server is on another host: only the user knows the way back.
    """
    with psycopg.connect(dsn, client_encoding="utf8", connect_timeout=10) as connection:
        host = connection.info.host
        uid = server_uid(connection)
    if uid is None:
        if not host.startswith("/") and host not in HERE:
            raise errors.InvalidArgument(
                f"a worker must be told where to listen for a server on another host, got {host}",
                hint="dbml worker --listen 0.0.0.0:7070 --advertise NAME_OF_THIS_HOST:7070",
            )
        yield LOOPBACK
        return
    if folder is not None and _serves(folder, uid):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _open_to(folder, uid)
        yield str(folder.resolve())
        return
    sweep(SHORT)
    with temporary_directory(SOCKETS, SHORT) as temporary:
        _open_to(temporary, uid)
        yield str(temporary)


def _serves(folder: Path, uid: int) -> bool:
    """Tell whether the account can come to the folder, and the socket's path is short enough."""
    if len(os.fsencode(folder.resolve() / ".s.PGSQL.65535")) > LONGEST_SOCKET_PATH:
        return False
    if uid == os.geteuid():
        return True
    nearest = next(parent for parent in folder.resolve().parents if parent.is_dir())
    return os.geteuid() == 0 and Account(str(uid), uid, uid).enters(nearest)


def _open_to(folder: Path, uid: int) -> None:
    if os.geteuid() == 0:
        os.chown(folder, uid, -1)
    folder.chmod(0o700 if os.geteuid() in (0, uid) else 0o711)
