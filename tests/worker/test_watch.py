"""The watch and what it looks at: trees of real processes, their memory, their files, and spares for the limits of pools."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dbml.worker import processes
from dbml.worker.pools import Pool
from dbml.worker.processes import Zygote
from dbml.worker.sandbox import Limits
from dbml.worker.usage import directory_bytes, is_full, own_kb, tree, usage_of_tree, written_kb
from dbml.worker.watch import Watched

from .conftest import House


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A zygote of these tests' own: it keeps spares, and other tests count what is left."""
    made = House(tmp_path_factory.mktemp("runtime"))
    yield made
    made.close()


FAMILY = """
import os, sys, time
shared = bytearray(b"x") * (40 << 20)
children = []
for number in range(3):
    if os.fork() == 0:
        own = bytearray(b"y") * (10 << 20)
        if number == 0 and os.fork() == 0:
            os.setsid()
        os.write(1, bytes("ready", "ascii") + bytes([10]))
        time.sleep(60)
        os._exit(0)
os.write(1, bytes("ready", "ascii") + bytes([10]))
time.sleep(60)
"""


def until(probe: Callable[[], Any], seconds: float = 10) -> Any:
    end = time.monotonic() + seconds
    while not (found := probe()):
        assert time.monotonic() < end, "it must come in time"
        time.sleep(0.02)
    return found


def test_a_family_is_seen_and_what_it_shares_counts_once() -> None:
    with subprocess.Popen([sys.executable, "-c", FAMILY], stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        try:
            for _ in range(5):
                assert process.stdout.readline() == b"ready\n"
            pids = tree(process.pid)
            assert len(pids) == 5 and pids[0] == process.pid
            taken = usage_of_tree(process.pid)
            assert taken.processes == 5 and taken.tasks >= 5 and taken.cpu_seconds > 0
            assert taken.memory_mb > 5 * 40 + 40, "shared pages for each"
            assert 70 << 10 < own_kb(process.pid, 0) < 110 << 10, "40 once, and 10 of each child"
            inherited = own_kb(pids[1], process.pid)
            assert inherited < 40 << 10, "what it was forked with is not its own"
        finally:
            for pid in reversed(tree(process.pid)):
                os.kill(pid, 9)
    assert written_kb(process.pid) == 0 and own_kb(process.pid, process.pid) == 0


PROGRAM = """
import os, time
if os.geteuid() == 0:
    os.setuid(65534)
b = bytearray(b"x") * (40 << 20)
os.write(1, b"ready" + bytes([10]))
time.sleep(60)
"""
EXECUTED = """
import os, sys, time
b = bytearray(b"x") * (80 << 20)
if os.fork() == 0:
    if os.fork() == 0:
        os.execv(sys.executable, [sys.executable, "-c", sys.argv[1]])
    if os.geteuid() == 0:
        os.setuid(65534)
    os.write(1, b"ready" + bytes([10]))
time.sleep(60)
"""


def test_the_memory_of_a_program_that_was_executed_is_all_its_own() -> None:
    """Also where the kernel does not let us look at it: root in a container, at another account's (tests/docker)."""
    with subprocess.Popen([sys.executable, "-c", EXECUTED, PROGRAM], stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        try:
            for _ in range(2):
                assert process.stdout.readline() == b"ready\n"
            zygote, fork, program = tree(process.pid)
            assert 40 << 10 < own_kb(program, zygote) < 60 << 10
            assert 40 << 10 < own_kb(fork, zygote) < 60 << 10, "and nothing of the other's"
        finally:
            for pid in reversed(tree(process.pid)):
                os.kill(pid, 9)


def test_files_are_counted_and_links_not_followed(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_bytes(bytes(1 << 20))
    (tmp_path / "c").write_bytes(bytes(1 << 20))
    (tmp_path / "link").symlink_to("/usr")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert 2 << 20 <= directory_bytes(str(tmp_path), 1 << 40) < 3 << 20
    assert directory_bytes(str(tmp_path), 1 << 10) > 1 << 10, "it stops when it is too much"
    assert directory_bytes("/not/there", 1) == 0
    assert is_full("/proc/self") is False and is_full("/not/there") is False


def test_what_is_over_a_limit_is_named(house: Any, tmp_path: Path) -> None:
    """A directory for files, as where there is no file system for each script."""

    async def work(limits: Limits) -> Any:
        child = await house.zygote.satellite(limits=limits)
        child.files = str(tmp_path)
        try:
            return await asyncio.to_thread(Watched(child, Pool("p", limits), "python").look)
        finally:
            child.kill()

    limits = Limits(scratch_mb=1)
    assert house.run(work(limits)) is None
    for number in range(3):
        (tmp_path / str(number)).write_bytes(bytes(1 << 19))
    error = house.run(work(limits))
    assert error.message == "the script's files are larger than scratch_mb = 1 allows"
    assert error.detail == {"limit": "scratch_mb", "value": 1, "pool": "p"}


def test_spares_are_kept_for_limits_in_use_and_given_up(house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "SPARE_IDLE_S", 1.0)
    monkeypatch.setattr(processes, "MOST_SPARES", 2)
    zygote: Zygote = house.zygote
    one, two, three = (replace(Limits(), memory_mb=number) for number in (101, 102, 103))

    async def use(limits: Limits | None) -> int:
        child = await zygote.satellite(limits=limits)
        pid = child.pid
        child.kill()
        await child.exited()
        return pid

    async def work() -> None:
        await asyncio.wait_for(zygote.warm.wait(), 60)  # before that none is forked ahead
        await use(None)
        for limits in (one, two, three):
            await use(limits)
        kept = [limits.memory_mb for _, limits in zygote._spares]
        assert kept == [Limits().memory_mb, 102, 103], "no more than so many, the longest unused first"
        ahead = (await zygote._spares["python", three]).pid
        assert await use(three) == ahead, "it was ready"
        last = [(await spare).pid for key, spare in list(zygote._spares.items()) if key[1] != Limits()]
        await asyncio.sleep(1.5)
        assert [limits for _, limits in zygote._spares] == [Limits()], "given up when nobody wants them"
        end = time.monotonic() + 10
        while any(Path(f"/proc/{pid}").exists() for pid in last):
            assert time.monotonic() < end
            await asyncio.sleep(0.02)

    house.run(work())
