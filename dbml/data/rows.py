"""Rows on their way through the steps of a dataset: a schema, and record batches that come when they are asked for.

A step sees batches of any size and answers the same rows whatever the sizes were.  Nothing here reads files or knows a
database.
"""

from __future__ import annotations

import datetime
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from dbml import errors

Step = Mapping[str, Any]
_MASK = (1 << 64) - 1
_EXACT_IN_FLOAT = 1 << 53


@dataclass(frozen=True)
class Rows:
    """A schema, and the batches that have it; they can be gone through once."""

    schema: Any
    batches: Iterable[Any]

    def table(self) -> Any:
        """Return all rows as a pyarrow Table."""
        return pa.Table.from_batches(self.batches, schema=self.schema)

    def named(self, names: Sequence[str]) -> Rows:
        """Return the same rows with other column names."""
        schema = pa.schema([field.with_name(name) for field, name in zip(self.schema, names, strict=True)])
        return Rows(schema, (pa.RecordBatch.from_arrays(b.columns, schema=schema) for b in self.batches))


def of_table(table: Any) -> Rows:
    """Return a table's rows."""
    return Rows(table.schema, table.to_batches())


def fractions(first: int, count: int, seed: int) -> Any:
    """Return a number in [0, 1) for each of the rows first, first + 1, …: the same for the same row and seed everywhere.

    Returns (count,) float64.  It is the row's place in the sequence that splitmix64 makes from the seed, so it depends on
    no chunk, no order of reading, no library's generator and no machine.
    Source: G. Steele, D. Lea, C. Flood, Fast splittable pseudorandom number generators, OOPSLA 2014; S. Vigna, splitmix64.c.
    """
    with np.errstate(over="ignore"):
        state = np.arange(first + 1, first + 1 + count, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        state += np.uint64(seed & _MASK)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state ^= state >> np.uint64(31)
    return (state >> np.uint64(11)).astype(np.float64) * 2.0**-53


def chosen(step: Step, first: int, count: int) -> Any:
    """Return which of the items first, first + 1, … a step on numbers keeps, (count,) bool, or None where it looks at values."""
    match step["step"]:
        case "take":
            return np.arange(first, first + count) < step["count"]
        case "skip":
            return np.arange(first, first + count) >= step["count"]
        case "sample":
            return fractions(first, count, step["seed"]) < step["probability"]
        case "split":
            inside = fractions(first, count, step["seed"]) < step["percentage"]
            return inside if step["part"] == "first" else ~inside
    return None


def apply(rows: Rows, steps: Sequence[Step]) -> Rows:
    """Return the rows after the steps, none of which has been taken before the batches are asked for.

    Raises: InvalidArgument where a step names a column that is not there, NotSupportedYet for an unknown step.
    """
    for step in steps:
        rows = _STEPS.get(step["step"], _unknown)(rows, step)
    return rows


def _unknown(rows: Rows, step: Step) -> Rows:
    message = f"the step {step['step']!r} of this dataset is of a newer dbml"
    raise errors.NotSupportedYet(message, hint="pip install --upgrade dbml")


def _by_number(rows: Rows, step: Step) -> Rows:
    def batches() -> Iterator[Any]:
        first = 0
        for batch in rows.batches:
            keep = chosen(step, first, batch.num_rows)
            first += batch.num_rows
            if keep.all():
                yield batch
            elif keep.any():
                yield batch.filter(pa.array(keep))
            if step["step"] == "take" and first >= step["count"]:
                return

    return Rows(rows.schema, batches())


def _columns(rows: Rows, step: Step) -> Rows:
    if step["step"] == "keep_columns":
        require_columns(rows.schema.names, step["columns"])
        return select(rows, list(step["columns"]))
    if missing := [name for name in step["columns"] if name not in rows.schema.names]:
        warnings.warn(f"drop_columns names what is no column: {', '.join(map(repr, missing))}", UserWarning, stacklevel=2)
    return select(rows, [name for name in rows.schema.names if name not in step["columns"]])


def select(rows: Rows, names: Sequence[str]) -> Rows:
    """Return the rows with these columns, in this order."""
    schema = pa.schema([rows.schema.field(name) for name in names])
    return Rows(schema, (batch.select(list(names)) for batch in rows.batches))


def require_columns(there: Sequence[str], wanted: Iterable[str]) -> None:
    """Raise InvalidArgument where a column is not there."""
    missing = [name for name in wanted if name not in there]
    if missing:
        raise errors.InvalidArgument(
            f"a column must be one of the dataset's, got {', '.join(map(repr, missing))}",
            hint="its columns: " + ", ".join(there),
            detail={"columns": list(there), "missing": missing},
        )


def _kept(rows: Rows, condition: Callable[[Any], Any]) -> Rows:
    return Rows(rows.schema, (batch.filter(condition(batch)) for batch in rows.batches))


def _time(rows: Rows, step: Step) -> Rows:
    require_columns(rows.schema.names, [step["column"]])
    type_ = rows.schema.field(step["column"]).type
    if not (pa.types.is_timestamp(type_) or pa.types.is_date(type_)):
        raise errors.InvalidArgument(f"a timestamp column must hold dates or times, got {step['column']!r} of type {type_}")
    start, end = (moment(step.get(name), type_) for name in ("start", "end"))
    lower, upper = (pc.greater_equal, pc.less_equal) if step["include_boundary"] else (pc.greater, pc.less)

    def condition(batch: Any) -> Any:
        column = batch.column(step["column"])
        keep = pc.is_valid(column)
        if start is not None:
            keep = pc.and_kleene(keep, lower(column, start))
        if end is not None:
            keep = pc.and_kleene(keep, upper(column, end))
        return keep

    return _kept(rows, condition)


def moment(text: str | None, type_: Any) -> Any:
    """Return a moment written as ISO 8601 as a scalar to compare with a column of that type.

    Without an offset it is UTC where the column has a zone; with one, and a column without, its UTC time is meant.
    """
    if text is None:
        return None
    value = datetime.datetime.fromisoformat(text)
    zone = getattr(type_, "tz", None)
    if zone is not None and value.tzinfo is None:
        value = value.replace(tzinfo=datetime.UTC)
    elif zone is None and value.tzinfo is not None:
        value = value.astimezone(datetime.UTC).replace(tzinfo=None)
    return pa.scalar(value, pa.timestamp("us", zone))


def _filter(rows: Rows, step: Step) -> Rows:
    require_columns(rows.schema.names, _names_in(step["where"]))
    return _kept(rows, lambda batch: _evaluate(step["where"], batch))


_COMPARISONS: Mapping[str, Callable[[Any, Any], Any]] = {
    "=": pc.equal, "<>": pc.not_equal, "<": pc.less, "<=": pc.less_equal, ">": pc.greater, ">=": pc.greater_equal,
}  # fmt: skip


def _evaluate(where: Mapping[str, Any], batch: Any) -> Any:
    match where["op"]:
        case "and":
            return pc.and_kleene(*(_evaluate(part, batch) for part in where["of"]))
        case "or":
            return pc.or_kleene(*(_evaluate(part, batch) for part in where["of"]))
        case "not":
            return pc.invert(_evaluate(where["of"][0], batch))
        case "is null":
            return pc.is_null(batch.column(where["column"]), nan_is_null=True)
    column = batch.column(where["column"])
    is_moment = pa.types.is_timestamp(column.type) or pa.types.is_date(column.type)
    value = moment(where["value"], column.type) if is_moment and isinstance(where["value"], str) else pa.scalar(where["value"])
    return _COMPARISONS[where["op"]](column, value)


def _names_in(where: Mapping[str, Any]) -> Iterator[str]:
    for part in where.get("of", ()):
        yield from _names_in(part)
    if "column" in where:
        yield where["column"]


_STEPS: Mapping[str, Callable[[Rows, Step], Rows]] = {
    "take": _by_number, "skip": _by_number, "sample": _by_number, "split": _by_number,
    "keep_columns": _columns, "drop_columns": _columns, "time": _time, "filter": _filter,
}  # fmt: skip


def frame(table: Any) -> Any:
    """Return a table as a pandas DataFrame.

    Dates are datetime64, missing numbers NaN; integers that a float would round stay integers, of pandas' nullable type.
    """
    found = table.to_pandas(date_as_object=False)
    for position, field in enumerate(table.schema):
        column = table.column(position)
        if pa.types.is_integer(field.type) and column.null_count and column.null_count < len(column):
            low, high = (value.as_py() for value in pc.min_max(column).values())
            if max(-low, high) > _EXACT_IN_FLOAT:
                nullable = pd.UInt64Dtype() if pa.types.is_unsigned_integer(field.type) else pd.Int64Dtype()
                found.isetitem(position, column.to_pandas(types_mapper={field.type: nullable}.get))
    return found
