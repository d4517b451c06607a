"""Replays: a run's script again, and what differs."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from dbml.store.client import submissions

if TYPE_CHECKING:
    import pandas as pd

    from dbml.core.workspace import Workspace


@dataclass(frozen=True)
class Difference:
    """One thing that was compared.

    same: None where nobody can say, as of a table that may have changed since.
    """

    what: str
    original: str | None
    replayed: str | None
    same: bool | None


class Replay:
    """What came of a replay: `same` is the verdict, `rows` are the conditions and results that were compared."""

    def __init__(self, rows: list[Difference]) -> None:
        first, *self.rows = rows
        self.original_id = str(first.original)
        self.run_id = str(first.replayed)
        self.same = bool(first.same)

    @property
    def differences(self) -> list[Difference]:
        """Return what differs."""
        return [row for row in self.rows if row.same is False]

    @property
    def unknown(self) -> list[Difference]:
        """Return what could not be held the same, or nobody can say."""
        return [row for row in self.rows if row.same is None]

    def __iter__(self) -> Iterator[Difference]:
        return iter(self.rows)

    def to_pandas_dataframe(self) -> pd.DataFrame:
        """Return the rows as a frame with the columns what, original, replayed, same."""
        import pandas as pd

        return pd.DataFrame([vars(row) for row in self.rows], columns=["what", "original", "replayed", "same"])

    def __repr__(self) -> str:
        told = "the same" if self.same else "different: " + ", ".join(row.what for row in self.differences)
        return f"Replay(original={self.original_id}, run={self.run_id}, {told})"

    def _repr_html_(self) -> str:
        marks = {True: "same", False: "different", None: "?"}
        body = "".join(
            f"<tr><td>{html.escape(row.what)}</td><td>{html.escape(row.original or '')}</td>"
            f"<td>{html.escape(row.replayed or '')}</td><td>{marks[row.same]}</td></tr>"
            for row in self.rows
        )
        return f"<table><tr><th>what</th><th>original</th><th>replayed</th><th></th></tr>{body}</table>"


def replay(workspace: Workspace, run_id: UUID, params: Mapping[str, Any] | None = None) -> Replay:
    """Run the script of a run again, and compare; it runs in this session, which waits for it.

    params: values in place of recorded ones; those that were secrets must be given.
    Raises: RunNotFound; InvalidArgument where it cannot be replayed.
    """
    rows = workspace._connection.do(submissions.replay, run_id, params or {})
    return Replay([Difference(**row) for row in rows])
