"""Admission: least-running role first, limits by name and by pool, and nobody waits for himself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import hypothesis.strategies as st
import pytest
from hypothesis import given

from dbml import errors
from dbml.worker.admission import MOST_NESTED, Admission, Applicant, Turn
from dbml.worker.turns import Turns


def inside(*turns: Turn) -> list[bool]:
    return [turn.inside for turn in turns]


def in_a_loop(work: Callable[[], None]) -> None:
    async def run() -> None:
        work()

    asyncio.run(run())


def test_turns_come_in_order_and_limits_hold() -> None:
    def work() -> None:
        door = Admission(running=1, scripts=3)
        first = door.ask(Applicant(1))
        assert first.called is None and first.inside and door.running == 1
        second, third = door.ask(Applicant(2)), door.ask(Applicant(3))
        assert inside(second, third) == [False, False] and door.waiting == 2
        assert door.positions() == {second: 1, third: 2}
        with pytest.raises(errors.TooManyScripts, match="max_scripts = 3"):
            door.ask(Applicant(4))
        inner = door.ask(Applicant(1))
        assert inner.inside, "a backend that is inside does not wait for itself"
        door.leave(inner)
        door.leave(inner)
        assert inside(second, third) == [False, False]
        door.leave(first)
        assert inside(second, third) == [True, False] and (door.running, door.waiting) == (1, 1)
        assert second.called is not None and second.called.done()
        door.leave(third)
        assert (door.running, door.waiting) == (1, 0)
        door.leave(second)
        assert door.running == 0 and door.ask(Applicant(5)).inside

    in_a_loop(work)


def test_who_leaves_when_called_makes_room_for_the_next() -> None:
    def work() -> None:
        door = Admission(running=1, scripts=9)
        first, second, third = (door.ask(Applicant(number)) for number in (1, 2, 3))
        door.leave(first)
        assert inside(second, third) == [True, False]
        door.leave(second)  # its caller went away before it could begin
        assert third.inside and door.running == 1

    in_a_loop(work)


def test_nested_calls_end_somewhere() -> None:
    def work() -> None:
        door = Admission(running=1, scripts=9)
        for _ in range(MOST_NESTED):
            door.ask(Applicant(1))
        with pytest.raises(errors.TooManyScripts, match="nested"):
            door.ask(Applicant(1))

    in_a_loop(work)


def test_the_role_that_runs_least_is_next_and_in_it_the_pool_that_does() -> None:
    def work() -> None:
        door = Admission(running=2, scripts=99)
        greedy = [door.ask(Applicant(number, "greedy", "batch")) for number in range(10)]
        interactive = door.ask(Applicant(50, "greedy", "quick"))
        modest = [door.ask(Applicant(100 + number, "modest")) for number in range(3)]
        assert door.running == 2 and door.by_pool() == {"batch": (2, 8), "default": (0, 3), "quick": (0, 1)}
        assert list(door.positions())[:4] == [modest[0], modest[1], interactive, modest[2]]
        door.leave(greedy[0])
        assert modest[0].inside, "it runs nothing, the other one"
        door.leave(greedy[1])
        assert interactive.inside, "one each; the role served longer ago, and of its pools the one in which it runs nothing"
        door.leave(interactive)
        assert greedy[2].inside and not modest[1].inside
        door.leave(modest[0])
        assert modest[1].inside and not greedy[3].inside
        door.leave(greedy[2])
        assert greedy[3].inside

    in_a_loop(work)


def test_a_pool_is_full_by_itself_and_processes_count() -> None:
    def work() -> None:
        door = Admission(running=9, scripts=99)
        one = door.ask(Applicant(1, "a", "narrow", 3, 2))
        two = door.ask(Applicant(2, "a", "narrow", 3, 64))
        three = door.ask(Applicant(3, "b", "narrow", 3, 1))
        other = door.ask(Applicant(4, "a", "wide"))
        assert inside(one, two, three, other) == [True, True, False, True]
        assert (one.processes, two.processes) == (2, 1), "it gets what is free"
        door.leave(one)
        assert three.inside and three.processes == 1
        assert door.ask(Applicant(5, "a", "narrow", 3, 9)).processes == 1
        four = door.ask(Applicant(6, "a", "narrow", 3))
        assert not four.inside
        assert door.ask(Applicant(7, "b", "narrow", 5)).inside, "the pool was given more places"
        assert four.inside

    in_a_loop(work)


def test_of_one_role_no_more_run_than_said() -> None:
    def work() -> None:
        door = Admission(running=4, scripts=99, of_role=3)
        turns = [door.ask(Applicant(number, "greedy")) for number in range(5)]
        assert inside(*turns) == [True, True, True, False, False]
        assert door.ask(Applicant(9, "modest")).inside

    in_a_loop(work)


def test_a_role_beyond_its_share_gives_up_its_newest_script_for_another_role() -> None:
    def work() -> None:
        door = Admission(running=2, scripts=10, share=0.5)
        greedy = [door.ask(Applicant(number, "greedy")) for number in range(10)]
        with pytest.raises(errors.TooManyScripts):
            door.ask(Applicant(11, "greedy"))
        modest = door.ask(Applicant(12, "modest"))
        assert not modest.inside and door.running + door.waiting == 10
        evicted = greedy[9].called
        assert evicted is not None and isinstance(evicted.exception(), errors.TooManyScripts)
        door.leave(greedy[9])
        assert door.running + door.waiting == 10
        assert door.positions()[modest] == 1
        for number in range(4):
            door.ask(Applicant(20 + number, "modest"))
        with pytest.raises(errors.TooManyScripts):  # both have their half
            door.ask(Applicant(30, "modest"))
        with pytest.raises(errors.TooManyScripts):
            door.ask(Applicant(31, "third"))

    in_a_loop(work)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 2), st.integers(1, 4)), max_size=60),
    st.integers(1, 4),
)
def test_whatever_comes_and_goes_nothing_is_lost_and_no_room_is_left_unused(
    moves: list[tuple[int, int, int, int]], running: int
) -> None:
    def work() -> None:
        door = Admission(running=running, scripts=12)
        turns: list[Turn] = []
        for number, (what, role, pool, processes) in enumerate(moves):
            if what and turns:
                door.leave(turns.pop(number % len(turns)))
            else:
                try:
                    turns.append(door.ask(Applicant(number, f"role {role}", f"pool {pool}", pool or None, processes)))
                except errors.TooManyScripts:
                    assert len(turns) >= 12
            for turn in list(turns):
                if turn.called is not None and turn.called.done() and turn.called.exception() is not None:
                    turns.remove(turn)
            assert (door.running, door.waiting) == (sum(inside(*turns)), len(turns) - sum(inside(*turns)))
            assert door.running <= running and sorted(door.positions().values()) == list(range(1, door.waiting + 1))
            for pool_ in (1, 2):
                inside_it = [turn for turn in turns if turn.inside and turn.applicant.pool == f"pool {pool_}"]
                used = sum(turn.processes for turn in inside_it)
                assert used <= pool_
                waits = any(not turn.inside and turn.applicant.pool == f"pool {pool_}" for turn in turns)
                assert not waits or used == pool_ or door.running == running
        for turn in turns:
            door.leave(turn)
        assert (door.running, door.waiting, door.by_pool(), door.positions()) == (0, 0, {}, {})

    in_a_loop(work)


def test_turns_go_to_one_role_after_the_other() -> None:
    async def work() -> list[str]:
        turns, order = Turns(1, 1), []

        async def use(role: str) -> None:
            await turns.acquire(role)
            try:
                order.append(role)
                await asyncio.sleep(0)
            finally:
                turns.release(role)

        await turns.acquire("first")
        tasks = [asyncio.create_task(use(role)) for role in ["greedy"] * 5 + ["modest"] * 2 + ["gone"]]
        await asyncio.sleep(0)
        tasks[-1].cancel()
        turns.release("first")
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.wait_for(turns.acquire("last"), 1)
        return order

    assert asyncio.run(work()) == ["greedy", "modest", "greedy", "modest", "greedy", "greedy", "greedy"]


def test_a_turn_is_not_lost_with_who_is_cancelled_when_called() -> None:
    async def work() -> None:
        turns = Turns(1, 1)
        await turns.acquire("a")
        waiting = asyncio.create_task(turns.acquire("b"))
        await asyncio.sleep(0)
        turns.release("a")
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await asyncio.wait_for(turns.acquire("c"), 1)

    asyncio.run(work())


def test_a_role_with_no_turn_does_not_wait_for_the_turns_of_others() -> None:
    async def work() -> None:
        turns = Turns(2, 4)
        for role in ("greedy", "greedy", "modest", "third"):
            await asyncio.wait_for(turns.acquire(role), 1)
        fourth, more = asyncio.create_task(turns.acquire("fourth")), asyncio.create_task(turns.acquire("greedy"))
        await asyncio.sleep(0)
        assert not fourth.done() and not more.done(), "four are the most"
        turns.release("greedy")
        await asyncio.wait_for(fourth, 1)
        turns.release("modest")
        turns.release("third")
        await asyncio.sleep(0)
        assert not more.done(), "two are at work still"
        turns.release("fourth")
        await asyncio.wait_for(more, 1)

    asyncio.run(work())
