"""Pieces: an input that a script reads in parts, one run for each.

What makes a piece is said by a number beside each row, which SQL adds as the last column: the rank of a partition's
key, the number of a read, or a share.  Numbers only grow.  This module runs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from dbml.columns import Column, Decoded, FrameBuilder, cut, decode_rows


class Pieces:
    """Takes the rows of one input chunk by chunk and gives them piece by piece; holds only pieces that go on."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = list(columns)
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

    def complete(self, everything: bool) -> Iterator[tuple[int, pd.DataFrame]]:
        """Yield number and rows of each piece that is whole: all but the last, or everything."""
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
        for begin, end in pairwise(borders):
            yield int(ranks[begin]), frame if len(borders) == 2 else cut(frame, begin, end)

    def empty(self) -> pd.DataFrame:
        """Return the columns without a row."""
        return FrameBuilder(self._columns).frame()
