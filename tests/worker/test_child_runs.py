"""Child runs between a script and the worker: what is counted on both sides, and what the worker does not believe."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from dbml import errors
from dbml.worker.child_ids import MOST_CHILDREN
from dbml.worker.child_runs import ChildRuns
from dbml.worker.run import Run
from dbml.worker.secret_params import Secrets

RUN_ID = "5d0a4f0e-6d0c-4b6e-9a55-4f5d2f3e1a11"


def nobody() -> Any:
    raise EOFError


def test_children_are_limited_in_the_script_and_in_the_worker() -> None:
    said: list[dict[str, Any]] = []
    written: list[str] = []
    unfinished: set[str] = set()

    async def note(what: str, work: Any, *, size: int) -> None:
        written.append(what)

    async def take() -> None:
        children = ChildRuns(lambda: RUN_ID, Secrets({}), unfinished, note)
        for head in said:
            await children.take(head)
        assert {children.find({"child": head["child"]}).run_id for head in said} == unfinished == {each.id for each in begun}
        with pytest.raises(errors.LimitExceeded, match="10000 child runs"):
            await children.take({**said[0], "child": "another"})

    run = Run({"run_id": RUN_ID}, said.append, nobody)
    begun = [run.begin_child("first")]
    begun += [begun[0].begin_child() for _ in range(MOST_CHILDREN - 1)]
    for one in (run, begun[0]):
        with pytest.raises(errors.LimitExceeded, match="10000 child runs"):
            one.begin_child()
    asyncio.run(take())
    assert written == ["child runs"] and len(unfinished) == MOST_CHILDREN


@pytest.mark.parametrize(
    ("head", "error"),
    [
        ({"tag": "metric", "child": "none"}, errors.ProtocolMismatch), ({"tag": "child", "child": "known"}, errors.ProtocolMismatch),
        ({"tag": "child", "child": 1}, errors.ProtocolMismatch), ({"tag": "child", "parent": "none"}, errors.ProtocolMismatch),
        ({"tag": "end_child", "child": "known", "status": "running"}, errors.ProtocolMismatch),
        ({"tag": "tags", "child": "known", "tags": {"a": "b" * (16 << 20)}}, errors.LimitExceeded),
    ],
)  # fmt: skip
def test_what_the_worker_does_not_take_from_a_script(head: Mapping[str, Any], error: type[Exception]) -> None:
    async def take() -> None:
        children = ChildRuns(lambda: RUN_ID, Secrets({}), set(), nobody)
        new: dict[str, Any] = {"tag": "child", "child": "known", "parent": None, "name": None, "tags": {}}
        await children.take(new)
        with pytest.raises(error):
            await children.take({**new, "child": "new", **head})

    asyncio.run(take())
