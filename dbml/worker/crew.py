"""A crew: the satellites of one call, the pieces dealt out to them, and their results in the order of the pieces.

A satellite gets chunks in stints: from the first piece that is dealt to it until another satellite is chosen.  Only
results wait for their turn; what a script asks, prints or logs passes at once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dbml.worker.processes import Child
from dbml.worker.zygote_process import ChildLost

MOST_UNTAKEN = 2  # chunks that wait in a satellite's socket
MOST_HELD = 8 << 20  # bytes of results that wait for their turn, a stint
MOST_EVENTS = 64
MOST_EVENT_BYTES = 16 << 20  # of events that wait to be taken, and one more

Head = dict[str, Any]


@dataclass
class Stint:
    """The results of some consecutive pieces; turn: they are the next that the caller gets."""

    turn: asyncio.Event = field(default_factory=asyncio.Event)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    held: list[tuple[Head, bytes]] = field(default_factory=list)
    held_bytes: int = 0
    over: bool = False


@dataclass
class Member:
    """One satellite of a crew."""

    child: Child
    stints: deque[Stint] = field(default_factory=deque)
    untaken: int = 0
    group: str | None = None  # the one that it is at
    said_bytes: int = 0  # of its result
    go_on: asyncio.Event = field(default_factory=asyncio.Event)  # what it asked is answered
    pump: asyncio.Task[None] | None = None


@dataclass(frozen=True)
class Event:
    """What a satellite said, or that it is lost."""

    member: Member
    head: Head
    body: bytes = b""
    lost: str | None = None


class Events(asyncio.Queue[Event]):
    """Events that wait; who adds to them waits while they are many, or large."""

    def __init__(self) -> None:
        super().__init__(MOST_EVENTS)
        self._bytes = 0

    def full(self) -> bool:
        """Tell whether the next one has to wait."""
        return super().full() or self._bytes > MOST_EVENT_BYTES

    def _put(self, item: Event) -> None:
        self._bytes += len(item.body)
        super()._put(item)

    def _get(self) -> Event:
        event = super()._get()
        self._bytes -= len(event.body)
        return event


class Crew:
    """Satellites that work at one call."""

    # What the call's own code reads on with, before the satellite may go on.
    ASKS = frozenset({"register", "load", "artifact", "ask"})

    def __init__(self, children: Sequence[Child]) -> None:
        self.members = [Member(child) for child in children]
        self.events = Events()
        self._stints: deque[Stint] = deque()
        self._current: Member | None = None
        self._last_piece = -1
        self._room = asyncio.Event()
        for member in self.members:
            member.pump = asyncio.create_task(self._pump(member))

    async def tell(self, head: Head, body: bytes = b"") -> None:
        """Say something to everyone.

        Raises: ConnectionError where one is gone.
        """
        for member in self.members:
            await member.child.send(head, body)

    async def deal(self, position: int, body: bytes, n: int) -> None:
        """Deal a chunk out: a piece that goes on to who has it, the others in equal parts to who has least to do.

        position: of the input; body: its last line are the numbers of the pieces, which only grow.
        Waits while everyone has enough to do.
        """
        numbers = body[body.rfind(b"\n") + 1 :]
        first, last = int(numbers[:16], 16), int(numbers[-16:], 16)
        if self._current is not None and first == self._last_piece:
            end = last if len(self.members) == 1 else first
            await self._give(self._current, position, body, n, first, end)
            first = end + 1
        shares = min(len(self.members), last - first + 1)
        for share in range(shares):
            begin = first + (last - first + 1) * share // shares
            end = first + (last - first + 1) * (share + 1) // shares - 1
            await self._choose()
            assert self._current is not None
            await self._give(self._current, position, body, n, begin, end)
        self._last_piece = last
        await self._wait_for_room()

    async def finish(self, once: bool) -> None:
        """Say that everything has been sent; once: one run is due although there was no row."""
        once = once and self._current is None
        if once:
            self._current = self.members[0]
            self._begin_stint(self._current)
        for member in self.members:
            last = member is self._current
            await member.child.send({"tag": "run", "last": last, "once": last and once})

    def run_whole(self) -> None:
        """Prepare for one run of the one member, with the whole input."""
        self._current = self.members[0]
        self._begin_stint(self._current)

    def stop(self) -> None:
        """Kill everyone."""
        for member in self.members:
            member.child.kill()
            if member.pump is not None:
                member.pump.cancel()

    # -- dealing ---------------------------------------------------------------------------------------------------

    async def _give(self, member: Member, position: int, body: bytes, n: int, first: int, last: int) -> None:
        member.untaken += 1
        await member.child.send({"tag": "rows", "input": position, "n": n, "first": first, "last": last}, body)

    async def _choose(self) -> None:
        """Choose who gets the next pieces; what the former has is whole."""
        if len(self.members) == 1 and self._current is not None:
            return
        await self._wait_for_room()
        chosen = min(self.members, key=lambda member: (member.untaken, len(member.stints)))
        if chosen is self._current:
            return
        if self._current is not None:
            await self._current.child.send({"tag": "close"})
        self._current = chosen
        self._begin_stint(chosen)

    def _begin_stint(self, member: Member) -> None:
        stint = Stint()
        member.stints.append(stint)
        self._stints.append(stint)
        if len(self._stints) == 1:
            stint.turn.set()

    async def _wait_for_room(self) -> None:
        while all(member.untaken >= MOST_UNTAKEN for member in self.members):
            self._room.clear()
            await self._room.wait()

    # -- what they say ---------------------------------------------------------------------------------------------

    async def _pump(self, member: Member) -> None:
        """Pass on what one satellite says until it is done."""
        while True:
            try:
                head, body = await member.child.receive()
            except (ChildLost, ConnectionError) as lost:
                await self.events.put(Event(member, {"tag": "lost"}, lost=str(lost)))
                return
            match head["tag"]:
                case "took":
                    member.untaken -= 1
                    self._room.set()
                case "group":
                    member.group = head["key"]
                case "frame":
                    await self._in_turn(member, head, body)
                case "closed":
                    await self._end_stint(member)
                case tag:
                    if tag == "done" and member.stints:
                        await self._end_stint(member)
                    member.go_on.clear()
                    await self.events.put(Event(member, head, body))
                    if tag in ("done", "error"):
                        return
                    if tag in self.ASKS:
                        await member.go_on.wait()

    async def _in_turn(self, member: Member, head: Head, body: bytes) -> None:
        stint = member.stints[0]
        if not stint.turn.is_set() and stint.held_bytes > MOST_HELD:
            await stint.turn.wait()
        async with stint.lock:
            if stint.turn.is_set():
                await self.events.put(Event(member, head, body))
            else:
                stint.held.append((head, body))
                stint.held_bytes += len(body)

    async def _end_stint(self, member: Member) -> None:
        member.stints.popleft().over = True
        while self._stints and self._stints[0].over and self._stints[0].turn.is_set():
            self._stints.popleft()
            if self._stints:
                stint = self._stints[0]
                async with stint.lock:
                    for head, body in stint.held:
                        await self.events.put(Event(member, head, body))
                    stint.held.clear()
                    stint.turn.set()


async def gather(children: Sequence[asyncio.Task[Child]]) -> list[Child]:
    """Wait for satellites that are being forked; where one fails, or the wait ends, none is left."""
    try:
        return list(await asyncio.gather(*children))
    except BaseException:
        for child in children:
            child.add_done_callback(_end_unused)
            child.cancel()
        raise


def _end_unused(ready: asyncio.Task[Child]) -> None:
    with contextlib.suppress(asyncio.CancelledError, Exception):
        ready.result().kill()
