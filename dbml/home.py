"""The folder `.dbml` of a project: what `dbml up` keeps there, and who is running it.

`lock` is held (flock) by the one process that runs `dbml up` there, so that a killed process, a
reboot or a pid used again cannot be mistaken for a running one.  `state.json` says what it runs
and is believed only while the lock is held.  Everything in it is readable by the owner alone.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dbml import errors

NAME = ".dbml"


@dataclass(frozen=True)
class Home:
    """One `.dbml` folder."""

    path: Path

    @classmethod
    def of(cls, project: Path) -> Home:
        """Return the home of a project's folder, which need not exist."""
        return cls(project.resolve() / NAME)

    @property
    def state_file(self) -> Path:
        """Return the path of state.json."""
        return self.path / "state.json"

    @property
    def log_file(self) -> Path:
        """Return the path of the merged log."""
        return self.path / "dbml.log"

    def create(self) -> None:
        """Make the folder, and tell git to leave it alone.

        For root it can be passed through, though not listed, by the account that runs the server.
        """
        if not self.path.is_dir():
            self.path.mkdir(parents=True, exist_ok=True)  # another may make it at this moment
            self.path.chmod(0o711 if os.geteuid() == 0 else 0o700)
        ignore = self.path / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock, until the process ends at the latest.

        Raises: DbmlError when another process holds it.
        """
        self.create()
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # `running` of another process may hold it for an instant.
            for attempt in range(10):
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if attempt == 9:
                        raise errors.DbmlError(
                            f"dbml is already running in {self.path.parent}",
                            hint="dbml status shows it, dbml down stops it",
                        ) from None
                    time.sleep(0.05)
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
            yield
        finally:
            os.close(descriptor)

    def running(self) -> bool:
        """Tell whether a `dbml up` holds the lock, now."""
        try:
            descriptor = os.open(self.path / "lock", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def holder(self) -> int | None:
        """Return the process that took the lock last: of meaning only while `running`."""
        try:
            return int((self.path / "lock").read_text())
        except (OSError, ValueError):
            return None

    def state(self) -> Mapping[str, Any] | None:
        """Return what the running `dbml up` wrote, None where none is running or not yet ready."""
        return self.last_state() if self.running() else None

    def last_state(self) -> Mapping[str, Any] | None:
        """Return what was written last, by a process that may be gone."""
        try:
            found = json.loads(self.state_file.read_text())
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def write_state(self, state: Mapping[str, Any]) -> None:
        """Replace the state whole, readable by the owner alone."""
        partial = self.path / "state.json.partial"
        partial.unlink(missing_ok=True)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            json.dump(state, stream, indent=2)
        partial.replace(self.state_file)

    def clear_state(self) -> None:
        """Forget the state."""
        self.state_file.unlink(missing_ok=True)


def find_home(start: Path | None = None) -> Home | None:
    """Return the nearest home of a running `dbml up`, from `start` (the current folder) upwards."""
    folder = (start or Path.cwd()).resolve()
    for candidate in (folder, *folder.parents):
        home = Home(candidate / NAME)
        if home.state() is not None:
            return home
    return None
