"""Decode: the lines of one chunk into arrays, without a loop over fixed-width values.

    line 0       rows that hold a NULL: int4 index, then one byte a column, 01 where it is NULL
    fixed kind   one line: the values that are not NULL
    other kind   two lines: int4 lengths of the values that are not NULL, and their bytes
All lines are hex.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dbml import errors
from dbml.columns.kinds import FIXED, Column


@dataclass(frozen=True)
class Decoded:
    """One column of a chunk.

    values: the values that are not NULL, (k,), of a fixed kind in native byte order; None for other kinds.
    lengths, content: (k,) lengths in bytes and the bytes, for other kinds.
    null: (n,) mask, True for NULL; None where there is none.
    """

    values: npt.NDArray[Any] | None
    lengths: npt.NDArray[np.int32] | None
    content: bytes
    null: npt.NDArray[np.bool_] | None

    def rows(self, start: int, stop: int) -> Decoded:
        """Return the part of it that rows start to stop have."""
        null = None
        if self.null is not None:
            before = int(self.null[:start].sum())
            null = self.null[start:stop]
            start, stop = start - before, stop - before - int(null.sum())
            null = null if null.any() else None
        if self.lengths is None:
            assert self.values is not None
            return Decoded(self.values[start:stop], None, b"", null)
        begin = int(self.lengths[:start].sum(dtype=np.int64))
        lengths = self.lengths[start:stop]
        return Decoded(None, lengths, self.content[begin : begin + int(lengths.sum(dtype=np.int64))], null)


def decode_rows(body: bytes, columns: Sequence[Column], n: int) -> list[Decoded]:
    """Decode a chunk of n rows.

    Raises: errors.ProtocolMismatch where lines, lengths and n disagree.
    """
    if n < 0 or (columns and n > len(body)):  # a value has two letters at least, a row of NULLs ten
        raise errors.ProtocolMismatch(f"a chunk of {len(body)} bytes cannot have {n} rows")
    lines = body.split(b"\n")
    wanted = 1 + sum(1 if column.kind in FIXED else 2 for column in columns)
    if len(lines) != wanted:
        raise errors.ProtocolMismatch(f"a chunk of {len(columns)} columns must have {wanted} lines, got {len(lines)}")
    try:
        parts = [bytes.fromhex(line.decode("ascii")) for line in lines]
    except ValueError:
        raise errors.ProtocolMismatch("a chunk must be in hex") from None
    masks = _masks(parts[0], len(columns), n)
    decoded = []
    at = 1
    for position, column in enumerate(columns):
        mask = None if masks is None else masks[:, position]
        if mask is not None and not mask.any():
            mask = None
        present = n if mask is None else n - int(mask.sum())
        if column.kind in FIXED:
            dtype = np.dtype(FIXED[column.kind])
            if len(parts[at]) != present * dtype.itemsize:
                raise errors.ProtocolMismatch(f'column "{column.name}" must have {present} values of {dtype.itemsize} bytes')
            values = np.frombuffer(parts[at], dtype=dtype)
            decoded.append(Decoded(values.astype(dtype.newbyteorder("=")), None, b"", mask))
            at += 1
        else:
            if len(parts[at]) != 4 * present:
                raise errors.ProtocolMismatch(f'column "{column.name}" must have {present} lengths')
            lengths = np.frombuffer(parts[at], dtype=">i4").astype(np.int32)
            if int(lengths.sum(dtype=np.int64)) != len(parts[at + 1]) or (lengths < 0).any():
                raise errors.ProtocolMismatch(f'the lengths of column "{column.name}" do not add up')
            decoded.append(Decoded(None, lengths, parts[at + 1], mask))
            at += 2
    return decoded


def _masks(nulls: bytes, width: int, n: int) -> npt.NDArray[np.bool_] | None:
    if not nulls:
        return None
    record = np.dtype([("row", ">i4"), ("null", "u1", (width,))])
    if len(nulls) % record.itemsize:
        raise errors.ProtocolMismatch("the list of NULLs is cut short")
    rows = np.frombuffer(nulls, dtype=record)
    index = rows["row"].astype(np.int64)
    if index.min() < 0 or index.max() >= n:
        raise errors.ProtocolMismatch("the list of NULLs names a row that is not there")
    masks = np.zeros((n, width), dtype=bool)
    masks[index] = rows["null"] != 0
    return masks


def decode_matrix(body: bytes, columns: Sequence[Column], n: int) -> npt.NDArray[np.float64]:
    """Decode a chunk whose columns are all numeric into one array (n, columns); NULL becomes NaN."""
    matrix = np.empty((n, len(columns)), dtype=np.float64)
    for position, part in enumerate(decode_rows(body, columns, n)):
        values: Any = part.values
        if values is None:
            try:
                values = np.array([float(text) for text in split_values(part)], dtype=np.float64)
            except ValueError:
                raise errors.ProtocolMismatch(f'column "{columns[position].name}" must hold numbers') from None
        if part.null is None:
            matrix[:, position] = values
        else:
            matrix[part.null, position] = np.nan
            matrix[~part.null, position] = values
    return matrix


def split_values(part: Decoded) -> list[bytes]:
    """Cut the content of a column of varying width into its values."""
    assert part.lengths is not None
    ends = np.cumsum(part.lengths, dtype=np.int64).tolist()
    return [part.content[start:end] for start, end in zip([0, *ends], ends, strict=False)]
