"""The loop of a runner: it looks at what is wanted and at what runs, several times a second, and makes them one."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import psycopg

from dbml import errors
from dbml.serving.export.folder import ContentWrong
from dbml.serving.runner.candidate import Candidate
from dbml.serving.runner.contract import Instance, Machine, NotHere, Service, Serving, Target
from dbml.serving.runner.log import Tail
from dbml.serving.runner.plans import plan_of
from dbml.serving.runner.probes import Watch
from dbml.serving.runner.reports import Gone, Reports
from dbml.serving.runner.targets import target_of
from dbml.temporary import SCRATCH, temporary_directory

LOOK_S = 0.1
ASK_S = 0.5
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
CLAIM_S = 20.0  # in which another runner that was killed is forgotten
SILENT_S = 900.0  # without a word of the database, after which it is taken for gone
DRAIN_S = 10.0  # the app's own, where config says nothing
PROBE_S, PROBES = 10.0, 3  # a question a time, and how many in turn that are not answered make an app hung


class Runner:
    """Serves one service until it is deleted, or `stop` is called.

    machine: what this one gives to targets.  say: is told, in lines, what the runner does.  silent_s: how long the database may
    not answer before the runner ends, and what it runs with it.
    Raises from `run`: DbmlError where another runner serves it, or the target cannot be had here.
    """

    def __init__(
        self, dsn: str, workspace: str, name: str, *, machine: Machine, say: Callable[[str], None] = lambda _: None,
        silent_s: float = SILENT_S,
    ) -> None:  # fmt: skip
        self._silent_s = silent_s
        self._heard_at = time.monotonic()
        self._reports = Reports(dsn, workspace, name)
        self._workspace, self._name = workspace, name
        self._machine = machine
        self._say_outside = say
        self._tail = Tail()
        self._stopping = threading.Event()
        self._target: Target | None = None
        self._watch: Watch | None = None
        self._hung = False  # what is to end was
        self._news: dict[str, Any] = {}
        self._current: Instance | None = None
        self._next: Instance | None = None
        self._draining: list[Instance] = []
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
        try:
            wanted = self._take()
        except Gone as gone:
            self._say_outside(str(gone))
            return
        deleted = False
        with temporary_directory(SCRATCH) as scratch, ThreadPoolExecutor(1) as builder:
            scratch.chmod(0o711)
            self._builder = builder
            self._beside = Candidate(self._prepare_candidate, self._start_beside, self._tell, self._say)
            service = Service(
                self._reports.database, self._workspace, self._name, str(wanted.get("created_at")), scratch, self._tail,
                self._say, self._beside.hear,
            )  # fmt: skip
            try:
                self._target = self._listen(wanted, service)
                self._loop(wanted)
            except Gone as gone:
                self._say(str(gone))
                deleted = not gone.served
            finally:
                self._end(deleted=deleted)

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

    def _listen(self, wanted: dict[str, Any], service: Service) -> Target:
        """Take the address: the port of the config, else the one that it had, else any."""
        config = wanted["config"]
        host, port = config.get("host", "127.0.0.1"), int(config.get("port", 0))
        hint = None
        try:
            target = target_of(wanted["target"], service, self._machine)
            target.listen(host, port, urlsplit(wanted["scoring_uri"] or "").port)
            return target
        except OSError as error:
            text = f"port {port} of {host} must be free to be listened at: {error.strerror}"
            hint = "dbml deploy --port 0 takes any that is free"
        except NotHere as error:
            text = str(error)
        except errors.DbmlError as error:
            text, hint = error.message, error.hint
        self._say(text)
        said = {"state": "Unschedulable", "error": text, "failed_generation": wanted["generation"], "release": True}
        self._reports.exchange({**said, "log": self._tail.text()})
        raise errors.ServiceError(text, hint=hint)

    # -- the loop ----------------------------------------------------------------------------------------------------

    def _loop(self, wanted: dict[str, Any]) -> None:
        self._want(wanted)
        asked = self._heard_at = time.monotonic()
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
                self._note_silence(answer)
                if answer is not None and answer.get("lost"):
                    raise Gone(f"a runner on {answer['node']} serves it now", served=True)
                if answer is not None:
                    self._want(answer)
            self._stopping.wait(LOOK_S)

    def _note_silence(self, answer: dict[str, Any] | None) -> None:
        """Note that the database has answered, or not.

        Raises: Gone where it has not for so long that nobody could tell this runner to end any more.
        """
        now = time.monotonic()
        if answer is not None:
            self._heard_at = now
        elif now - self._heard_at > self._silent_s:
            raise Gone(f"the database has not answered for {self._silent_s:g} s: the runner and what it runs end", served=True)

    def _want(self, wanted: dict[str, Any]) -> None:
        """Take what is wanted: new keys, or another generation."""
        self._take_keys(wanted["keys"])
        if wanted["generation"] != self._goal:
            self._bring_up(wanted)
        self._beside.want(wanted.get("candidate"))

    def _bring_up(self, wanted: dict[str, Any]) -> None:
        """Have a generation made that is to take the place of the one that serves."""
        self._goal = wanted["generation"]
        if self._next is not None:
            self._next.kill()
            self._draining.append(self._next)
            self._next = None
        self._say(f"generation {self._goal} of {self._name} is wanted: {', '.join(wanted['models']) or wanted['image']}")
        if self._current is None:
            self._news |= {"state": "Transitioning", "error": None}
        self._built = self._builder.submit(self._build, wanted)

    def _take_keys(self, keys: list[str] | None) -> None:
        assert self._target is not None
        if keys is not None and keys != self._keys:
            self._target.take_keys(keys)
        self._keys = keys

    def _start_beside(self, serving: Serving) -> tuple[Instance, str]:
        assert self._target is not None
        return self._target.start_beside(serving)

    def _tell(self, said: Mapping[str, Any] | None) -> None:
        assert self._target is not None
        self._target.tell(said)

    def _prepare_candidate(self, wanted: dict[str, Any]) -> Future[Serving]:
        return self._builder.submit(self._build, wanted, beside=True)

    def _build(self, wanted: dict[str, Any], *, beside: bool = False) -> Serving:
        """Make what the target starts, in the builder's thread."""
        assert self._target is not None
        with self._reports.connect() as session:
            plan = plan_of(session, self._workspace, self._name, wanted, self._say, locked=self._target.locked)
            keyed = wanted["keys"] is not None
            return self._target.prepare(plan, wanted["generation"], wanted["config"], keyed=keyed, beside=beside)

    def _look(self) -> None:
        if self._built is not None and self._built.done():
            self._take_built()
        if self._next is not None:
            self._look_at_next(self._next)
        if self._current is not None and (how := self._current.ended()) is not None:
            self._lost(self._current, how)
        self._look_whether_hung()
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
        assert self._target is not None
        if self._current is None or any(not (one.is_draining or one.ended()) for one in self._draining):
            return
        self._announces = False
        generation = self._current.generation
        self._say(f"generation {generation} answers at {self._target.uri}")
        self._news |= {"state": "Healthy", "serving_generation": generation, "scoring_uri": self._target.uri, "error": None}

    def _look_whether_hung(self) -> None:
        """Have an app asked how it is where it alone answers, and end one that does not say; it is started again then."""
        assert self._target is not None
        alone = self._current is not None and self._next is None and not self._draining
        address = self._target.probed
        if not alone or address is None or self._serving is None:
            if self._watch is not None:
                self._watch.stop()
                self._watch = None
            return
        config = self._serving.config
        interval_s, most = float(config.get("probe_s", PROBE_S)), int(config.get("probe_failures", PROBES))
        if self._watch is None and interval_s > 0 and most > 0:
            self._watch = Watch(address, interval_s, most)
        elif self._watch is not None and self._watch.hung and self._current is not None:
            self._say(f"the scoring app does not answer: {most} health requests in turn, {interval_s:g} s each; it is ended")
            self._news |= {"state": "Unhealthy", "error": f"the scoring app is hung: {most} health requests were not answered"}
            self._hung = True
            self._current.kill()
            self._watch.stop()
            self._watch = None

    def _take_built(self) -> None:
        assert self._built is not None
        built, self._built = self._built, None
        try:
            serving = built.result()
        except NotHere as error:
            self._fail(str(error), state="Unschedulable")
            return
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
        assert self._candidate is not None and self._target is not None
        try:
            self._next = self._target.start(self._candidate)
        except NotHere as error:
            self._fail(str(error), state="Unschedulable")
            return
        except (errors.DbmlError, OSError) as error:
            if self._serving is not None and self._candidate.generation == self._serving.generation:
                self._pause(str(error))
            else:
                self._fail(str(error))
            return
        self._say(f"{self._next.kind} {self._next.identity} is to serve generation {self._next.generation}")
        one = {"generation": self._next.generation, "kind": self._next.kind, "identity": self._next.identity}
        self._news.setdefault("started", []).append(one)

    def _look_at_next(self, candidate: Instance) -> None:
        if candidate.is_ready:
            former, self._current = self._current, candidate
            self._serving, self._next, self._pause_s = self._candidate, None, 0.0
            assert self._target is not None
            self._target.direct(candidate)
            if former is not None:
                former.stop(self._drain_s)
                self._draining.append(former)
            self._say(f"generation {candidate.generation} answers at {self._target.uri}")
            self._news |= {
                "state": "Healthy",
                "serving_generation": candidate.generation,
                "scoring_uri": self._target.uri,
                "error": None,
            }
        elif (how := candidate.ended()) is not None:
            self._next = None
            self._buried(candidate, how)
            if self._serving is not None and candidate.generation == self._serving.generation:
                self._pause(how)  # it had served, and does not come up again
            else:
                self._fail(f"the scoring app did not come up ({how}); its log says why")

    def _fail(self, why: str, *, state: str | None = "Failed") -> None:
        """Say that what is wanted does not come up; what serves goes on."""
        self._say(f"generation {self._goal} does not come up: {why}")
        state = state if self._current is None and self._serving is None else None
        self._news |= {"failed_generation": self._goal, "error": why, **({"state": state} if state else {})}

    def _lost(self, process: Instance, how: str) -> None:
        """Say that what served has ended, and have it started again, where that is the policy."""
        if self._hung:
            how, self._hung = f"it was hung, and {how}", False
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

    def _buried(self, process: Instance, how: str) -> None:
        process.close()
        self._news.setdefault("ended", []).append({"identity": process.identity, "ended_by": how})

    @property
    def _drain_s(self) -> float:
        return float(self._serving.config.get("drain_s", DRAIN_S)) if self._serving is not None else DRAIN_S

    def _end(self, *, deleted: bool) -> None:
        """End what runs, unless it lasts, and say so where somebody is there to hear it."""
        if self._watch is not None:
            self._watch.stop()
        if self._target is not None:
            if deleted or not self._target.lasting:
                self._end_all()
            self._target.close(deleted=deleted)
            with contextlib.suppress(Gone):
                self._say("the runner ends")
                state = {} if self._target.lasting else {"state": "Unhealthy", "error": "its runner was stopped"}
                self._reports.exchange({**self._news, **state, "log": self._tail.text(), "release": True})
        self._reports.close()

    def _end_all(self) -> None:
        running = [one for one in (self._current, self._next) if one is not None]
        for one in running:
            if one.is_ready:
                one.stop(self._drain_s)
            else:  # it has begun nothing
                one.kill()
        running += self._beside.end(self._drain_s)
        running += self._draining
        while any(one.ended() is None for one in running):
            time.sleep(LOOK_S / 2)
        for one in running:
            self._buried(one, one.ended() or "")
