"""What a runner and the database say to each other: what is wanted of a service, and how it is."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Mapping
from typing import Any

import psycopg

from dbml import errors
from dbml.store.client import services


class Gone(Exception):
    """The service is deleted, or this runner may not serve it any more.

    served: it is there, and another's.
    """

    def __init__(self, text: str, *, served: bool = False) -> None:
        super().__init__(text)
        self.served = served


class Reports:
    """A session of its own, opened again where it breaks; what could not be said is said next time."""

    def __init__(self, dsn: str, workspace: str, name: str) -> None:
        self.dsn, self.workspace, self.name = dsn, workspace, name
        self._claim = secrets.token_hex(16)
        self._node = socket.gethostname()
        self._session: psycopg.Connection[Any] | None = None
        self._unsaid: dict[str, Any] = {}

    @property
    def is_behind(self) -> bool:
        """Tell whether there is what could not be said yet."""
        return bool(self._unsaid)

    @property
    def database(self) -> str:
        """Return which database it is, as a text."""
        assert self._session is not None
        info = self._session.info
        return f"{info.host}:{info.port}/{info.dbname}"

    def connect(self) -> psycopg.Connection[Any]:
        """Open a session."""
        return psycopg.connect(
            self.dsn, autocommit=True, client_encoding="utf8", application_name="dbml runner", prepare_threshold=None,
            connect_timeout=10,
        )  # fmt: skip

    def exchange(self, said: Mapping[str, Any]) -> dict[str, Any] | None:
        """Say what is new and return what is wanted; None where the database does not answer.

        Raises: Gone.
        """
        for key, value in said.items():
            former = self._unsaid.get(key)
            self._unsaid[key] = former + value if isinstance(value, list) and former else value
        try:
            if self._session is None or self._session.closed:
                self._session = self.connect()
            wanted = services.report(
                self._session, self.workspace, self.name, {**self._unsaid, "claim": self._claim, "node": self._node}
            )
        except (errors.ServiceNotFound, errors.WorkspaceNotFound):
            raise Gone("the service is deleted") from None
        except psycopg.errors.InsufficientPrivilege as error:
            raise Gone(str(error.diag.message_primary), served=True) from None
        except psycopg.DataError:  # the database's encoding lacks a character of the log
            for key in ("log", "error"):
                if isinstance(self._unsaid.get(key), str):
                    self._unsaid[key] = self._unsaid[key].encode("ascii", "backslashreplace").decode()
            return None
        except psycopg.OperationalError:
            self.close()
            return None
        if not wanted.get("lost"):
            self._unsaid.clear()
        return wanted

    def close(self) -> None:
        """Close the session."""
        if self._session is not None:
            self._session.close()
            self._session = None
