"""The runs that a script begins as parts of its own: what it says of them, and when that is written.

They are rows of dbml.runs as the script's own run is, in its workspace and of its role, and end with it at the latest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

from dbml import errors
from dbml.store import child_runs, runs
from dbml.worker.child_ids import MOST_CHILDREN, child_run_id
from dbml.worker.logged import METRICS_AT_ONCE, LoggedValues
from dbml.worker.secret_params import Secrets
from dbml.worker.telemetry import Connection

MOST_TAGGED = 16 << 20  # characters of tags, properties and parameters of all of them
STATUSES = frozenset({"completed", "failed", "canceled"})  # that a script may say

Note = Callable[..., Awaitable[None]]


@dataclass
class ChildRun:
    """One of them; tags, properties and parameters are those that are not written yet."""

    run_id: str
    parent_run_id: str
    name: str | None
    started_at: datetime
    status: str = "running"
    finished_at: datetime | None = None
    sqlstate: str | None = None
    error: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    properties: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    logged: int = 0

    def take_changes(self) -> dict[str, Any]:
        """Take what is to be written of it."""
        changes = {"tags": self.tags, "properties": self.properties, "params": self.params}
        self.tags, self.properties, self.params = {}, {}, {}
        return changes | {key: getattr(self, key) for key in ("run_id", "status", "finished_at", "sqlstate", "error")}


class ChildRuns:
    """The children of one script's run.

    parent: returns the id of that run.  note: writes, as RunRecord does.  unfinished: the ids of runs that have no end in the
    database.
    """

    def __init__(self, parent: Callable[[], str], secrets: Secrets, unfinished: set[str], note: Note) -> None:
        self._parent = parent
        self._secrets = secrets
        self._unfinished = unfinished
        self._note = note
        self._by_token: dict[str, ChildRun] = {}
        self._new: list[ChildRun] = []
        self._changed: dict[str, ChildRun] = {}
        self._values = LoggedValues(secrets)
        self._tagged = 0
        self._writing = asyncio.Lock()

    def find(self, head: Mapping[str, Any]) -> ChildRun:
        """Return the child that a message of the script is about.

        Raises: ProtocolMismatch.
        """
        child = self._by_token.get(head["child"])
        if child is None:
            raise errors.ProtocolMismatch("a script must begin a child run before it says something of it")
        return child

    async def take(self, head: Mapping[str, Any]) -> None:
        """Take what the script says of one.

        Raises: LimitExceeded for too many, or too many tags; ProtocolMismatch.
        """
        full = False
        match head["tag"]:
            case "child":
                self._add(head)
                full = len(self._new) >= METRICS_AT_ONCE
            case "metric":
                child = self.find(head)
                full = self._values.add(child.run_id, child.logged, head)
                child.logged += 1
            case "tags" | "properties" | "params" as what:
                self._describe(self.find(head), what, head[what])
            case "end_child":
                self._end(self.find(head), head)
        if full:
            await self.flush()

    def _add(self, head: Mapping[str, Any]) -> None:
        token, name = head["child"], head["name"]
        if not isinstance(token, str) or token in self._by_token:
            raise errors.ProtocolMismatch("a script must give each child run a token of its own")
        if len(self._by_token) >= MOST_CHILDREN:
            raise errors.LimitExceeded(
                f"a script must have {MOST_CHILDREN} child runs at most", detail={"limit": "children", "value": MOST_CHILDREN}
            )
        parent = self._parent() if head["parent"] is None else self.find({"child": head["parent"]}).run_id
        child = ChildRun(child_run_id(self._parent(), token), parent, name and self._secrets.mask(name), datetime.now(UTC))
        self._by_token[token] = child
        self._unfinished.add(child.run_id)
        self._new.append(child)
        if head["tags"]:
            self._describe(child, "tags", head["tags"])

    def _describe(self, child: ChildRun, what: str, given: Mapping[str, str]) -> None:
        self._tagged += sum(len(name) + len(text) for name, text in given.items())
        if self._tagged > MOST_TAGGED:
            raise errors.LimitExceeded(
                f"tags, properties and parameters of a script's child runs must have {MOST_TAGGED} characters at most",
                detail={"limit": "tags", "value": MOST_TAGGED},
            )
        getattr(child, what).update(self._secrets.mask_tree(dict(given)))
        self._changed[child.run_id] = child

    def _end(self, child: ChildRun, head: Mapping[str, Any]) -> None:
        if head["status"] not in STATUSES:
            raise errors.ProtocolMismatch(f"a child run cannot become {head['status']!r}")
        if child.finished_at is None:
            error = head.get("error")
            child.status, child.finished_at = head["status"], datetime.now(UTC)
            child.error = error and self._secrets.mask(error).replace("\x00", "\ufffd")
            self._changed[child.run_id] = child

    async def end_all(self, ending: Mapping[str, Any]) -> None:
        """End those that the script has left, as it ends itself, and write everything."""
        for child in self._by_token.values():
            if child.finished_at is None:
                for key in ("status", "finished_at", "sqlstate", "error"):
                    setattr(child, key, ending[key])
                self._changed[child.run_id] = child
        await self.flush()

    async def flush(self) -> None:
        """Write what is new; it is there, or waits to be written, when this returns."""
        async with self._writing:  # what follows another's rows must not come before them
            new, self._new = self._new, []
            values, size = self._values.take()
            changed, self._changed = [child.take_changes() for child in self._changed.values()], {}
            if new:
                rows = [(child.run_id, child.parent_run_id, child.started_at, child.name) for child in new]
                await self._note("child runs", partial(child_runs.start, run_id=self._parent(), rows=rows), size=300 * len(rows))
            if values:
                await self._note("metrics of child runs", partial(runs.add_values, rows=values), size=size)
            if changed:
                await self._note("changes of child runs", partial(self._write, changed), size=300 * len(changed))

    async def _write(self, changed: list[dict[str, Any]], connection: Connection) -> None:
        await child_runs.change(connection, changed)
        self._unfinished.difference_update(each["run_id"] for each in changed if each["finished_at"] is not None)
