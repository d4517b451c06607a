"""Which sandbox this machine allows: tried out when the worker starts, strongest first.

The router's side of `dbml.worker.sandbox`: it runs the probe in each layer, believes only what the probe found, and makes
the command that starts a zygote.
"""

from __future__ import annotations

import json
import logging
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from dbml import errors
from dbml.kernel import landlock, seccomp
from dbml.kernel.places import DEVICES, PROCESS_FILES, SYSTEM
from dbml.worker.sandbox import Cell, Layer, bubblewrap, environment, namespaces

log = logging.getLogger("dbml.sandbox")

Wanted = Literal["auto", "bubblewrap", "landlock", "none"]
NOBODY = (65534, 65534)
PROBE_TIMEOUT_S = 20
NEEDED_NAMESPACES = {"ipc", "mnt", "net", "pid", "user"}


@dataclass(frozen=True)
class Sandbox:
    """The sandbox of one worker.

    found: what the probe found in it.  passed_over: why stronger layers do not hold, by layer.
    """

    layer: Layer
    user: tuple[int, int] | None = None
    bwrap: str | None = None
    found: Mapping[str, Any] = field(default_factory=dict)
    passed_over: Mapping[str, str] = field(default_factory=dict)

    @property
    def scratch(self) -> str | None:
        """Return the path of a child's scratch directory where that is a file system of its own, else None."""
        return bubblewrap.SCRATCH if self.layer == "bubblewrap" else None

    def as_json(self) -> dict[str, Any]:
        """Return what dbml.worker_status tells, layer by layer."""
        return {"layer": self.layer, **self.found, "passed_over": dict(self.passed_over)}

    def own(self, path: str | Path) -> None:
        """Give a file or directory to the account that scripts run as."""
        if self.user is not None:
            os.chown(path, *self.user)

    def command(
        self, python: Sequence[str], module: str, arguments: Sequence[str], readable: Sequence[str], cache: Path, *,
        network: bool,
    ) -> list[str]:  # fmt: skip
        """Return the command that runs a module in the sandbox.

        python: the interpreter and its options.  readable: what the environment consists of.  cache: the only directory
        outside that the process may write to.
        """
        network_files = bubblewrap.NETWORK if network else ()
        system = [*SYSTEM, *network_files, *PROCESS_FILES, *DEVICES, "/etc/passwd", "/etc/group"]
        cell = Cell(self.layer, self.user, [*system, *readable] if self.layer == "landlock" else (), self.scratch)
        inner = [*python, "-m", module, json.dumps(cell.as_json()), *arguments]
        if self.layer != "bubblewrap":
            return inner
        assert self.bwrap is not None
        return bubblewrap.command(
            bwrap=self.bwrap, readable=readable, accounts=str(_accounts(cache, self.user)), cache=str(cache),
            network=network, as_root=self.user is not None, inner=inner,
        )  # fmt: skip


def choose(wanted: Wanted = "auto", python: Sequence[str] = (), readable: Sequence[str] = (), path: str = "") -> Sandbox:
    """Return the strongest sandbox that holds on this machine, or the one that is wanted.

    Raises: errors.SandboxMissing where none holds.
    """
    if wanted == "none":
        log.warning("no sandbox: scripts and models can do what this account can (--unsafe-no-sandbox)")
        return Sandbox("none")
    user = NOBODY if os.geteuid() == 0 else None
    passed_over: dict[str, str] = {}
    for sandbox in _candidates(wanted, user, passed_over):
        with _folder(sandbox) as cache:
            failed, found = _try(sandbox, python, readable, path, cache)
        if failed is None:
            for layer, reason in passed_over.items():
                log.warning("the sandbox %s does not hold here: %s", layer, reason)
            return Sandbox(sandbox.layer, sandbox.user, sandbox.bwrap, found, passed_over)
        name = sandbox.layer if sandbox.user == user else f"{sandbox.layer} as root"
        passed_over[name] = failed
    reasons = "; ".join(f"{layer}: {reason}" for layer, reason in passed_over.items())
    raise errors.SandboxMissing(
        f"no sandbox holds on this machine ({reasons})",
        detail=passed_over,
        hint="apt-get install bubblewrap, or a kernel with Landlock (Linux 5.13);"
        " dbml worker --unsafe-no-sandbox runs scripts with all that this account may do",
    )


def _candidates(wanted: Wanted, user: tuple[int, int] | None, passed_over: dict[str, str]) -> Iterator[Sandbox]:
    if wanted in ("auto", "bubblewrap"):
        bwrap = bubblewrap.program()
        if bwrap is None:
            passed_over["bubblewrap"] = "bwrap is not installed (apt-get install bubblewrap)"
        else:
            yield Sandbox("bubblewrap", user, bwrap)
    if wanted in ("auto", "landlock"):
        if not landlock.version():
            passed_over["landlock"] = "the kernel has no Landlock, or it is switched off"
        else:
            yield Sandbox("landlock", user)
            if user is not None:  # what belongs to root is not always another's to read: then root without its rights
                yield Sandbox("landlock")


@contextmanager
def _folder(sandbox: Sandbox) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="dbml-probe-"))
    try:
        folder.chmod(0o711)
        (folder / "cache").mkdir()
        (folder / "scratch").mkdir()
        (folder / "canary").write_text("what no script may read")
        (folder / "canary").chmod(0o644)
        sandbox.own(folder / "cache")
        sandbox.own(folder / "scratch")
        yield folder / "cache"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _try(
    sandbox: Sandbox, python: Sequence[str], readable: Sequence[str], path: str, cache: Path
) -> tuple[str | None, dict[str, Any]]:
    """Run the probe; returns why the sandbox does not hold, None where it does, and what was found."""
    if not seccomp.is_known():
        return "there are no system call filters for this machine", {}
    scratch, canary = str(cache.parent / "scratch"), str(cache.parent / "canary")
    command = sandbox.command(python, "dbml.worker.sandbox.probe", (), readable, cache, network=False)
    try:
        ended = subprocess.run(
            [*command, scratch, canary], env={**environment(scratch, 1), "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
            cwd="/", capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error), {}
    try:
        found = json.loads(ended.stdout)
    except ValueError:
        said = (ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"])[-1]
        return said, {}
    if "failed" in found:
        return str(found["failed"]), {}
    outside = namespaces.identities()
    found["namespaces"] = [kind for kind, identity in found["namespaces"].items() if identity != outside.get(kind)]
    missing = NEEDED_NAMESPACES - set(found["namespaces"]) if sandbox.layer == "bubblewrap" else set()
    wrong = [
        what
        for what, holds in {
            "it has capabilities": found["capabilities"] == 0,
            "it can gain rights": found["no_new_privileges"],
            "system calls are not filtered": found["filter"],
            "it has a network": not found["network"],
            f"it can read {', '.join(found['files'])}": not found["files"],
            f"its account cannot read {', '.join(found['unreadable'])}": not found["unreadable"],
            f"it sees {found['processes']} processes": found["processes"] <= 2,
            f"it shares the namespaces {', '.join(sorted(missing))}": not missing,
            "it is root": found["user"] != 0 or sandbox.user is None,
        }.items()
        if not holds
    ]
    told = {key: value for key, value in found.items() if key not in ("files", "unreadable", "network", "processes")}
    return ("; ".join(wrong) or None), told


def _accounts(cache: Path, user: tuple[int, int] | None) -> Path:
    """Write the one line of /etc/passwd that a script sees."""
    uid, gid = user or (os.getuid(), os.getgid())
    file = cache.parent / f"passwd-{uid}"
    if not file.exists():
        try:
            name = pwd.getpwuid(uid).pw_name
        except KeyError:
            name = "script"
        file.write_text(f"{name}:x:{uid}:{gid}::{bubblewrap.SCRATCH}:/usr/sbin/nologin\n", "ascii")
        file.chmod(0o644)
    return file
