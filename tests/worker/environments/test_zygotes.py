"""Which environments run: started when used, no more than allowed, ended when unused."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dbml import errors
from dbml.worker.environments import zygotes as module
from dbml.worker.environments.builder import Builder, Reference
from dbml.worker.environments.resolver import resolve
from dbml.worker.environments.uv import Uv
from dbml.worker.environments.zygotes import EnvironmentNeeded, Zygotes
from dbml.worker.sandbox import Limits

from ... import wheels
from ...privileges import open_way

PTH = "import os; os.environ['RAN_IN'] = str(os.getpid())\n"


@pytest.fixture(scope="session")
def two(servers: Any, wheelhouse: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Uv, list[dict[str, Any]]]:
    """Two built environments, one with a package whose start-up file tells where it ran, and how requests name them."""
    folder = tmp_path_factory.mktemp("links")
    wheels.write(folder, "starter", "1.0", {"starter.pth": PTH, "json.py": "raise AssertionError('the library comes first')"})
    wheels.write(folder, "other", "1.0")
    uv = Uv(servers.folder / "cache", (str(wheelhouse), str(folder)), no_index=True)

    async def build(spec: str, version: int) -> dict[str, Any]:
        made = await resolve(spec, None, uv, lambda line: None)
        given = {
            "id": version,
            "name": "e",
            "version": version,
            "python_version": made.python_version,
            "lock_sha256": made.lock_sha256,
        }
        runtime = tmp_path_factory.mktemp("runtime")
        open_way(runtime)
        builder = Builder(uv, runtime / "code")
        builder.prepare()
        await builder.build(Reference.of(given), made.lock).result()
        return given

    return uv, [asyncio.run(build(spec, version)) for version, spec in enumerate(("starter", "other"), start=1)]


@pytest.fixture
def start(two: Any, house: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Make a pool of zygotes; it is stopped at the end."""
    monkeypatch.setattr(module, "QUIET_S", 0.0)
    monkeypatch.setattr(module, "PATIENCE_S", 0.5)
    made: list[Zygotes] = []

    def make(most: int = 2, idle_s: float = 60.0) -> Zygotes:
        builder = Builder(two[0], tmp_path / "code")
        pool = Zygotes(house.zygote, builder, str(tmp_path), Limits(), Limits(), 1, most=most, idle_s=idle_s)
        house.run(started(pool))
        made.append(pool)
        return pool

    async def started(pool: Zygotes) -> None:
        pool.start()

    yield make
    for pool in made:
        house.run(pool.stop())


def is_running(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    return False


async def until(condition: Any) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


def test_none_is_the_workers_own(start: Any, house: Any) -> None:
    pool = start(most=0)
    lease = house.run(pool.enter(None))
    assert lease.zygote is house.zygote and pool.status() == []
    lease.release()


def test_one_that_is_not_built_is_asked_for(start: Any, two: Any, house: Any) -> None:
    with pytest.raises(EnvironmentNeeded):
        house.run(start().enter(two[1][0] | {"lock_sha256": "0" * 64}))


def test_a_zygote_runs_an_environments_own_interpreter(start: Any, two: Any, house: Any) -> None:
    pool = start()
    lease = house.run(pool.enter(two[1][0]))
    (shown,) = pool.status()
    assert shown["environment"] == "e:1" and shown["calls"] == 1 and shown["pid"] == lease.zygote.pid
    command = Path(f"/proc/{lease.zygote.pid}/cmdline").read_bytes().split(b"\0")
    assert command[0].decode() == str(pool.builder.directory(Reference.of(two[1][0])) / "bin" / "python")
    own, house.zygote = house.zygote, lease.zygote
    try:
        outcome = house.script(
            "import json, os, sys\nfrom importlib import metadata\n"
            "print(os.environ.get('RAN_IN') == str(os.getpid()), metadata.version('starter'), sys.prefix)\n"
            "try:\n    import pytest\nexcept ModuleNotFoundError as error:\n    print(error)\n"
            "import subprocess; print(subprocess.run([sys.executable, '-c', 'import numpy'], capture_output=True).returncode)\n"
            "exit"
        )
    finally:
        house.zygote = own
    printed = outcome.printed.splitlines()
    assert outcome.done is not None
    assert printed == [
        f"True 1.0 {pool.builder.directory(Reference.of(two[1][0]))}", "No module named 'pytest'", "0",
    ]  # fmt: skip
    lease.release()
    lease.release()
    assert pool.status()[0]["calls"] == 0


def test_the_longest_unused_one_gives_way(start: Any, two: Any, house: Any) -> None:
    pool = start(most=1)
    first = house.run(pool.enter(two[1][0]))
    pid = first.zygote.pid
    with pytest.raises(errors.LimitExceeded, match="no more than 1 environments may run at a time") as caught:
        house.run(pool.enter(two[1][1]))
    assert caught.value.detail == {"limit": "environments", "value": 1} and "--environments" in str(caught.value.hint)
    first.release()
    second = house.run(pool.enter(two[1][1]))
    assert [shown["environment"] for shown in pool.status()] == ["e:2"]
    house.run(until(lambda: not is_running(pid)))
    second.release()


def test_one_who_waits_gets_the_place_that_becomes_free(
    start: Any, two: Any, house: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 30.0)
    pool = start(most=1)

    async def wait() -> str:
        first = await pool.enter(two[1][0])
        waiting = asyncio.create_task(pool.enter(two[1][1]))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        first.release()
        (await waiting).release()
        return str(pool.status()[0]["environment"])

    assert house.run(wait()) == "e:2"


def test_none_may_run_where_the_limit_is_zero(start: Any, two: Any, house: Any) -> None:
    with pytest.raises(errors.LimitExceeded, match="no more than 0 environments"):
        house.run(start(most=0).enter(two[1][0]))


def test_an_unused_one_is_shut_down_and_starts_again(start: Any, two: Any, house: Any) -> None:
    pool = start(idle_s=0.2)
    lease = house.run(pool.enter(two[1][0]))
    pid = lease.zygote.pid
    house.run(asyncio.sleep(0.6))
    assert is_running(pid), "somebody uses it"
    lease.release()
    house.run(until(lambda: pool.status() == [] and not is_running(pid)))
    again = house.run(pool.enter(two[1][0]))
    assert again.zygote.pid != pid and is_running(again.zygote.pid)
    again.release()


def test_two_versions_of_one_lock_are_one_process(start: Any, two: Any, house: Any) -> None:
    pool = start(most=1)
    leases = [house.run(pool.enter(given)) for given in (two[1][0], two[1][0] | {"name": "twin", "version": 9})]
    assert leases[0].zygote is leases[1].zygote and pool.status()[0]["calls"] == 2
    for lease in leases:
        lease.release()


def test_one_that_does_not_start_says_so_and_leaves_no_place_taken(start: Any, two: Any, house: Any) -> None:
    pool = start(most=1)
    given = two[1][0] | {"lock_sha256": "1" * 64}
    directory = pool.builder.directory(Reference.of(given))
    (directory / "bin").mkdir(parents=True)
    (directory / "dbml.json").write_text("{}")
    (directory / "bin" / "python").symlink_to("/bin/false")
    with pytest.raises(errors.EnvironmentBuildFailed, match="environment e:1 does not start"):
        house.run(pool.enter(given))
    assert pool.status() == []
    house.run(pool.enter(two[1][1])).release()


def test_a_stopped_pool_leaves_no_process(start: Any, two: Any, house: Any) -> None:
    pool = start()
    leases = [house.run(pool.enter(given)) for given in two[1]]
    pids = [lease.zygote.pid for lease in leases]
    house.run(pool.stop())
    assert not any(is_running(pid) for pid in pids) and pool.status() == []
