"""Pieces: an input that a script reads in parts, one run for each.

What makes a piece is said by a number beside each row, which SQL adds as the last column: the rank of a partition's
key, the number of a read, or a share.  Numbers only grow.  This module runs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from dbml.columns import Column, Decoded, FrameBuilder, cut, decode_rows


@dataclass(frozen=True)
class Piece:
    """Some rows, and their number; keys: one row, of the columns that the rows have in common."""

    number: int
    frame: pd.DataFrame
    keys: pd.DataFrame

    @property
    def values(self) -> dict[str, Any]:
        """The keys as Python has them: NULL is None, and a NaN that is a value stays one."""
        return {str(name): _value(column) for name, column in self.keys.items()}


def _value(column: Any) -> Any:
    cell = column.iloc[0]
    tells_nan = isinstance(column.dtype, pd.Float64Dtype | pd.Float32Dtype)
    if cell is None or cell is pd.NA or cell is pd.NaT or (isinstance(cell, float) and cell != cell and not tells_nan):
        return None
    item = getattr(cell, "item", None)
    return item() if callable(item) else cell


class Pieces:
    """Takes the rows of one input chunk by chunk and gives them piece by piece; holds only pieces that go on.

    keys: the columns whose values make a piece, none where its position does.
    """

    def __init__(self, columns: Sequence[Column], keys: Sequence[str] = ()) -> None:
        self._columns = list(columns)
        names = [column.name for column in columns]
        self._keys = [names.index(key) for key in keys]
        self._sent = [*columns, Column("piece", "bigint", "int8")]
        self._held: list[tuple[list[Decoded], npt.NDArray[Any]]] = []

    def append(self, body: bytes, n: int, first: int, last: int) -> int:
        """Take those rows of a chunk of n whose piece is between first and last; returns their number."""
        *decoded, numbered = decode_rows(body, self._sent, n)
        numbers = numbered.values
        assert numbers is not None
        start, stop = np.searchsorted(numbers, first, "left"), np.searchsorted(numbers, last, "right")
        if start > 0 or stop < n:
            decoded = [column.rows(int(start), int(stop)) for column in decoded]
            numbers = numbers[start:stop]
        if len(numbers):
            self._held.append((decoded, numbers))
        return len(numbers)

    def complete(self, everything: bool) -> Iterator[Piece]:
        """Yield each piece that is whole: all but the last, or everything."""
        if not self._held:
            return
        decoded, numbers = self._held[-1]
        if everything:
            whole, self._held = self._held, []
        elif self._held[0][1][0] == numbers[-1]:
            return
        else:
            start = int(np.searchsorted(numbers, numbers[-1], "left"))
            n = len(numbers)
            whole = [*self._held[:-1], ([column.rows(0, start) for column in decoded], numbers[:start])]
            self._held = [([column.rows(start, n) for column in decoded], numbers[start:])]
        builder = FrameBuilder(self._columns)
        for part, ranks in whole:
            builder.add(part, len(ranks))
        frame = builder.frame()
        ranks = np.concatenate([ranks for _, ranks in whole])
        borders = [0, *(np.flatnonzero(np.diff(ranks)) + 1).tolist(), len(ranks)]
        keys = frame.iloc[borders[:-1], self._keys]
        for at, (begin, end) in enumerate(pairwise(borders)):
            part = frame if len(borders) == 2 else cut(frame, begin, end)
            yield Piece(int(ranks[begin]), part, keys.iloc[at : at + 1])

    def empty(self) -> Piece:
        """Return a piece without a row."""
        frame = FrameBuilder(self._columns).frame()
        return Piece(0, frame, frame.iloc[:0, :0])
