"""Pools: the limits under which a script runs, as its signed request has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from dbml import errors
from dbml.worker.sandbox import Limits

LIMITS: Final = ("memory_mb", "cpu_seconds", "processes", "scratch_mb", "output_mb")  # of each process of a call


@dataclass(frozen=True)
class Pool:
    """A pool of one call; None is no limit."""

    name: str
    limits: Limits
    timeout_s: float | None = None
    concurrency: int | None = None

    @classmethod
    def of(cls, request: Mapping[str, Any], worker: Limits) -> Pool:
        """Return the pool of a request; worker: the limits that hold where the pool has none."""
        given = request.get("pool")
        if given is None:  # asked by a schema that has no pools yet
            return cls("default", worker)
        own = {name: given[name] for name in LIMITS if given[name] is not None}
        return cls(given["name"], replace(worker, **own, network=given["network"]), given["timeout_s"], given["concurrency"])

    def held(self) -> dict[str, Any]:
        """Return its limits as a run's record has them."""
        held = {name: getattr(self.limits, name) for name in (*LIMITS, "network")}
        return held | {"timeout_s": self.timeout_s, "concurrency": self.concurrency}

    def exceeded(self, limit: str, text: str, **detail: Any) -> errors.LimitExceeded:
        """Make the error for a limit of a process; text: with {} for the limit's name and value."""
        value = getattr(self.limits, limit)
        shown = text.format(f"{limit} = {value}")
        return errors.LimitExceeded(
            shown, detail={"limit": limit, "value": value, "pool": self.name, **detail}, hint=_hint(limit)
        )

    def explain(self, error: errors.DbmlError) -> errors.DbmlError:
        """Return an error of a script; that of a limit tells whose limit it is."""
        limit = error.detail.get("limit")
        if not isinstance(error, errors.LimitExceeded) or limit not in LIMITS:
            return error
        fields = error.fields()
        return errors.from_fields(
            {**fields, "detail": {**error.detail, "pool": self.name}, "hint": fields["hint"] or _hint(limit)}
        )


def _hint(limit: str) -> str:
    return f"SELECT name, {limit}, granted_to FROM dbml.pools"  # noqa: S608 - for people to run
