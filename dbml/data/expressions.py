"""Conditions on columns, for `dataset.filter(dataset["age"] > 30)`."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from dbml import errors


class Condition:
    """A condition on rows; combined with &, | and ~."""

    def __init__(self, where: Mapping[str, Any]) -> None:
        self.where = dict(where)

    def __and__(self, other: Condition) -> Condition:
        return Condition({"op": "and", "of": [self.where, other.where]})

    def __or__(self, other: Condition) -> Condition:
        return Condition({"op": "or", "of": [self.where, other.where]})

    def __invert__(self) -> Condition:
        return Condition({"op": "not", "of": [self.where]})

    def __bool__(self) -> bool:
        raise TypeError("a condition on columns is not true or false: combine conditions with &, | and ~, each in brackets")

    def __repr__(self) -> str:
        return f"Condition({self.where})"


class Column:
    """A column of a dataset, to compare with a value: `dataset["age"] > 30`."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, name: str) -> None:
        self.name = name

    def _compared(self, op: str, value: Any) -> Condition:
        if isinstance(value, (datetime.datetime, datetime.date)):
            value = value.isoformat()
        if not isinstance(value, (str, int, float, bool)):
            raise errors.InvalidArgument(f"a column must be compared with a text, number, boolean or moment, got {value!r}")
        return Condition({"op": op, "column": self.name, "value": value})

    def __eq__(self, value: object) -> Condition:  # type: ignore[override]
        return self._compared("=", value)

    def __ne__(self, value: object) -> Condition:  # type: ignore[override]
        return self._compared("<>", value)

    def __lt__(self, value: Any) -> Condition:
        return self._compared("<", value)

    def __le__(self, value: Any) -> Condition:
        return self._compared("<=", value)

    def __gt__(self, value: Any) -> Condition:
        return self._compared(">", value)

    def __ge__(self, value: Any) -> Condition:
        return self._compared(">=", value)

    def is_null(self) -> Condition:
        """Return the condition that nothing is there: NULL or NaN."""
        return Condition({"op": "is null", "column": self.name})
