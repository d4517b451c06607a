"""Admission: first come first served, a limit by name, and nobody waits for himself."""

from __future__ import annotations

import asyncio

import pytest

from dbml import errors
from dbml.worker.admission import Admission


def test_turns_come_in_order_and_limits_hold() -> None:
    async def work() -> None:
        door = Admission(running=1, scripts=3)
        assert door.ask(1) is None and door.running == 1
        second, third = door.ask(2), door.ask(3)
        assert second is not None and third is not None and door.waiting == 2
        with pytest.raises(errors.TooManyScripts, match="max_scripts = 3"):
            door.ask(4)
        assert door.ask(1) is None, "a backend that is inside does not wait for itself"
        door.leave(1, None)
        assert not second.done()
        door.leave(1, None)
        assert second.done() and not third.done() and (door.running, door.waiting) == (1, 1)
        door.leave(3, third)
        assert (door.running, door.waiting) == (1, 0)
        door.leave(2, second)
        assert door.running == 0 and door.ask(5) is None

    asyncio.run(work())


def test_who_leaves_when_called_makes_room_for_the_next() -> None:
    async def work() -> None:
        door = Admission(running=1, scripts=9)
        door.ask(1)
        second, third = door.ask(2), door.ask(3)
        door.leave(1, None)
        assert second is not None and second.done()
        door.leave(2, second)  # its caller went away before it could begin
        assert third is not None and third.done() and door.running == 1

    asyncio.run(work())
