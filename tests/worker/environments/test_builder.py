"""Building: once, whole or not at all, from files that are what the lock says."""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import dbml
from dbml import errors
from dbml.worker.environments.builder import COMPLETE, Builder, Reference
from dbml.worker.environments.resolver import digest, resolve
from dbml.worker.environments.uv import Uv

from ... import wheels

HERE = ".".join(platform.python_version_tuple()[:2])


def reference(lock: str, python: str = HERE) -> Reference:
    return Reference("e", 1, python, digest(lock))


@pytest.fixture
def real(servers: Any, wheelhouse: Path, few: Path) -> Uv:
    """The uv of a worker with real packages; what these tests have built is gone, what uv has unpacked is not."""
    for version in ("1.0", "2.0"):
        wheels.write(few, "tiny", version, {"tiny.py": f"VERSION = {version!r}  # {few}\n"})
    cache = servers.folder / "cache-of-builders"
    shutil.rmtree(cache / "environments", ignore_errors=True)
    return Uv(cache, (str(wheelhouse), str(few)), no_index=True)


def locked(run: Any, uv: Uv, spec: str) -> str:
    return str(run(resolve(spec, None, uv, lambda line: None)).lock)


async def build(builder: Builder, lock: str) -> list[str]:
    follower = builder.build(reference(lock), lock)
    said = []
    while lines := await follower.lines():
        said += lines
    await follower.result()
    return said


def left(uv: Uv) -> list[str]:
    return [path.name for path in (uv.directory / "environments").glob(".*")]


def test_two_locks_share_their_files(run: Any, real: Uv, tmp_path: Path) -> None:
    builder = Builder(real, tmp_path / "code")
    builder.prepare()
    places = []
    for spec in ("tiny==1", "tiny==2"):
        lock = locked(run, real, spec)
        assert not builder.is_built(reference(lock))
        said = run(build(builder, lock))
        assert builder.is_built(reference(lock))
        assert said[0].startswith("building environment e:1 for Python ") and said[-1] == "environment e:1 is built"
        assert run(build(builder, lock)) == [], "it is there"
        interpreter = builder.interpreter(reference(lock))
        shown = subprocess.run(
            [interpreter.python, "-P", "-c", "import tiny, numpy; print(tiny.VERSION, numpy.__file__)"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        version, place = shown.stdout.split()
        assert version == f"{spec[-1]}.0" and place.startswith(str(builder.directory(reference(lock))))
        places.append(Path(place).stat().st_ino)
        names = {path.name for path in Path(interpreter.path).iterdir()}
        info = f"dbml-{dbml.__version__}.dist-info"
        assert names == {"dbml", info}, "of the worker's own modules an environment sees dbml alone, and what tells of it"
    assert places[0] == places[1], "hard links to one file"
    assert left(real) == []


def test_several_who_need_it_wait_for_one_build(run: Any, real: Uv, tmp_path: Path) -> None:
    builder = Builder(real, tmp_path / "code")
    builder.prepare()
    wheels.write(Path(real.find_links[1]), "fresh", "1.0", {"fresh.py": f"# {tmp_path}"})
    lock = locked(run, real, "fresh")

    async def together() -> None:
        followers = [builder.build(reference(lock), lock) for _ in range(3)]
        assert len({id(follower._work) for follower in followers}) == 1
        followers[0].leave()  # whoever came first may go
        for follower in followers[1:]:
            while await follower.lines():
                pass
            await follower.result()

    run(together())
    assert builder.is_built(reference(lock))


def test_other_bytes_than_the_locks_are_refused(run: Any, uv: Uv, links: Path, tmp_path: Path) -> None:
    lock = locked(run, uv, "tiny==1")
    wheels.write(links, "tiny", "1.0", {"tiny.py": "VERSION = 'something else, under the same name'\n"})
    elsewhere = Uv(tmp_path / "elsewhere", uv.find_links, no_index=True)  # whose cache does not have the right bytes
    builder = Builder(elsewhere, tmp_path / "code")
    builder.prepare()
    with pytest.raises(errors.EnvironmentBuildFailed, match=r"Hash mismatch for `tiny==1\.0`") as caught:
        run(build(builder, lock))
    assert caught.value.message.startswith("environment e:1 cannot be built: ")
    assert not builder.is_built(reference(lock)) and left(elsewhere) == []


def test_a_lock_is_what_its_digest_says(uv: Uv, tmp_path: Path) -> None:
    with pytest.raises(errors.InvalidArgument, match="does not match its digest"):
        Builder(uv, tmp_path / "code").build(reference("one"), "another")


def test_a_lock_without_hashes_is_refused(run: Any, uv: Uv, tmp_path: Path) -> None:
    builder = Builder(uv, tmp_path / "code")
    builder.prepare()
    with pytest.raises(errors.EnvironmentBuildFailed, match="--require-hashes"):
        run(build(builder, "tiny==1.0\n"))


def test_files_that_are_gone_are_named(run: Any, uv: Uv, links: Path, tmp_path: Path) -> None:
    builder = Builder(uv, tmp_path / "code")
    builder.prepare()
    lock = locked(run, uv, "tiny==1")
    (links / "tiny-1.0-py3-none-any.whl").unlink()
    with pytest.raises(errors.EnvironmentBuildFailed, match="tiny") as caught:
        run(build(builder, lock))
    assert "--find-links" in str(caught.value.hint)


def test_packages_that_dbml_does_not_run_with_are_named(run: Any, uv: Uv, tmp_path: Path) -> None:
    builder = Builder(uv, tmp_path / "code")
    builder.prepare()
    lock = locked(run, uv, "tiny")  # with hollow wheels of what dbml needs
    with pytest.raises(errors.EnvironmentBuildFailed, match="dbml does not run with these packages: ModuleNotFoundError"):
        run(build(builder, lock))
    assert not builder.is_built(reference(lock)) and left(uv) == []


def test_a_python_that_is_gone_is_named(run: Any, uv: Uv, tmp_path: Path) -> None:
    builder = Builder(uv, tmp_path / "code")
    builder.prepare()
    lock = locked(run, uv, "tiny")

    async def elsewhere() -> None:
        follower = builder.build(reference(lock, "3.11.99"), lock)
        while await follower.lines():
            pass
        await follower.result()

    with pytest.raises(errors.EnvironmentBuildFailed, match=r"Python 3\.11\.99 must be on the worker's machine"):
        run(elsewhere())


def test_a_build_that_nobody_waits_for_ends_and_leaves_nothing(run: Any, real: Uv, tmp_path: Path) -> None:
    builder = Builder(real, tmp_path / "code")
    builder.prepare()
    wheels.write(Path(real.find_links[1]), "fresh", "1.0", {"fresh.py": f"# {tmp_path}"})
    lock = locked(run, real, "fresh")

    async def leave() -> None:
        follower = builder.build(reference(lock), lock)
        assert await follower.lines()
        follower.leave()
        with contextlib.suppress(asyncio.CancelledError):
            await follower._work.task
        assert follower._work.task.cancelled()

    run(leave())
    assert not builder.is_built(reference(lock)) and left(real) == []
    run(build(builder, lock))
    assert builder.is_built(reference(lock)), "the next one builds it"


def test_what_a_killed_worker_left_is_deleted(uv: Uv, tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True)
    root = uv.directory / "environments"
    dead = root / f".abc-{HERE}-linux-x86_64-glibc.{ended.stdout.strip()}.00"
    living = root / f".abc-{HERE}-linux-x86_64-glibc.{os.getpid()}.00"
    for folder in (dead, living):
        (folder / "bin").mkdir(parents=True)
    Builder(uv, tmp_path / "code").prepare()
    assert not dead.exists() and living.exists()


def test_what_is_not_complete_or_lost_its_interpreter_is_not_built(uv: Uv, tmp_path: Path) -> None:
    builder = Builder(uv, tmp_path / "code")
    directory = builder.directory(reference("x"))
    (directory / "bin").mkdir(parents=True)
    (directory / "bin" / "python").symlink_to(sys.executable)
    assert not builder.is_built(reference("x"))
    (directory / COMPLETE).write_text("{}")
    assert builder.is_built(reference("x"))
    (directory / "bin" / "python").unlink()
    (directory / "bin" / "python").symlink_to("/nowhere/python")
    assert not builder.is_built(reference("x"))


@pytest.mark.parametrize("sha256", ["", "../../etc", "g" * 64, "A" * 64])
def test_a_reference_names_no_other_place(sha256: str) -> None:
    given = {"name": "e", "version": 1, "python_version": HERE, "lock_sha256": sha256}
    with pytest.raises(errors.ProtocolMismatch):
        Reference.of(given)
    assert re.fullmatch("[0-9a-f]{64}", digest("x"))


def test_an_installer_that_is_killed_is_told_and_leaves_nothing(run: Any, real: Uv, tmp_path: Path) -> None:
    builder = Builder(real, tmp_path / "code")
    builder.prepare()
    lock = locked(run, real, "tiny==1")

    async def kill() -> None:
        follower = builder.build(reference(lock), lock)
        assert await follower.lines()
        killed: set[str] = set()
        while not killed and not follower._work.task.done():
            for entry in Path("/proc").glob("[0-9]*/stat"):
                with contextlib.suppress(OSError):
                    name, _, rest = entry.read_text().partition(" (")[2].rpartition(") ")
                    if name == "uv" and rest.split()[1] == str(os.getpid()):
                        os.kill(int(entry.parent.name), signal.SIGKILL)
                        killed.add(entry.parent.name)
            await asyncio.sleep(0)
        await follower.result()

    with pytest.raises(errors.EnvironmentBuildFailed, match="uv was killed by signal 9"):
        run(kill())
    assert not builder.is_built(reference(lock)) and left(real) == []
