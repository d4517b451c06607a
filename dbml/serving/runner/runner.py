"""The loop of a runner: it looks at what is wanted and at what runs, several times a second, and makes them one."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg

from dbml import errors
from dbml.serving.export.folder import ContentWrong, write
from dbml.serving.runner.candidate import Candidate
from dbml.serving.runner.interpreters import interpreter, require_app
from dbml.serving.runner.log import Tail
from dbml.serving.runner.plans import plan_of
from dbml.serving.runner.processes import Confine, Process, Serving, listen
from dbml.serving.runner.reports import Gone, Reports
from dbml.temporary import SCRATCH, temporary_directory

LOOK_S = 0.1
ASK_S = 0.5
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
CLAIM_S = 40.0  # in which another runner that was killed is forgotten
DRAIN_S = 10.0  # the app's own, where config says nothing


class Runner:
    """Serves one service until it is deleted, or `stop` is called.

    cache: where environments are kept.  confine: of `processes`; None: the app runs as any process of this user.
    say: is told, in lines, what the runner does.
    Raises from `run`: DbmlError where another runner serves it, or the app's packages are missing.
    """

    def __init__(
        self, dsn: str, workspace: str, name: str, *, cache: Path, confine: Confine | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:  # fmt: skip
        self._reports = Reports(dsn, workspace, name)
        self._workspace, self._name = workspace, name
        self._cache = cache
        self._confine = confine
        self._say_outside = say
        self._tail = Tail()
        self._stopping = threading.Event()
        self._news: dict[str, Any] = {}
        self._current: Process | None = None
        self._next: Process | None = None
        self._draining: list[Process] = []
        self._built: Future[Serving] | None = None
        self._serving: Serving | None = None  # of what serves, to start it again
        self._candidate: Serving | None = None
        self._goal: int | None = None  # the generation that is being brought up, or was last
        self._pause_s, self._again_at = 0.0, 0.0
        self._told_lines, self._told_at = 0, 0.0
        self._keys: list[str] | None = None
        self._announces = False  # that another generation answers, as soon as it alone does

    def stop(self) -> None:
        """Have `run` end: what runs answers what it has begun."""
        self._stopping.set()

    def _say(self, line: str) -> None:
        self._tail.add(line)
        self._say_outside(line)

    def run(self) -> None:
        """Serve."""
        require_app()
        try:
            wanted = self._take()
        except Gone as gone:
            self._say_outside(str(gone))
            return
        with temporary_directory(SCRATCH) as scratch, ThreadPoolExecutor(1) as builder:
            scratch.chmod(0o711)
            self._scratch, self._builder = scratch, builder
            self._beside = Candidate(scratch, self._prepare_candidate, self._tail, self._confine, self._say)
            try:
                self._held = self._listen(wanted)
                self._loop(wanted)
            except Gone as gone:
                self._say(str(gone))
            finally:
                self._end()

    def _take(self) -> dict[str, Any]:
        until = time.monotonic() + CLAIM_S
        while True:
            wanted = self._reports.exchange({})
            if wanted is not None and not wanted.get("lost"):
                return wanted
            if time.monotonic() > until or self._stopping.is_set():
                break
            time.sleep(ASK_S)
        node = "a database that does not answer" if wanted is None else f"a runner on {wanted['node']}"
        raise errors.ServiceError(f'service "{self._name}" must be served by one runner, and {node} is in the way')

    def _listen(self, wanted: dict[str, Any]) -> Any:
        """Hold the socket: the port of the config, else the one that it had, else any."""
        config = wanted["config"]
        self._host = config.get("host", "127.0.0.1")
        port = int(config.get("port", 0))
        former = urlsplit(wanted["scoring_uri"] or "").port
        if port == 0 and former is not None:
            with contextlib.suppress(OSError):
                return listen(self._host, former)
        try:
            return listen(self._host, port)
        except OSError as error:
            text = f"port {port} of {self._host} must be free to be listened at: {error.strerror}"
            self._reports.exchange(
                {"state": "Unschedulable", "error": text, "failed_generation": wanted["generation"], "release": True}
            )
            raise errors.ServiceError(text, hint="dbml deploy --port 0 takes any that is free") from None

    @property
    def _uri(self) -> str:
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self._host, self._host)  # noqa: S104
        return f"http://{host}:{self._held.getsockname()[1]}/score"

    # -- the loop ----------------------------------------------------------------------------------------------------

    def _loop(self, wanted: dict[str, Any]) -> None:
        self._want(wanted)
        asked = time.monotonic()
        while not self._stopping.is_set():
            self._look()
            self._beside.look(self._news, self._reports.is_behind)
            now = time.monotonic()
            if self._news or now - asked >= ASK_S:
                # At once with what it explains, a failure above all; else now and then.
                explains = "state" in self._news or "failed_generation" in self._news
                if self._tail.count != self._told_lines and (explains or now - self._told_at >= 2 * ASK_S):
                    self._told_lines, self._told_at = self._tail.count, now
                    self._news["log"] = self._tail.text()
                news, self._news = self._news, {}
                answer = self._reports.exchange(news)
                asked = time.monotonic()
                if answer is not None and answer.get("lost"):
                    raise Gone(f"a runner on {answer['node']} serves it now")
                if answer is not None:
                    self._want(answer)
            self._stopping.wait(LOOK_S)

    def _want(self, wanted: dict[str, Any]) -> None:
        """Take what is wanted: new keys, or another generation."""
        self._write_keys(wanted["keys"])
        self._beside.want(wanted.get("candidate"))
        if wanted["generation"] == self._goal:
            return
        self._goal = wanted["generation"]
        if self._next is not None:
            self._next.kill()
            self._draining.append(self._next)
            self._next = None
        self._say(f"generation {self._goal} of {self._name} is wanted: {', '.join(wanted['models']) or wanted['image']}")
        if self._current is None:
            self._news |= {"state": "Transitioning", "error": None}
        self._built = self._builder.submit(self._build, wanted)

    def _write_keys(self, keys: list[str] | None) -> None:
        if keys is not None and keys != self._keys:
            folder = self._scratch / "keys"
            folder.mkdir(mode=0o711, exist_ok=True)
            partial = folder / "partial"
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w") as stream:
                stream.write("".join(f"{key}\n" for key in keys))
            partial.replace(folder / "keys")
        self._keys = keys

    def _prepare_candidate(self, wanted: dict[str, Any]) -> Future[Serving]:
        return self._builder.submit(self._build, wanted)

    def _build(self, wanted: dict[str, Any]) -> Serving:
        """Make the folder and the interpreter, in the builder's thread."""
        with self._reports.connect() as session:
            plan = plan_of(session, self._workspace, self._name, wanted, self._say)
            folder = write(plan, self._scratch / f"generation-{wanted['generation']}")
        python = interpreter(plan.lock, plan.python_version, self._cache, self._say)
        keys = None if wanted["keys"] is None else self._scratch / "keys" / "keys"
        return Serving(wanted["generation"], folder, python, wanted["config"], keys, self._beside.file)

    def _look(self) -> None:
        if self._built is not None and self._built.done():
            self._take_built()
        if self._next is not None:
            self._look_at_next(self._next)
        if self._current is not None and (how := self._current.ended()) is not None:
            self._lost(self._current, how)
        if self._announces:
            self._announce()
        if self._current is None and self._next is None and self._serving is not None and time.monotonic() >= self._again_at:
            self._candidate = self._serving
            self._start()
        for former in [one for one in self._draining if one.ended() is not None]:
            self._buried(former, former.ended() or "")
            self._draining.remove(former)

    def _announce(self) -> None:
        """Say which generation answers, once no other takes a new connection."""
        if self._current is None or any(not (one.is_draining or one.ended()) for one in self._draining):
            return
        self._announces = False
        generation = self._current.generation
        self._say(f"generation {generation} answers at {self._uri}")
        self._news |= {"state": "Healthy", "serving_generation": generation, "scoring_uri": self._uri, "error": None}

    def _take_built(self) -> None:
        assert self._built is not None
        built, self._built = self._built, None
        try:
            serving = built.result()
        except (errors.DbmlError, psycopg.Error, OSError, ValueError, ContentWrong) as error:
            diagnosis = (
                error.diag.message_primary if isinstance(error, psycopg.Error) and error.diag.message_primary else str(error)
            )
            self._fail(diagnosis)
            return
        if serving.generation == self._goal:
            self._candidate = serving
            self._start()

    def _start(self) -> None:
        assert self._candidate is not None
        self._next = Process(self._candidate, self._held, self._tail, self._confine, self._beside.hear)
        self._say(f"process {self._next.pid} is to serve generation {self._next.generation}")
        one = {"generation": self._next.generation, "kind": self._next.kind, "identity": self._next.identity}
        self._news.setdefault("started", []).append(one)

    def _look_at_next(self, candidate: Process) -> None:
        if candidate.is_ready:
            former, self._current = self._current, candidate
            self._serving, self._next, self._pause_s = self._candidate, None, 0.0
            if former is not None:
                former.stop(self._drain_s)
                self._draining.append(former)
            self._say(f"generation {candidate.generation} answers at {self._uri}")
            self._news |= {
                "state": "Healthy",
                "serving_generation": candidate.generation,
                "scoring_uri": self._uri,
                "error": None,
            }
        elif (how := candidate.ended()) is not None:
            self._next = None
            self._buried(candidate, how)
            if self._serving is not None and candidate.generation == self._serving.generation:
                self._pause(how)  # it had served, and does not come up again
            else:
                self._fail(f"the scoring app did not come up ({how}); its log says why")

    def _fail(self, why: str) -> None:
        """Say that what is wanted does not come up; what serves goes on."""
        self._say(f"generation {self._goal} does not come up: {why}")
        state = "Failed" if self._current is None and self._serving is None else None
        self._news |= {"failed_generation": self._goal, "error": why, **({"state": state} if state else {})}

    def _lost(self, process: Process, how: str) -> None:
        """Say that what served has ended, and have it started again, where that is the policy."""
        self._current = None
        self._buried(process, how)
        assert self._serving is not None
        if self._next is None:
            self._pause(how)
        else:  # another generation is on its way
            self._news |= {"state": "Unhealthy", "error": f"the scoring app has ended: {how}"}

    def _pause(self, how: str) -> None:
        assert self._serving is not None
        never = self._serving.config.get("restart") == "never"
        self._say(
            f"the scoring app has ended: {how}; it is {'not started again' if never else f'started again in {self._pause_s:g} s'}"
        )
        self._news |= {"state": "Unhealthy", "error": f"the scoring app has ended: {how}"}
        self._again_at = float("inf") if never else time.monotonic() + self._pause_s
        if not never:
            self._news["restarts"] = self._news.get("restarts", 0) + 1
        self._pause_s = min(max(self._pause_s * 2, FIRST_PAUSE_S), LONGEST_PAUSE_S)

    def _buried(self, process: Process, how: str) -> None:
        process.close()
        self._news.setdefault("ended", []).append({"identity": process.identity, "ended_by": how})

    @property
    def _drain_s(self) -> float:
        return float(self._serving.config.get("drain_s", DRAIN_S)) if self._serving is not None else DRAIN_S

    def _end(self) -> None:
        """End what runs, and say so where somebody is there to hear it."""
        running = [one for one in (self._current, self._next) if one is not None]
        if hasattr(self, "_held"):
            self._held.close()
        for one in running:
            one.stop(self._drain_s)
        if hasattr(self, "_beside"):
            running += self._beside.end(self._drain_s)
        running += self._draining
        while any(one.ended() is None for one in running):
            time.sleep(LOOK_S / 2)
        for one in running:
            self._buried(one, one.ended() or "")
        with contextlib.suppress(Gone):
            self._say("the runner ends")
            self._reports.exchange(
                {**self._news, "state": "Unhealthy", "error": "its runner was stopped", "log": self._tail.text(), "release": True}
            )
        self._reports.close()
