"""Where a worker should listen so that a given server can reach it.

A Unix socket where the server runs on this host as an account that may enter the folder, 127.0.0.1
where it may not, and what the user says where the server is elsewhere.
"""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path

import psycopg

from dbml import errors
from dbml.database.embedded import LONGEST_SOCKET_PATH

LOOPBACK = "127.0.0.1:0"  # a free port
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


def suggest_listen(dsn: str, folder: Path) -> str:
    """Return where to listen: `folder`, for a Unix socket in it, or host:port.

    Connects to the server to see who runs it.
    Raises: InvalidArgument when the server is on another host: only the user knows the way back.
    """
    with psycopg.connect(dsn, connect_timeout=10) as connection:
        host = connection.info.host
        uid = server_uid(connection)
    if uid is None and not host.startswith("/") and host not in HERE:
        raise errors.InvalidArgument(
            f"a worker for a server on another host must be told where to listen, the server is on {host}",
            hint="dbml worker --listen 0.0.0.0:7070 --advertise NAME_OF_THIS_HOST:7070",
        )
    longest = len(os.fsencode(folder.resolve() / ".s.PGSQL.65535"))
    if uid == os.geteuid() and longest <= LONGEST_SOCKET_PATH:
        return str(folder.resolve())
    return LOOPBACK
