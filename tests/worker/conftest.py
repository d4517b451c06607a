"""A real zygote for the tests of processes, and the router's half of a script's conversation."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import os
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

from dbml import errors
from dbml.worker.processes import Child, Exit, Zygote
from dbml.worker.sandbox import Limits
from dbml.worker.zygote_process import ChildLost

from ..privileges import open_way

T = TypeVar("T")
Frame = tuple[dict[str, Any], bytes]


def ints(*values: int) -> bytes:
    """One chunk of one int8 column."""
    return b"\n" + b"".join(value.to_bytes(8, "big", signed=True) for value in values).hex().encode()


@dataclass
class Outcome:
    """What came of a script."""

    frames: list[Frame] = field(default_factory=list)
    error: errors.DbmlError | None = None
    lost: str | None = None
    exit: Exit | None = None
    pid: int = 0
    scratch: str = ""

    def tagged(self, tag: str) -> list[Frame]:
        return [frame for frame in self.frames if frame[0]["tag"] == tag]

    @property
    def printed(self) -> str:
        return b"".join(body for _, body in self.tagged("notice")).decode()

    @property
    def columns(self) -> list[str]:
        """The literals of each column, of all chunks."""
        columns: list[str] = []
        for head, body in self.tagged("frame"):
            start = 0
            for position, size in enumerate(head["sizes"]):
                text = body[start : start + size].decode()
                start += size
                if position < len(columns):
                    columns[position] += text
                else:
                    columns.append(text)
        return columns

    @property
    def done(self) -> dict[str, Any]:
        assert self.error is None and self.lost is None, (self.error, self.error and self.error.context, self.lost)
        return self.tagged("done")[0][0]


class House:
    """A zygote, and scripts run in it from synchronous tests."""

    def __init__(self, runtime: Path) -> None:
        open_way(runtime)
        self.runtime = runtime
        self.runner = asyncio.Runner()
        self.zygote = Zygote(str(runtime), Limits())
        self.run(self.zygote.start())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def script(self, text: str, **options: Any) -> Outcome:
        return self.run(self.converse(text, **options))

    async def converse(
        self,
        text: str,
        *,
        inputs: list[dict[str, Any]] | None = None,
        rows: list[tuple[int, int, bytes]] | None = None,
        params: dict[str, Any] | None = None,
        expected: list[tuple[str, str]] | None = None,
        result: str = "table",
        limits: Limits | None = None,
        language: str = "python",
        answer: Callable[[Child, dict[str, Any], list[bytes]], Coroutine[Any, Any, None]] | None = None,
        during: Callable[[Child], Coroutine[Any, Any, None]] | None = None,
    ) -> Outcome:
        """Run a script to its end.

        rows: (input, number, chunk).  answer: called at "load", and at "register" with its parts.
        during: runs beside the script.
        """
        child = await self.zygote.fork("satellite", limits or Limits(), language)
        outcome = Outcome(pid=child.pid, scratch=child.scratch)
        listed = [{"name": f"column {i}", "type": type_, "kind": kind} for i, (type_, kind) in enumerate(expected or [])]
        call = {
            "tag": "call",
            "run_id": "7",
            "script": text,
            "params": params or {},
            "inputs": inputs or [],
            "output_name": "OutputDataSet",
            "expected": listed if expected is not None else None,
            "result": result,
            "workspace": "default",
            "experiment": "trials",
            "user": "someone",
        }
        beside = asyncio.create_task(during(child)) if during else None
        try:
            await child.send(call)
            for number, n, body in rows or []:
                await child.send({"tag": "rows", "input": number, "n": n}, body)
            await child.send({"tag": "run"})
            while True:
                head, body = await child.receive()
                outcome.frames.append((head, body))
                if head["tag"] == "error":
                    outcome.error = errors.from_fields(head)
                    break
                if head["tag"] == "done":
                    break
                if head["tag"] == "load" and answer:
                    await answer(child, head, [])
                if head["tag"] == "register":
                    parts = []
                    while (part := await child.receive())[0]["tag"] == "part":
                        parts.append(part[1])
                    assert hashlib.sha256(b"".join(parts)).hexdigest() == head["digest"]
                    if answer:
                        await answer(child, head, parts)
        except ChildLost as lost:
            outcome.lost = str(lost)
        finally:
            if beside:
                await beside
        outcome.exit = await asyncio.wait_for(child.exited(), 10)
        return outcome

    def close(self) -> None:
        self.run(self.zygote.stop())
        self.runner.close()


@pytest.fixture(autouse=True)
def ways(tmp_path: Path) -> None:
    """Where no namespace gives a script its scratch directory, the account that it has must come to it."""
    open_way(tmp_path)


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A zygote for the session; its own environment holds what no child may see."""
    os.environ["DBML_DSN"] = "postgresql://somebody:secret-of-the-router@localhost/x"
    made = House(tmp_path_factory.mktemp("runtime"))
    del os.environ["DBML_DSN"]
    yield made
    made.close()


@pytest.fixture
def small() -> Limits:
    """Limits that a test reaches at once."""
    return dataclasses.replace(Limits(), memory_mb=256, scratch_mb=1, open_files=64, output_mb=1)


@pytest.fixture
def one_column() -> Callable[..., dict[str, Any]]:
    """Options of a script with one input of one bigint column."""

    def make(*values: int, name: str = "InputDataSet") -> dict[str, Any]:
        columns = [{"name": "x", "type": "bigint", "kind": "int8"}]
        rows = [(0, len(values), ints(*values))] if values else []
        return {"inputs": [{"name": name, "columns": columns}], "rows": rows}

    return make
