"""The connection of a client: one session, shared by threads, opened when first needed and again when it broke.

After a fork the child opens a session of its own and leaves its parent's alone; pickled, a connection travels as its DSN,
password included.  What is said on it is in `dbml.store.client`.
"""

from __future__ import annotations

import os
import secrets
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg

from dbml.dsn import find_dsn, parse, without_password

_Result = TypeVar("_Result")
_all: weakref.WeakSet[Connection] = weakref.WeakSet()
_parents: list[Any] = []  # sessions of the parent process: closing them here would end them there


class Connection:
    """A session with the database, in autocommit mode; any thread may use it, one at a time.

    dsn: a PostgreSQL URI or key=value string; where it is None, DBML_DSN, DBML_DSN_FILE or the running `dbml up` of this
    folder or a parent.  Nothing is connected before the first use.
    """

    def __init__(
        self, dsn: str | None = None, *, application: str = "dbml sdk", settings: Mapping[str, str] | None = None
    ) -> None:
        self.dsn = find_dsn(dsn)
        self.application = application
        self._settings = dict(settings or {})  # of each session
        self.notice: Callable[[str], object] | None = None  # is told what scripts print
        self._lock = threading.RLock()
        self._holder: int | None = None  # the thread to which the session is lent
        self._session: psycopg.Connection[Any] | None = None
        self._key: int | None = None
        _all.add(self)

    def __del__(self) -> None:
        # Programs do not close what they did not open: the session ends with the last object that uses it.
        session = self.__dict__.get("_session")
        if session is not None:
            session.close()

    def __repr__(self) -> str:
        return f"Connection({without_password(self.dsn)!r})"

    def __getstate__(self) -> dict[str, Any]:
        return {"dsn": self.dsn, "application": self.application, "settings": self._settings}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    @property
    def place(self) -> str:
        """Return host, port and database as they are displayed, without user and password."""
        known = parse(self.dsn)
        host, port = known.get("host", "localhost"), known.get("port", "5432")
        return f"{host}:{port}/{known.get('dbname', known.get('user', ''))}"

    @contextmanager
    def session(self) -> Iterator[psycopg.Connection[Any]]:
        """Lend the open session to this thread; opens it where it is not, or was broken.

        Raises: psycopg.OperationalError where the server cannot be reached.
        """
        with self._lock:
            former, self._holder = self._holder, threading.get_ident()
            try:
                yield self._open()
            finally:
                self._holder = former

    @property
    def is_open(self) -> bool:
        """Tell whether it has a session: its DSN was right."""
        return self._session is not None and not self._session.closed

    @property
    def is_held(self) -> bool:
        """Tell whether this thread has the session lent, and another would wait for it."""
        return self._holder == threading.get_ident()

    def do(self, function: Callable[..., _Result], *arguments: Any, **options: Any) -> _Result:
        """Call a function of `dbml.store.client` with the session; the session and then what is given."""
        with self.session() as session:
            return function(session, *arguments, **options)

    def do_again(self, function: Callable[..., _Result], *arguments: Any, **options: Any) -> _Result:
        """Do as `do`, and once more on a new session where the old one breaks: for what may be said twice."""
        with self._lock:
            try:
                return self.do(function, *arguments, **options)
            except psycopg.OperationalError:
                if self._session is not None and not self._session.closed:
                    raise
            return self.do(function, *arguments, **options)

    def hold_runs(self) -> None:
        """Let runs that are started from now on live as long as this connection, across broken sessions too."""
        from dbml.store.client import runs

        with self._lock:
            if self._key is None:
                self._key = secrets.randbits(63)
                runs.hold_session(self._open(), self._key)

    def close(self) -> None:
        """Close the session; it is opened again by the next use."""
        with self._lock:
            if self._session is not None:
                self._session.close()
                self._session = None

    def _open(self) -> psycopg.Connection[Any]:
        if self._session is None or self._session.closed:
            # No prepared statements: a pooler may give each transaction another server process.
            session = psycopg.connect(
                self.dsn, autocommit=True, client_encoding="utf8", application_name=self.application, prepare_threshold=None
            )  # fmt: skip
            session.add_notice_handler(self._tell)
            for name, value in self._settings.items():
                session.execute("select set_config(%s, %s, false)", (name, value))
            if self._key is not None:
                from dbml.store.client import runs

                runs.hold_session(session, self._key)
            self._session = session
        return self._session

    def _tell(self, diagnostic: psycopg.errors.Diagnostic) -> None:
        if self.notice is not None:
            self.notice(diagnostic.message_primary or "")

    def _forget(self) -> None:
        """Begin anew in a child process."""
        self._lock = threading.RLock()
        self._holder = None
        self._key = None
        if self._session is not None:
            _parents.append(self._session)
            self._session = None


def open_to(dsn: str, shown: Callable[[str], str]) -> Connection | None:
    """Return a connection that this process has open, whose DSN is shown as this one; None where there is none."""
    return next((known for known in list(_all) if known.is_open and shown(known.dsn) == dsn), None)


def _after_fork() -> None:
    for connection in list(_all):
        connection._forget()


os.register_at_fork(after_in_child=_after_fork)
