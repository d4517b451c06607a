"""Pieces and crews: whatever the chunks and whoever gets them, each piece is the rows that it is, in its turn."""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbml.columns import Column, FrameBuilder
from dbml.worker.crew import Crew
from dbml.worker.pieces import Pieces
from dbml.worker.zygote_process import ChildLost

COLUMNS = [Column("i", "bigint", "int8"), Column("f", "double precision", "float8"), Column("t", "text", "text")]
Row = tuple[int | None, float | None, str | None]

values = st.tuples(
    st.none() | st.integers(-(2**63), 2**63 - 1), st.none() | st.floats(), st.none() | st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=5)
)  # fmt: skip


def chunk(rows: list[Row], numbers: list[int] | None = None) -> bytes:
    """Return rows as SQL sends them, with the numbers of their pieces in the last column."""
    nulls = [
        struct.pack("!i", index) + bytes(cell is None for cell in row) + (b"\x00" if numbers is not None else b"")
        for index, row in enumerate(rows)
        if None in row
    ]
    texts = [row[2].encode() for row in rows if row[2] is not None]
    lines = [
        b"".join(nulls),
        b"".join(struct.pack("!q", row[0]) for row in rows if row[0] is not None),
        b"".join(struct.pack("!d", row[1]) for row in rows if row[1] is not None),
        b"".join(struct.pack("!i", len(text)) for text in texts),
        b"".join(texts),
    ]
    if numbers is not None:
        lines.append(b"".join(struct.pack("!q", number) for number in numbers))
    return b"\n".join(line.hex().encode() for line in lines)


def alone(rows: list[Row]) -> pd.DataFrame:
    builder = FrameBuilder(COLUMNS)
    builder.append(chunk(rows), len(rows))
    return builder.frame()


@st.composite
def dealt(draw: st.DrawFn) -> tuple[list[list[Row]], list[tuple[int, int]]]:
    """Pieces of some rows each, and where the chunks are cut."""
    pieces = draw(st.lists(st.lists(values, min_size=1, max_size=6), min_size=1, max_size=8))
    total = sum(map(len, pieces))
    cuts = sorted(draw(st.sets(st.integers(1, total), max_size=6)) | {0, total})
    return pieces, list(pairwise(cuts))


@given(dealt(), st.booleans())
def test_each_piece_is_as_if_it_had_come_alone(given_: tuple[list[list[Row]], list[tuple[int, int]]], gaps: bool) -> None:
    pieces, cuts = given_
    rows = [row for piece in pieces for row in piece]
    numbers = [number * (3 if gaps else 1) for number, piece in enumerate(pieces) for _ in piece]
    taken = Pieces(COLUMNS, ["i"])
    got = []
    for start, stop in cuts:
        assert taken.append(chunk(rows[start:stop], numbers[start:stop]), stop - start, 0, 10**9) == stop - start
        got += list(taken.complete(False))
    got += list(taken.complete(True))
    assert [piece.number for piece in got] == sorted(set(numbers))
    for piece, wanted in zip(got, pieces, strict=True):
        pd.testing.assert_frame_equal(piece.frame, alone(wanted))
        assert piece.values == {"i": wanted[0][0]}


@given(dealt(), st.integers(0, 8))
def test_two_that_share_a_chunk_have_all_of_it_between_them(
    given_: tuple[list[list[Row]], list[tuple[int, int]]], border: int
) -> None:
    pieces, cuts = given_
    rows = [row for piece in pieces for row in piece]
    numbers = [number for number, piece in enumerate(pieces) for _ in piece]
    first, second = Pieces(COLUMNS), Pieces(COLUMNS)
    for start, stop in cuts:
        body = chunk(rows[start:stop], numbers[start:stop])
        first.append(body, stop - start, 0, border)
        second.append(body, stop - start, border + 1, 10**9)
    got = [*first.complete(True), *second.complete(True)]
    assert [(piece.number, len(piece.frame)) for piece in got] == [(number, len(piece)) for number, piece in enumerate(pieces)]


class Satellite:
    """A satellite's end of the conversation: works at a speed of its own, and says what it took."""

    def __init__(self, number: int, delay_s: float) -> None:
        self.number = number
        self.delay_s = delay_s
        self.heard: list[dict[str, Any]] = []
        self._said: asyncio.Queue[tuple[dict[str, Any], bytes]] = asyncio.Queue()
        self._todo: asyncio.Queue[tuple[dict[str, Any], bytes]] = asyncio.Queue()
        self._work = asyncio.create_task(self.work())

    async def send(self, head: dict[str, Any], body: bytes = b"") -> None:
        self.heard.append(head)
        await self._todo.put((head, body))

    async def receive(self) -> tuple[dict[str, Any], bytes]:
        return await self._said.get()

    def kill(self) -> None:
        self._work.cancel()

    async def work(self) -> None:
        pieces = Pieces([])
        while True:
            head, body = await self._todo.get()
            await asyncio.sleep(self.delay_s)
            if head["tag"] == "rows":
                pieces.append(body, head["n"], head["first"], head["last"])
            done = list(pieces.complete(head["tag"] != "rows"))
            for piece in done:
                await self._said.put(({"tag": "frame", "piece": piece.number, "by": self.number}, b""))
            await self._said.put(({"tag": {"rows": "took", "close": "closed", "run": "done"}[head["tag"]]}, b""))


@pytest.mark.parametrize("delays", [[0.0], [0.0, 0.0], [0.003, 0.0], [0.0, 0.003, 0.001]])
def test_results_come_in_the_order_of_the_pieces_whoever_is_fast(delays: list[float]) -> None:
    numbers = np.repeat(np.arange(60), np.random.default_rng(0).integers(1, 9, 60)).tolist()
    chunks = [numbers[start : start + 7] for start in range(0, len(numbers), 7)]

    async def work() -> tuple[list[int], int]:
        crew = Crew([Satellite(number, delay) for number, delay in enumerate(delays)])  # type: ignore[misc, arg-type]
        got: deque[tuple[int, int]] = deque()

        async def deal() -> None:
            for part in chunks:
                body = b"\n" + b"".join(struct.pack("!q", number) for number in part).hex().encode()
                await crew.deal(0, body, len(part))
            await crew.finish(once=True)

        dealing = asyncio.create_task(deal())
        done = 0
        while done < len(delays):
            event = await asyncio.wait_for(crew.events.get(), 10)
            if event.head["tag"] == "done":
                done += 1
            else:
                got.append((event.head["piece"], event.head["by"]))
        await dealing
        crew.stop()
        return [piece for piece, _ in got], len({by for _, by in got})

    order, used = asyncio.run(work())
    assert order == list(range(60)) and used == len(delays)


def test_a_satellite_that_is_lost_is_told_after_what_it_said() -> None:
    class Dying(Satellite):
        async def receive(self) -> tuple[dict[str, Any], bytes]:
            if self._said.empty() and self.heard:
                raise ChildLost("was killed by signal 9 (SIGKILL)")
            return await super().receive()

        async def work(self) -> None:
            await self._said.put(({"tag": "notice"}, b"last words"))

    async def work() -> list[str]:
        crew = Crew([Dying(0, 0.0)])  # type: ignore[list-item]
        crew.run_whole()
        await crew.tell({"tag": "run"})
        events = [await asyncio.wait_for(crew.events.get(), 10) for _ in range(2)]
        crew.stop()
        return [event.head["tag"] for event in events]

    assert asyncio.run(work()) == ["notice", "lost"]
