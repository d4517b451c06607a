"""What a deploy target is: the place that a runner has a service's generations run in, and one generation that runs there.

A target is a file here: `processes`, `containers`, `composing`, `clusters`.  The runner's loop knows these two classes alone.
It asks one after the other, from its own thread: `listen` once, `prepare` in a builder's thread for each generation, then
`start`, and `direct` as soon as that is ready.  Nothing here may wait longer than a moment, but for `prepare` and `close`.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dbml.serving.export.plan import Plan
from dbml.serving.runner.log import Tail

# Wraps a command so that it sees these paths and nothing else of the machine: the command, what it reads.
Confine = Callable[[Sequence[str], Sequence[Path]], list[str]]

# The app's own settings, which a service's config may have: options of a process, variables of a container.
OPTIONS = ("threads", "queue", "timeout_s", "max_body_mb", "batch_rows", "batch_delay_ms", "drain_s")
STOP_S = 15.0  # beyond the time to drain, before what was asked to end is killed


class NotHere(Exception):
    """What is to run the service is not on this machine, or does not take it; says what to do, in one line."""


@dataclass(frozen=True)
class Machine:
    """What the runner's machine gives to targets.

    cache: where environments and written folders are kept.  confine: of processes; None: they run as any of this user.
    sandbox: processes confine themselves too, by Landlock and a system call filter, where the kernel has them.
    confined: what is served may be a stranger's: a process must be confined, and none says where files are written.
    python_image: what images are built on instead of python:3.x-slim.  find_links, no_index: where their packages come from.
    """

    cache: Path
    confine: Confine | None = None
    confined: bool = False
    sandbox: bool = True
    python_image: str | None = None
    find_links: Sequence[str] = ()
    no_index: bool = False


@dataclass(frozen=True)
class Service:
    """Whose generations these are.

    database: which, as a text that is the same for every runner of it.  created: when the service was deployed first; a
    service of the same name that was deleted is another.  scratch: a folder of the runner's own.  hear: what takes the scoring
    app's words of comparisons with a candidate: which generation said it, and the line.
    """

    database: str
    workspace: str
    name: str
    created: str
    scratch: Path
    tail: Tail = field(repr=False)
    say: Callable[[str], None] = field(repr=False)
    hear: Callable[[int, str], object] = field(default=lambda _generation, _line: None, repr=False)


@dataclass(frozen=True)
class Serving:
    """One generation, ready to be started: its folder, the service's config, and what the target has made of it.

    made: an interpreter, the id of an image, …  keyed: whether a request must have a key.
    """

    generation: int
    folder: Path
    config: Mapping[str, Any]
    keyed: bool
    made: str
    plan: Plan = field(repr=False)


class Instance(abc.ABC):
    """One generation that was started."""

    kind: str
    generation: int

    @property
    @abc.abstractmethod
    def identity(self) -> str:
        """Return what it is found by: a process id, a container's id, a deployment's name."""

    @property
    @abc.abstractmethod
    def is_ready(self) -> bool:
        """Tell whether it answers requests, or did."""

    @property
    @abc.abstractmethod
    def is_draining(self) -> bool:
        """Tell whether it takes no new connections any more."""

    @abc.abstractmethod
    def ended(self) -> str | None:
        """Return how it ended, in words; None while it runs."""

    @abc.abstractmethod
    def stop(self, drain_s: float) -> None:
        """Have it answer what it has begun, and end; it is killed when it takes too long.  Returns at once."""

    @abc.abstractmethod
    def kill(self) -> None:
        """End it at once."""

    @abc.abstractmethod
    def close(self) -> None:
        """Let go of one that has ended: nothing of it is left."""


class Target(abc.ABC):
    """Where the generations of one service run.

    kind: its word in dbml.services.  locked: whether what it runs is an image, of a lock.  lasting: whether it goes on without
    the runner, and is left alone when that is stopped and the service is not deleted.
    """

    kind: str
    locked = True
    lasting = False
    uri: str  # where the service answers, from `listen` on

    @abc.abstractmethod
    def listen(self, host: str, port: int, former: int | None) -> None:
        """Take the address at which the service answers.

        port: 0 is any that is free, the former one where that is.
        Raises: OSError where it is taken; NotHere.
        """

    @abc.abstractmethod
    def prepare(
        self, plan: Plan, generation: int, config: Mapping[str, Any], *, keyed: bool, beside: bool = False
    ) -> Serving:  # fmt: skip
        """Make what `start` needs, or, beside what serves, `start_beside`.

        Raises: DbmlError, OSError, ContentWrong; NotHere.
        """

    @abc.abstractmethod
    def start(self, serving: Serving) -> Instance:
        """Start a generation, or take over one that a runner before this one has left running.

        Raises: DbmlError, OSError; NotHere.
        """

    def start_beside(self, serving: Serving) -> tuple[Instance, str]:
        """Start a generation that the one that serves alone can ask; returns it, and the Unix socket where that finds it.

        Raises: NotHere, by a target that has no such thing; else as `start`.
        """
        raise self.without_candidates

    @property
    def without_candidates(self) -> NotHere:
        """Return why nothing can run beside what serves."""
        return NotHere(
            f"{self.kind} has no candidates: deploy it as a service of its own, and let what stands before both share out"
        )

    def tell(self, said: Mapping[str, Any] | None) -> None:  # noqa: B027 - where nothing runs beside, nothing is told
        """Have what serves know of the generation beside it, as the scoring app's --peer reads it; None: there is none."""

    @abc.abstractmethod
    def take_keys(self, keys: Sequence[str]) -> None:
        """Let what runs, and what will be started, ask for one of these keys."""

    def direct(self, instance: Instance) -> None:  # noqa: B027 - most have nothing to do
        """Send new connections to this instance alone."""

    @property
    def probed(self) -> tuple[str, int] | None:
        """Return where the scoring app itself can be asked how it is; None: what runs it looks after that."""
        return None

    @abc.abstractmethod
    def close(self, *, deleted: bool) -> None:
        """Let go of what all instances share, after they have ended; deleted: the service is, and nothing of it may be left."""
