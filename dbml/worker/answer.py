"""Answers: what a script's runs leave, on its way to SQL as array literals of bounded size."""

from __future__ import annotations

import base64
import math
import uuid
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any

import pandas as pd

from dbml import columns, errors
from dbml.worker.frames import LARGEST_BODY
from dbml.worker.sandbox import Limits

CHUNK_BYTES = 200_000
FIRST_CELLS = 10_000
FIRST_ROWS_UNSIZED = 16
MOST_ROWS = 20_000

Say = Callable[..., None]


class Answer:
    """The rows of a call: the results of all runs, gathered into chunks near CHUNK_BYTES.

    expected: the types that the caller listed; None for those that the values have by themselves.
    """

    def __init__(
        self, say: Say, name: str, limits: Limits, *, expected: list[columns.Column] | None = None, as_json: bool = False,
        head: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self._say = say
        self._name = name
        self._limits = limits
        self._expected = expected
        self._as_json = as_json
        self._head = head or {"tag": "frame"}
        self._held: list[columns.Chunk] = []
        self._held_bytes = 0
        self._bytes = 0
        self.rows = 0

    def add(self, value: Any, keys: pd.DataFrame | None = None) -> None:
        """Add the result of a run; keys: one row, the key of its partition, whose columns go in front where they lack.

        Raises: ColumnListMismatch, UnsupportedType, LimitExceeded; any exception of the value's own code.
        """
        frame = columns.as_frame(value)
        if frame is None:
            return
        for chunk in self._chunks(frame) if keys is None else self._keyed(frame, keys):
            size = sum(map(len, chunk.literals))
            self._bytes += size
            if self._bytes > self._limits.output_mb << 20:
                limit = self._limits.output_mb
                raise _too_large(f"the result is larger than output_mb = {limit} allows", "output_mb", limit)
            if size > LARGEST_BODY:
                raise _too_large(f"a row of the result is larger than {LARGEST_BODY >> 20} MB", "row_mb", LARGEST_BODY >> 20)
            if self._held and (self._held_bytes + size > CHUNK_BYTES or self._held[0].types != chunk.types):
                self.flush()
            self._held.append(chunk)
            self._held_bytes += size
            self.rows += chunk.n

    def flush(self) -> None:
        """Send what is held."""
        held, self._held, self._held_bytes = self._held, [], 0
        if not held:
            return
        literals = held[0].literals
        if len(held) > 1:
            literals = [
                b"{" + b",".join(part[1:-1] for part in parts) + b"}" for parts in zip(*(c.literals for c in held), strict=True)
            ]
        head = {**self._head, "n": sum(chunk.n for chunk in held), "names": held[0].names, "types": held[0].types,
                "sizes": [len(literal) for literal in literals]}  # fmt: skip
        self._say(head, b"".join(literals))

    def _keyed(self, frame: pd.DataFrame, keys: pd.DataFrame) -> Iterator[columns.Chunk]:
        """Yield a frame in chunks, with the key's columns in front where the frame lacks them."""
        missing = [position for position, name in enumerate(keys.columns) if name not in frame.columns]
        width = len(missing) + frame.shape[1]
        if not missing or self._expected is None or len(self._expected) != width or len(frame) == 0:
            yield from self._chunks(_with_keys(frame, keys))
            return
        # A key is encoded once, however many rows have it.
        listed, expected = self._expected[: len(missing)], self._expected[len(missing) :]
        (key,) = columns.encode_frame(keys if len(missing) == keys.shape[1] else keys.iloc[:, missing], listed, 1)
        for chunk in self._chunks(frame, expected):
            repeated = [b"{" + b",".join([literal[1:-1]] * chunk.n) + b"}" for literal in key.literals]
            yield columns.Chunk(chunk.n, key.names + chunk.names, key.types + chunk.types, repeated + chunk.literals)

    def _chunks(self, frame: pd.DataFrame, expected: list[columns.Column] | None = None) -> Iterator[columns.Chunk]:
        """Yield a frame in chunks near CHUNK_BYTES: the size of each tells the number of rows of the next."""
        expected = expected or self._expected
        if (expected is not None and len(expected) != frame.shape[1]) or len(frame) == 0:
            for _ in columns.encode_frame(frame, expected, 1):  # which refuses it, by its own hint
                pass
            return
        if expected is None and not self._as_json:
            expected = columns.natural_columns(frame)
        sized = all(dtype.kind in "biufmM" for dtype in frame.dtypes)
        n = max(1, min(2000, FIRST_CELLS // frame.shape[1]))
        if not sized:
            n = min(n, FIRST_ROWS_UNSIZED)
        start = 0
        while start < len(frame):
            part = frame.iloc[start : start + n]
            start += n
            made = columns.encode_json_rows(part, n) if self._as_json else columns.encode_frame(part, expected, n)
            size = 0
            for chunk in made:
                size += sum(map(len, chunk.literals))
                yield chunk
            n = max(1, min(MOST_ROWS, 8 * n, n * CHUNK_BYTES // max(1, size)))


def _with_keys(frame: pd.DataFrame, keys: pd.DataFrame) -> pd.DataFrame:
    missing = [name for name in keys.columns if name not in frame.columns]
    if not missing:
        return frame
    repeated = keys[missing].iloc[[0] * len(frame)].set_axis(frame.index)
    return pd.concat([repeated, frame], axis=1)


def _too_large(message: str, limit: str, value: int) -> errors.LimitExceeded:
    return errors.LimitExceeded(message, detail={"limit": limit, "value": value}, hint="return fewer rows or columns")


def parameter(name: str, value: Any) -> Any:
    """Turn a parameter's final value into JSON: numpy scalars into numbers, bytes into base64 text, dates into ISO 8601.

    Raises: UnsupportedType.
    """
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, float):
        return (
            float(value) if math.isfinite(value) else {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[repr(float(value))]
        )
    if isinstance(value, int):
        return int(value)
    if isinstance(value, Decimal):
        return float(value) if value.is_finite() and Decimal(float(value)) == value else str(value)
    if isinstance(value, Mapping):
        return {str(key): parameter(f"{name}.{key}", cell) for key, cell in value.items()}
    if isinstance(value, list | tuple):
        return [parameter(name, cell) for cell in value]
    if callable(getattr(value, "tolist", None)) and not isinstance(value, type):
        plain = value.tolist()
        if type(plain) is not type(value):
            return parameter(name, plain)
    if callable(getattr(value, "isoformat", None)):
        return str(value.isoformat())
    if isinstance(value, uuid.UUID):
        return str(value)
    raise errors.UnsupportedType(
        f'the parameter "{name}" holds what JSON cannot carry, got {type(value).__name__}',
        detail={"parameter": name, "type": type(value).__name__},
        hint="pickle.dumps(value) is carried, as base64 text; a data frame returns by run_script",
    )
