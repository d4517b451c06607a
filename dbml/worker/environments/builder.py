"""The builder: a lock becomes a directory with an interpreter and the locked packages.

    <cache>/uv                                       uv's own cache: each file once
    <cache>/environments/<lock>-<python>-<platform>  hard links to it
    <cache>/environments/.<the same>.<pid>.<token>   one that is being built

Two environments of one lock are one directory.  A directory gets its name when it is complete, so what a killed build
leaves is never taken for an environment.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import platform
import secrets
import shutil
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import dbml
from dbml import errors
from dbml.worker.environments import bytecode, machine
from dbml.worker.environments.resolver import digest, own_words
from dbml.worker.environments.uv import Uv, UvFailed
from dbml.worker.environments.work import Follower, Say, Work
from dbml.worker.sandbox.layers import Sandbox
from dbml.worker.zygote_process import Interpreter, default_sandbox

COMPLETE = "dbml.json"


@dataclass(frozen=True)
class Reference:
    """One version of an environment, as a request names it."""

    name: str
    version: int
    python_version: str
    lock_sha256: str

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Reference:
        """Read it from a request."""
        found = cls(given["name"], int(given["version"]), given["python_version"], given["lock_sha256"])
        if len(found.lock_sha256) != 64 or not all(c in "0123456789abcdef" for c in found.lock_sha256):
            raise errors.ProtocolMismatch("an environment's lock must be named by a SHA-256", hint="repeat the statement")
        machine.wanted_range(found.python_version)
        return found

    def __str__(self) -> str:
        return f"{self.name}:{self.version}"


class Builder:
    """Builds environments and knows which are built."""

    def __init__(self, uv: Uv, code: Path, sandbox: Sandbox | None = None) -> None:
        """Take uv, and a directory of the worker's in which a link to dbml's code is made: environments see no more of it."""
        self.sandbox = sandbox or default_sandbox()
        self._uv = uv
        self._root = uv.directory / "environments"
        self._code = code
        self._building: dict[str, Work[None]] = {}

    def prepare(self) -> None:
        """Make the link, and delete what killed builds of dead workers left."""
        self._code.mkdir(exist_ok=True)
        with contextlib.suppress(FileExistsError):
            (self._code / "dbml").symlink_to(Path(dbml.__file__).parent)
        self._describe()
        for left in self._root.glob(".*.*.*"):
            pid = left.name.rsplit(".", 2)[1]
            if pid.isdigit() and not Path("/proc", pid).exists() and left.stat().st_uid == os.getuid():
                shutil.rmtree(left, ignore_errors=True)

    def _describe(self) -> None:
        """Write what an installation tells of dbml, so that MLflow finds its entry points there too."""
        info = self._code / f"dbml-{dbml.__version__}.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: dbml\nVersion: {dbml.__version__}\n")
        with contextlib.suppress(metadata.PackageNotFoundError):
            (info / "entry_points.txt").write_text(metadata.distribution("dbml").read_text("entry_points.txt") or "")

    def directory(self, reference: Reference) -> Path:
        """Return where an environment is, or will be."""
        kind = f"{sysconfig.get_platform()}-{platform.libc_ver()[0] or 'libc'}"
        return self._root / f"{reference.lock_sha256}-{reference.python_version}-{kind}"

    def is_built(self, reference: Reference) -> bool:
        """Tell whether it is complete, and its interpreter still there."""
        directory = self.directory(reference)
        return (directory / COMPLETE).is_file() and (directory / "bin" / "python").exists()

    def interpreter(self, reference: Reference) -> Interpreter:
        """Return how its zygote is run."""
        return Interpreter.of_environment(self.directory(reference), self._code)

    def build(self, reference: Reference, lock: str) -> Follower[None]:
        """Build it, or follow whoever is building it now.

        Raises: errors.InvalidArgument where the text is not the lock that the reference names.  The work raises
        errors.EnvironmentBuildFailed with the installer's own words.
        """
        if digest(lock) != reference.lock_sha256:
            raise errors.InvalidArgument("the lock does not match its digest", detail={"lock_sha256": reference.lock_sha256})
        key = self.directory(reference).name
        work = self._building.get(key)
        if work is None or work.task.done() or work.task.cancelling():

            async def do(say: Say) -> None:
                await self._build(reference, lock, say)

            work = self._building[key] = Work(do)
        return work.follow()

    async def stop(self) -> None:
        """End what is being built."""
        tasks = [work.task for work in self._building.values() if not work.task.done()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _build(self, reference: Reference, lock: str, say: Say) -> None:
        if self.is_built(reference):
            return
        target = self.directory(reference)
        self._root.mkdir(parents=True, exist_ok=True)
        partial = self._root / f".{target.name}.{os.getpid()}.{secrets.token_hex(4)}"
        try:
            allowed = machine.SUPPORTED & machine.wanted_range(reference.python_version)
            python = await machine.find(allowed, reference.python_version, self._uv)
            say(f"building environment {reference} for Python {python.version}, once on this machine")
            await self._uv.run(["venv", "--relocatable", "--python", python.path, str(partial)], self._root)
            (partial / "requirements.lock").write_text(lock)
            await self._uv.run(
                ["pip", "sync", "requirements.lock", "--require-hashes", "--link-mode", "hardlink", "--python",
                 str(partial / "bin" / "python")],
                partial, say, sources=True,
            )  # fmt: skip
            await self._rehearse(partial)
            (partial / COMPLETE).write_text(json.dumps({"python": python.version, "lock_sha256": reference.lock_sha256}))
            await asyncio.to_thread(self._publish, partial, reference)
        except UvFailed as failed:
            raise errors.EnvironmentBuildFailed(
                f"environment {reference} cannot be built: {own_words(str(failed))}"[:600],
                detail={"installer": str(failed), "lock_sha256": reference.lock_sha256},
                hint="the worker must reach the same files as when it was locked: see its --find-links and its index",
            ) from None
        except errors.EnvironmentUnresolvable as error:  # the interpreter is gone
            raise errors.EnvironmentBuildFailed(
                f"environment {reference} cannot be built: {error.message}", detail=error.detail, hint=error.hint
            ) from None
        except OSError as error:
            raise errors.EnvironmentBuildFailed(f"environment {reference} cannot be built: {error}") from None
        finally:
            await asyncio.shield(asyncio.to_thread(shutil.rmtree, partial, ignore_errors=True))
        say(f"environment {reference} is built")

    def _publish(self, partial: Path, reference: Reference) -> None:
        """Give a complete directory its name; where another worker was quicker, its directory is as good."""
        target = self.directory(reference)
        if target.exists() and not self.is_built(reference):  # its interpreter has gone
            target.rename(partial.with_name(partial.name + ".old"))
            shutil.rmtree(partial.with_name(partial.name + ".old"), ignore_errors=True)
        try:
            partial.rename(target)
        except OSError:
            if not self.is_built(reference):
                raise

    async def _rehearse(self, directory: Path) -> None:
        """Import what the zygote will import: says whether it can, and leaves the compiled files for it.

        Raises: errors.EnvironmentBuildFailed.
        """
        interpreter = Interpreter.of_environment(directory, self._code)
        try:
            files = await bytecode.rehearse(interpreter, self.sandbox, self._code.parent)
        except bytecode.RehearsalFailed as failed:
            text = str(failed)
            raise errors.EnvironmentBuildFailed(
                f"dbml does not run with these packages: {(text.splitlines() or ['it said nothing'])[-1]}"[:600],
                detail={"stderr": text[-4000:]}, hint="choose other versions of the packages that the message names",
            ) from None  # fmt: skip
        root = directory.resolve()
        sources = [file for file in files if Path(file).resolve().is_relative_to(root)]
        await bytecode.compile_files(interpreter, sources, directory)


def cache_directory() -> Path:
    """Return where caches are kept, as the XDG base directory specification has it."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "dbml"
