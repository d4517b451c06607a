"""Whether a server can be reached at all, and the wait for one that is not there yet."""

from __future__ import annotations

import time
from collections.abc import Callable

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.pq import PGconn, Ping

LOOK_S = 0.25
TELL_S = 10.0
CONNECT_TIMEOUT_S = 5


def answers(dsn: str) -> bool:
    """Tell whether a server takes connections, if only to refuse a password: not while it starts, stops or is away."""
    found = PGconn.ping(make_conninfo(dsn, connect_timeout=CONNECT_TIMEOUT_S).encode())
    return found not in (Ping.REJECT, Ping.NO_RESPONSE)


def wait_for_server(dsn: str, timeout_s: float, say: Callable[[str], object]) -> None:
    """Wait until a server takes connections, and say so now and then.

    Raises: psycopg.OperationalError with the server's or the system's own words when the time is over.
    """
    began = time.monotonic()
    told = -TELL_S
    while not answers(dsn):
        waited = time.monotonic() - began
        if waited >= timeout_s:
            with psycopg.connect(dsn, connect_timeout=CONNECT_TIMEOUT_S):
                return
        if waited - told >= TELL_S:
            say(f"waiting for the database, which does not answer yet, for {timeout_s - waited:.0f} s more")
            told = waited
        time.sleep(LOOK_S)
