"""What compose and kubernetes share: they are told by a program, have a folder of files, and go on without their runner."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dbml import errors
from dbml.serving.export import manifests
from dbml.serving.export.plan import Plan
from dbml.serving.export.wheels import WheelsMissing, fetch_wheels
from dbml.serving.runner.containers import slug
from dbml.serving.runner.contract import Instance, Machine, NotHere, Service, Serving


class Lasting(Instance):
    """One generation, looked after by a thread until another has its place; what runs it ends the former one by itself."""

    def __init__(self, serving: Serving, identity: str) -> None:
        self.generation = serving.generation
        self._identity = identity
        self._ended: str | None = None
        self._ready = threading.Event()
        self._done = threading.Event()

    def _look_after(self) -> None:
        """Begin to look: the last thing that a subclass does when it is made."""
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        """Set _ready and _ended as they come, until _done."""
        raise NotImplementedError

    @property
    def identity(self) -> str:
        """Return what it is found by, and its generation."""
        return self._identity

    @property
    def is_ready(self) -> bool:
        """Tell whether it answered once."""
        return self._ready.is_set()

    @property
    def is_draining(self) -> bool:
        """Tell whether another generation has taken its place."""
        return self._done.is_set()

    def ended(self) -> str | None:
        """Return how it ended; None while it is there."""
        return self._ended

    def stop(self, drain_s: float) -> None:
        """Let another generation have its place, which it has by now."""
        self._done.set()
        self._ended = self._ended or "another generation took its place, or the service is deleted"

    def kill(self) -> None:
        """Give it up."""
        self.stop(0)

    def close(self) -> None:
        """Look after it no more."""
        self._done.set()


def folder_of(service: Service, machine: Machine, config: Mapping[str, Any], kind: str) -> Path:
    """Return where a service's files are written.

    Raises: NotHere where what was named holds other files.
    """
    given = config.get("folder")
    if given and machine.confined:
        raise NotHere(f"a folder is named by who starts the runner alone, got {given}: dbml serve-service {service.name}")
    folder = Path(given) if given else machine.cache / "targets" / kind / slug(service.workspace) / slug(service.name)
    if not folder.is_absolute():
        raise NotHere(f"the folder of a service must be an absolute path, got {given}")
    if folder.exists() and any(folder.iterdir()) and not (folder / "service.json").is_file():
        raise NotHere(f"the folder of a service must be empty, or hold a former export, got {folder}")
    return folder


def resources_of(config: Mapping[str, Any]) -> manifests.Resources:
    """Return what a service may use, as manifests have it."""
    replicas = int(config.get("replicas") or 1)
    return manifests.Resources(
        cpu=float(config.get("cpu_cores") or 1.0), memory_mb=int(float(config.get("memory_gb") or 1.0) * 1024),
        replicas=replicas, max_replicas=max(3, replicas),
    )  # fmt: skip


def fetch(folder: Path, plan: Plan, machine: Machine, service: Service) -> None:
    """Put the wheels of a lock beside the Dockerfile.

    Raises: EnvironmentBuildFailed.
    """
    try:
        fetch_wheels(
            folder, plan.lock, plan.python_version, find_links=machine.find_links, no_index=machine.no_index, say=service.say
        )
    except WheelsMissing as error:
        raise errors.EnvironmentBuildFailed(str(error)) from None


def environment() -> dict[str, str]:
    """Return what a program gets that is run: nothing of what the runner knows of the database."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("DBML_DSN", "PG"))}
