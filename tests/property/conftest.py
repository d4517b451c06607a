"""Connections for tests of the SQL surface: autocommit, as psql's, to the session's shared database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest


@pytest.fixture
def connect(shared: Any) -> Callable[[], psycopg.Connection[Any]]:
    """Open another connection to the shared database."""
    return lambda: psycopg.connect(shared.dsn, autocommit=True)


@pytest.fixture
def db(connect: Callable[[], psycopg.Connection[Any]]) -> Iterator[psycopg.Connection[Any]]:
    """Give a connection in autocommit mode."""
    connection = connect()
    yield connection
    connection.close()
