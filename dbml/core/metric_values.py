"""What can be logged, as the database keeps it, and back: `get_metrics` with its rule of one or many.

A number is kept as a double precision; a whole number, true, false and text also as they are.  NaN and the infinities,
which JSON has not, are {"$number": "NaN"} inside lists, rows and tables.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from numbers import Integral
from typing import Any

from dbml import errors
from dbml.store.client.rows import Row, finite


def scalar(name: str, value: Any, *, kind: str = "scalar", step: int | None = None) -> Row:
    """Return a value as it is logged.

    Raises: InvalidArgument for what is neither a number, nor true, false or text.
    """
    row: Row = {"name": _name(name), "kind": kind}
    if step is not None:
        row["step"] = int(step)
    value = _plain(value)
    if isinstance(value, bool):
        row["value"] = value
    elif isinstance(value, int):
        try:
            row["value"] = finite(float(value))
        except OverflowError:
            raise errors.InvalidArgument(f"a metric must fit a double precision, got {name}={value}") from None
        row["data"] = value
    elif isinstance(value, float):
        row["value"] = finite(value)
    elif isinstance(value, str):
        row["data"] = value
    else:
        raise errors.InvalidArgument(
            f"a metric must be a number, true, false or text, got {name}={value!r}",
            hint="log_list, log_row and log_table take more than one value",
        )
    return row


def items(name: str, values: Iterable[Any]) -> list[Row]:
    """Return the elements of a list as they are logged, a row each.

    Raises: InvalidArgument for an element that is no metric, and for an empty list.
    """
    found = [scalar(name, value, kind="list") for value in values]
    if not found:
        raise errors.InvalidArgument(f"a list must have a value to be logged, got {name}=[]")
    return found


def whole(name: str, kind: str, data: Any) -> Row:
    """Return a row, a table or the name of an image as it is logged."""
    return {"name": _name(name), "kind": kind, "data": to_json(data)}


def to_json(value: Any) -> Any:
    """Return a value of lists and mappings as JSON can hold it, whatever numpy or pandas it was of."""
    value = _plain(value)
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {"$number": finite(value)}
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise errors.InvalidArgument(f"what is logged must be made of numbers, text, lists and mappings, got {value!r}")


def from_json(value: Any) -> Any:
    """Return what `to_json` was given."""
    if isinstance(value, dict):
        if set(value) == {"$number"}:
            return float(value["$number"])
        return {key: from_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [from_json(item) for item in value]
    return value


def collect(rows: Iterable[Row]) -> dict[str, Any]:
    """Return metrics by name: what was logged once as it is, what was logged again as a list of all.

    A list that was logged is a list also where it has one element.  Rows of one name become lists by column.
    """
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["name"], []).append(row)
    return {name: _one_or_many(logged) for name, logged in found.items()}


def value_of(row: Row) -> Any:
    """Return the value of a row of dbml.metrics."""
    if row["data"] is not None:
        return from_json(row["data"])
    return row["value"]


def _one_or_many(logged: list[Row]) -> Any:
    values = [value_of(row) for row in logged]
    kind = logged[-1]["kind"]
    if kind == "row" and len(logged) > 1 and all(row["kind"] == "row" for row in logged):
        columns = dict.fromkeys(column for value in values for column in value)
        return {column: [value.get(column) for value in values] for column in columns}
    if len(values) == 1 and kind != "list":
        return values[0]
    return values


def _name(name: str) -> str:
    if not name:
        raise errors.InvalidArgument(f"a metric must have a name, got {name!r}")
    return name


def _plain(value: Any) -> Any:
    """Return a number of numpy's and others as Python's own, an array as lists, a Series or a frame as such."""
    if type(value) in (bool, str, int, float, type(None)):
        return value
    if hasattr(value, "tolist") and callable(value.tolist):  # numpy's scalars and arrays, pandas' Series
        return value.tolist()
    if isinstance(value, Integral):
        return int(value)
    if hasattr(value, "__float__"):
        return float(value)
    if hasattr(value, "to_dict") and callable(value.to_dict):  # a frame
        return value.to_dict("list")
    return str(value) if isinstance(value, str) else value
