"""Values that a script has logged, on their way to the database."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from dbml.worker.secret_params import Secrets

METRICS_AT_ONCE = 10_000
METRIC_BYTES = 1 << 20  # of them, at about which they are written


class LoggedValues:
    """Values that wait to be written; each knows its run."""

    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets
        self._rows: list[tuple[Any, ...]] = []
        self._bytes = 0

    def __bool__(self) -> bool:
        return bool(self._rows)

    def add(self, run_id: str, ordinal: int, head: Mapping[str, Any]) -> bool:
        """Add a value, without secrets; returns whether they are many enough to be written."""
        at = datetime.fromtimestamp(head["time"], UTC)
        kind = head.get("kind") or "scalar"
        name, data = self._secrets.mask(head["name"]), self._secrets.mask_tree(head.get("data"))
        self._rows.append((run_id, ordinal, name, head["step"], head["value"], at, kind, data))
        self._bytes += 100 + len(name) + (0 if data is None else len(json.dumps(data)))
        return len(self._rows) >= METRICS_AT_ONCE or self._bytes >= METRIC_BYTES

    def take(self) -> tuple[list[tuple[Any, ...]], int]:
        """Return the values, as rows of run_id, ordinal, name, step, value, time, kind and data, and about how large they are."""
        rows, size = self._rows, self._bytes
        self._rows, self._bytes = [], 0
        return rows, size
