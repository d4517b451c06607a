"""The zygote: what it is, what becomes of it, and how fast it forks."""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from dbml.worker import processes
from dbml.worker.processes import Child, Exit, Zygote
from dbml.worker.sandbox import Limits
from dbml.worker.zygote_process import ChildLost

from ..privileges import looks_into_others


def own(tmp_path: Path, work: Any) -> None:
    """Run a test with a zygote of its own."""

    async def all_of_it() -> None:
        zygote = Zygote(str(tmp_path), Limits())
        await zygote.start()
        try:
            await work(zygote)
        finally:
            await zygote.stop()

    asyncio.run(all_of_it())


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_gone(*pids: int) -> None:
    deadline = time.monotonic() + 3
    while not all(gone(pid) for pid in pids):
        assert time.monotonic() < deadline, [pid for pid in pids if not gone(pid)]
        time.sleep(0.01)


def test_one_thread_and_an_environment_of_its_own(house: Any) -> None:
    process = psutil.Process(house.zygote.pid)
    assert process.num_threads() == 1
    if looks_into_others():  # the others may not, which is the point
        environ = process.environ()
        assert "DBML_DSN" not in environ and not any("secret" in value for value in environ.values())
        assert all(Path(path).is_absolute() for path in environ["PYTHONPATH"].split(os.pathsep))
        inherited = [str(entry.readlink()) for entry in Path(f"/proc/{process.pid}/fd").iterdir()]
        assert sum(name.startswith("socket:") for name in inherited) == 1


def test_a_module_beside_the_scratch_directories_is_not_imported(house: Any, tmp_path: Path) -> None:
    (tmp_path / "numpy.py").write_text("raise SystemExit('imported from the runtime directory')")

    async def work(zygote: Zygote) -> None:
        assert zygote.pid is not None

    own(tmp_path, work)


def test_it_ends_with_its_children_when_it_is_told(tmp_path: Path) -> None:
    pids: list[int] = []

    async def work(zygote: Zygote) -> None:
        child = await zygote.fork("satellite", Limits())
        scorer = await zygote.fork("scorer", Limits())
        pids.extend([child.pid, scorer.pid, zygote.pid or 0])
        if child.scratch.startswith(str(tmp_path)):  # else it is a file system of the child alone
            assert Path(child.scratch).stat().st_mode & 0o777 == 0o700

    own(tmp_path, work)
    wait_gone(*pids)
    assert [*tmp_path.glob("satellite-*"), *tmp_path.glob("scorer-*")] == []


def test_it_is_started_again_when_it_was_killed(tmp_path: Path) -> None:
    async def work(zygote: Zygote) -> None:
        former = zygote.pid
        child = await zygote.fork("satellite", Limits())
        os.kill(former or 0, signal.SIGKILL)
        with pytest.raises(ChildLost, match="SIGKILL"):
            await child.receive()
        wait_gone(child.pid)
        again = await zygote.fork("satellite", Limits())
        assert zygote.pid != former and not again.is_over
        assert not Path(child.scratch).exists()
        spare = await zygote.satellite()
        os.kill(zygote.pid or 0, signal.SIGKILL)
        with pytest.raises(ChildLost):
            await spare.receive()
        assert not (await zygote.satellite()).is_over

    own(tmp_path, work)


def test_another_stands_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "STANDBY_AFTER_S", 0.1)
    monkeypatch.setattr(processes, "STANDBY_AGAIN_S", 0.1)
    pids: list[int] = []

    async def all_of_it() -> None:
        zygote = Zygote(str(tmp_path), Limits())
        zygote.keep_standby()
        await zygote.start()

        async def standby(*former: int | None) -> int:
            while zygote.standby in (None, *former):
                await asyncio.sleep(0.01)
            assert zygote.standby is not None
            pids.append(zygote.standby)
            return zygote.standby

        try:
            first = await standby()
            os.kill(first, signal.SIGKILL)
            second = await standby(first)  # one that dies is replaced
            child = await zygote.satellite()
            os.kill(zygote.pid or 0, signal.SIGKILL)
            with pytest.raises(ChildLost, match="SIGKILL"):
                await child.receive()
            again = await zygote.satellite()
            assert zygote.pid == second and not again.is_over
            await asyncio.wait_for(zygote.warm.wait(), 60)
            await standby(second)  # and what has taken the place has one in turn
            pids.append(again.pid)
        finally:
            await zygote.stop()

    asyncio.run(all_of_it())
    wait_gone(*pids)


def test_who_comes_before_all_is_imported_waits_for_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    warmed = Zygote._warmed
    monkeypatch.setattr(Zygote, "_warmed", lambda zygote: None)  # it imports for ever
    forked: list[Child] = []
    zygotes: list[int] = []

    async def crowd() -> None:
        zygote = Zygote(str(tmp_path), Limits())

        async def waiting() -> asyncio.Task[Child]:
            late = asyncio.create_task(zygote.satellite())
            done, _ = await asyncio.wait([late], timeout=0.2)
            assert not done
            return late

        try:
            for _ in range(processes.COLD_FORKS):
                forked.append(await zygote.satellite())
            zygotes.append(zygote.pid or 0)
            late = await waiting()
            os.kill(zygotes[0], signal.SIGKILL)
            forked.append(await asyncio.wait_for(late, 60))  # of the next one, to which it comes first
            assert zygote.pid not in zygotes and not forked[-1].is_over
            for _ in range(processes.COLD_FORKS - 1):
                forked.append(await zygote.satellite())
            late = await waiting()
            warmed(zygote)
            forked.append(await asyncio.wait_for(late, 60))
        finally:
            for child in forked:
                await child.close()
            await zygote.stop()

    asyncio.run(crowd())
    wait_gone(*zygotes, *(child.pid for child in forked))


def test_everything_ends_with_the_router(tmp_path: Path) -> None:
    import subprocess
    import sys

    router = """
import asyncio, sys
from dbml.worker.processes import Zygote
from dbml.worker.sandbox import Limits
async def work():
    zygote = Zygote(sys.argv[1], Limits())
    await zygote.start()
    child = await zygote.fork("satellite", Limits())
    await child.send({"tag": "call", "run_id": "1", "script": "import os, time\\nif os.fork() == 0: os.setsid()\\ntime.sleep(600)", "params": {}, "inputs": [],
        "output_name": "O", "expected": None, "result": "table", "workspace": "w", "experiment": None, "user": "u"})
    await child.send({"tag": "run"})
    print(zygote.pid, child.pid, flush=True)
    await asyncio.sleep(600)
asyncio.run(work())
"""
    with subprocess.Popen([sys.executable, "-c", router, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            zygote, child = map(int, process.stdout.readline().split())
            deadline = time.monotonic() + 10
            while not (below := psutil.Process(child).children()):
                assert time.monotonic() < deadline
                time.sleep(0.01)
        finally:
            process.kill()
    wait_gone(zygote, child, below[0].pid)


def test_a_fork_that_is_given_up_leaves_nothing(house: Any) -> None:
    async def work() -> None:
        for _ in range(3):
            task = asyncio.create_task(house.zygote.fork("satellite", Limits()))
            await asyncio.sleep(0.001)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        deadline = time.monotonic() + 10
        while psutil.Process(house.zygote.pid).children() or [*house.runtime.glob("satellite-*")]:
            assert time.monotonic() < deadline, psutil.Process(house.zygote.pid).children()
            await asyncio.sleep(0.02)

    house.run(work())


def test_exits_say_how() -> None:
    assert str(Exit(11)) == "was killed by signal 11 (SIGSEGV)" and Exit(11).signal == 11 and Exit(11).code is None
    assert str(Exit(3 << 8)) == "ended with exit code 3 without finishing" and Exit(3 << 8).code == 3
    assert str(Exit(50)) == "was killed by signal 50"


def test_a_call_of_one_row_takes_milliseconds(house: Any, one_column: Any) -> None:
    """Loose bounds, for busy machines: the figures are in docs/decisions, the benchmark measures them."""

    async def fork_only() -> float:
        began = time.perf_counter()
        child = await house.zygote.fork("satellite", Limits())
        took = time.perf_counter() - began
        child.kill()
        await child.exited()
        return took

    forks = [house.run(fork_only()) for _ in range(7)]
    assert statistics.median(forks) < 0.1, forks
    calls = []
    for _ in range(7):
        began = time.perf_counter()
        outcome = house.script("OutputDataSet = InputDataSet * 2", **one_column(1), expected=[("bigint", "int8")])
        calls.append(time.perf_counter() - began)
        assert outcome.columns == ["{2}"]
    assert min(calls) < 0.2, calls
