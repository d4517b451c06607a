"""A script's call: its satellites, from the first row in to the last row out, and the run's record."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import math
import secrets
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from dbml import errors
from dbml.worker.admission import Admission, Applicant, Turn
from dbml.worker.calls import Row, unknown
from dbml.worker.crew import Crew, Event, Member, gather
from dbml.worker.environments.zygotes import Lease, Zygotes
from dbml.worker.pools import Pool
from dbml.worker.record import RunRecord, check_digest
from dbml.worker.sandbox import Limits
from dbml.worker.secret_params import Secrets
from dbml.worker.snapshots import send_snapshot
from dbml.worker.space import FULL, no_room
from dbml.worker.telemetry import Telemetry
from dbml.worker.usage import Usage, usage_of
from dbml.worker.watch import Watched, over_memory
from dbml.worker.zygote_process import ChildLost

log = logging.getLogger("dbml.scripts")

CALLER_LOST = "08006"  # SQLSTATE connection_failure
GATHER_S = 0.02  # prints that follow each other faster travel together
MOST_SATELLITES = 64  # of one call
TOLD = ("name", "description", "tags", "properties", "files")  # of a model that is registered, what may hold a secret
PATIENCE_S = 1.0  # from a satellite's closed socket to what it said last


class ScriptLost(ChildLost):
    """A satellite is gone; the text says which group it was at."""


class ScriptCall:
    """Holds the conversation between SQL and the satellites of one script, and keeps the record of the run.

    sign: with the channel's key.  record, backend: of a submitted run, whose record is there already and which has no backend.
    """

    def __init__(
        self, request: Mapping[str, Any], zygotes: Zygotes, telemetry: Telemetry, admission: Admission, limits: Limits,
        on_end: Callable[[ScriptCall, str], object], *, sign: Callable[[bytes], str],
        record: RunRecord | None = None, backend: int | None = None,
    ) -> None:  # fmt: skip
        self._request = request
        self._secrets = Secrets(request["params"])
        self._pool = Pool.of(request, limits)
        self._on_end = on_end
        self._sign = sign
        self._zygotes = zygotes
        self._lease: Lease | None = None  # of the environment's zygote, from the script's turn to its end
        self._admission = admission
        self._telemetry = telemetry
        self._seed = random_seed() if request.get("seed") is None else int(request["seed"])
        self._record = record or RunRecord(request, telemetry, self._secrets, self._pool.name, self._pool.held(), self._seed)
        self._crew: Crew | None = None
        self._backend = int(request["backend_pid"]) if backend is None else backend
        self._turn: Turn | None = None
        self._watched: list[Watched] = []
        self._getting: asyncio.Task[Event] | None = None
        self._work: asyncio.Task[None] | None = None  # dealing a chunk out, or saying that there are no more
        self._stopped: asyncio.Future[errors.DbmlError] = asyncio.get_running_loop().create_future()
        self._asking: Member | None = None
        self._loading = ""  # the model that it asks for
        self._passing = hashlib.sha256()  # of a model on its way to SQL, which cannot hash it whole
        self._claimed = ""
        self._done: list[Mapping[str, Any]] = []
        self._rows_in = 0
        self._rows_out = 0
        self._progress: tuple[float, float | None] | None = None
        self._is_open = False  # its satellites have the script
        self._over = False
        self._ending: asyncio.Task[None] | None = None
        self._began = time.monotonic()
        given = request.get("timeout_s")
        timeouts = [float(each) for each in (given, self._pool.timeout_s) if each is not None]
        self._timeout_s = min(timeouts, default=None)
        self._deadline: float | None = None
        self._alarm: asyncio.TimerHandle | None = None

    @property
    def run_id(self) -> str:
        """Return the run's id."""
        return self._record.run_id

    @property
    def language(self) -> str:
        """Return the language of the script."""
        return str(self._request["language"])

    @property
    def pool(self) -> str:
        """Return the name of its pool."""
        return self._pool.name

    @property
    def queued_s(self) -> float:
        """Return how long it has waited for its turn, so far."""
        if self._turn is None or self._turn.inside or self._over:
            return self._record.queued_s
        return time.monotonic() - self._turn.since

    @property
    def seconds(self) -> float:
        """Return how long ago the request arrived."""
        return time.monotonic() - self._began

    @property
    def rows(self) -> tuple[int, int]:
        """Return how many rows have gone in and come out."""
        return self._rows_in, self._rows_out

    @property
    def user(self) -> str:
        """Return the role that called."""
        return str(self._request["user"])

    @property
    def stopped(self) -> asyncio.Future[errors.DbmlError]:
        """Return what is done when somebody has stopped it."""
        return self._stopped

    # -- what SQL sends ------------------------------------------------------------------------------------------

    async def open(self) -> list[Row]:
        """Wait for the script's turn, start its satellites and hand them the script."""
        request = self._request
        count = int(request.get("parallel", 1)) if request.get("split") else 1
        if not 1 <= count <= MOST_SATELLITES:  # SQL has checked it, but what is signed may have been asked for by hand
            raise errors.InvalidArgument(f"parallel must be 1 to {MOST_SATELLITES}, got {count}")
        count = min(count, await self._enter(count))
        if self._timeout_s is not None:
            self._deadline = time.monotonic() + self._timeout_s
            loop = asyncio.get_running_loop()
            self._alarm = loop.call_later(self._timeout_s, lambda: self.stop(self._out_of_time()))
        call = {
            "tag": "call", "run_id": self.run_id,
            "inputs": [{"name": given["name"], "columns": given["columns"]} for given in request["inputs"]],
            "expected": request.get("expected"), "split": request.get("split"),
            "params": self._secrets.plain, "seed": self._seed, "submitted": request.get("submitted"),
            **{key: request[key] for key in (
                "script", "language", "output_name", "result", "workspace", "experiment", "user")},
        }  # fmt: skip
        try:
            self._lease = lease = await self._zygotes.enter(request.get("environment"))
            starting = [asyncio.create_task(lease.zygote.satellite(self.language, self._pool.limits)) for _ in range(count)]
            children = await gather(starting)
            self._crew = Crew(children)
            self._watched = [Watched(child, self._pool, self.language) for child in children]
            if not request.get("split"):
                self._crew.run_whole()
            await self._crew.tell(call)
            if request.get("submitted"):
                await send_snapshot(self._telemetry, self._crew, request["submitted"]["snapshot"])
        except (ChildLost, OSError) as lost:  # a TimeoutError and a ConnectionError are OSErrors too
            error: errors.DbmlError = errors.ScriptCrashed(
                f"no process could be started for the script: {lost}", hint="the worker's log says why"
            )
            if isinstance(lost, OSError) and lost.errno in FULL:
                error = no_room("a script's directory")
            await self.abandon(error)
            raise error from None
        except errors.DbmlError as refused:
            await self.abandon(refused)
            raise
        self._is_open = True
        if self._stopped.done():
            await self.abandon(self._stopped.result())
            raise self._stopped.result()
        return [("ready", self.run_id, None)]

    async def _enter(self, count: int) -> int:
        """Wait for the script's turn, and return how many processes it may have.

        A cancellation of its caller, or of somebody who may, ends the wait.
        """
        applicant = Applicant(self._backend, self.user, self._pool.name, self._pool.concurrency, count)
        try:
            turn = self._turn = self._admission.ask(applicant)
        except errors.TooManyScripts as refused:
            self._over = True
            self._on_end(self, "failed")
            await self._record.refuse(refused)
            raise
        self._record.begin("running" if turn.called is None else "queued")
        if turn.called is None:
            return turn.processes
        either: set[asyncio.Future[Any]] = {turn.called, self._stopped}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        error = self._stopped.result() if self._stopped.done() else turn.called.exception()
        if error is not None:
            assert isinstance(error, errors.DbmlError)
            await self.abandon(error)
            raise error
        await self._record.leave_queue(time.monotonic() - self._began)
        return turn.processes

    async def handle(self, verb: str, head: dict[str, Any], body: bytes) -> list[Row]:
        """Answer one message of the conversation."""
        if self._over:
            raise self._stopped.result() if self._stopped.done() else _over()
        try:
            async with asyncio.timeout(self._left()):
                return await self._handle(verb, head, body)
        except TimeoutError:
            error: errors.DbmlError = self._out_of_time()
        except (ChildLost, ConnectionError) as lost:
            error = self._stopped.result() if self._stopped.done() else await self._why_lost(lost)
        except errors.DbmlError as raised:
            error = raised
        error = self._secrets.mask_error(self._pool.explain(error))
        await self.abandon(error)
        if self._ending is not None:
            await asyncio.shield(self._ending)  # the record is written when the caller hears of it
        raise error

    def _out_of_time(self) -> errors.ScriptTimeout:
        timeout_s, of_pool = self._timeout_s, self._pool.timeout_s
        assert timeout_s is not None
        if timeout_s == of_pool:
            message = f"the script ran longer than timeout = {timeout_s:g} s of the pool {self._pool.name} allows"
            hint = "SELECT name, timeout, granted_to FROM dbml.pools"
        else:
            message, hint = f"the script ran longer than its timeout of {timeout_s:g} s", None
        return errors.ScriptTimeout(message, detail={"limit": "timeout", "value": timeout_s, "pool": self._pool.name}, hint=hint)

    async def _handle(self, verb: str, head: dict[str, Any], body: bytes) -> list[Row]:
        crew = self._crew
        assert crew is not None
        if self._stopped.done():
            raise self._stopped.result()
        split = self._request.get("split")
        match verb:
            case "rows":
                n, position = int(head["n"]), head["input"]
                self._rows_in += n
                if split and self._request["inputs"][position]["name"] == split["input"]:
                    self._work = asyncio.create_task(crew.deal(position, body, n))
                    return await self._events()
                await crew.tell({"tag": "rows", "input": position, "n": n}, body)
                return [("ok", None, None)]
            case "run":
                self._work = asyncio.create_task(crew.finish(once=split is not None and split["by"] != "partition"))
                return await self._events()
            case "next":
                return await self._events()
            case "part":
                await self._asker().child.send({"tag": "model_part"}, bytes.fromhex(body.decode("ascii")))
                return [("ok", None, None)]
            case "model":
                self._record.add_loaded(self._loading, head)
                return await self._reply({"tag": "model_end", **head})
            case "refused" | "registered" | "answer":
                return await self._reply({"tag": verb, **head})
            case "fetch":
                answer, part = await self._asker().child.receive()
                if answer["tag"] == "part":
                    self._passing.update(part)
                    return [("part", None, part.hex())]
                check_digest(self._passing, self._claimed)
                return [("end", None, None)]
            case _:
                raise unknown(verb)

    def _asker(self) -> Member:
        if self._asking is None:
            raise errors.ProtocolMismatch("the script has asked nothing", hint="repeat the statement")
        return self._asking

    async def _reply(self, head: dict[str, Any]) -> list[Row]:
        member, self._asking = self._asker(), None
        await member.child.send(head)
        member.go_on.set()
        return await self._events()

    # -- what the satellites say ---------------------------------------------------------------------------------

    async def _events(self) -> list[Row]:
        """Wait for what comes next; several things that come together are answered together.

        The row "ok" says that more rows are welcome.
        """
        rows: list[Row] = []
        while True:
            if self._work is not None and self._work.done():
                work, self._work = self._work, None
                work.result()
                rows.append(("ok", None, None))
                if self._crew is None or self._crew.events.empty():
                    return rows
            event = await self._next(GATHER_S if rows else None)
            if event is None:
                if rows:
                    return rows
                continue
            if event.head["tag"] in ("error", "lost") and rows:
                self._unread(event)
                return rows  # what was printed first; the next message finds the end again
            if await self._take(event, rows):
                return rows

    async def _next(self, patience_s: float | None) -> Event | None:
        """Wait for an event; None when patience ends first, or the work at hand: the wait goes on at the next call."""
        crew = self._crew
        assert crew is not None
        if self._getting is None:
            if not crew.events.empty():
                return crew.events.get_nowait()
            self._getting = asyncio.create_task(crew.events.get())
        waiting: set[asyncio.Future[Any]] = {self._getting, self._stopped}
        if self._work is not None:
            waiting.add(self._work)
        await asyncio.wait(waiting, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
        if self._stopped.done():
            raise self._stopped.result()
        if not self._getting.done():
            return None
        getting, self._getting = self._getting, None
        return getting.result()

    def _unread(self, event: Event) -> None:
        async def again() -> Event:
            return event

        self._getting = asyncio.create_task(again())

    async def _take(self, event: Event, rows: list[Row]) -> bool:
        """Take an event; returns whether the caller must hear of it before anything else."""
        member, head, body = event.member, event.head, event.body
        match head["tag"]:
            case "notice":
                text = body.decode("utf-8", "replace")
                self._record.log.add(text if text.endswith("\n") else text + "\n")
                text = self._secrets.mask(text)
                rows.append(("notice", None, text.rstrip("\n").replace("\x00", "\ufffd")))
            case "child" | "metric" | "tags" | "properties" | "params" | "end_child" if "child" in head:
                await self._record.children.take(head)
            case "metric":
                await self._record.add_metric(head)
            case "tags":
                self._record.tag(head["tags"])
            case "properties":
                self._record.add_properties(head["properties"])
            case "params":
                self._record.add_params(head["params"])
            case "progress":
                self._progress = (head["done"], head["total"])
            case "output":
                await self._record.add_output(head, [literal.decode() for literal in _cut(head, body)])
            case "artifact":
                await self._record.add_artifact(head, member.child.receive)
                member.go_on.set()
            case "load":
                self._asking, self._loading = member, head["name"]
                rows.append(("load", json.dumps(head, ensure_ascii=False), None))
                return True
            case "register":
                self._asking = member
                self._passing, self._claimed = hashlib.sha256(), head.get("digest", "")
                environment = self._request.get("environment") or {}
                home = await self._record.home_of(head)
                own = {"run_id": home, "environment_id": environment.get("id"),
                       "proof": self._sign(f"registers {home} {self._claimed}".encode())}  # fmt: skip
                told = {key: self._secrets.mask_tree(head[key]) for key in TOLD if key in head}
                rows.append(("register", json.dumps(head | told | own, ensure_ascii=False), None))
                return True
            case "ask":
                self._asking = member
                asked = {"what": head["what"], "about": self._hidden(head["about"])}
                rows.append(("ask", json.dumps(asked, ensure_ascii=False), None))
                return True
            case "frame":
                # It has counted itself, as long as nobody meddled with it.
                member.said_bytes += len(body)
                if member.said_bytes > self._pool.limits.output_mb << 20:
                    raise self._pool.exceeded("output_mb", "the result is larger than {} allows")
                self._rows_out += int(head["n"])
                rows.append(("frame", json.dumps({"n": head["n"], "width": len(head["sizes"])}), None))
                rows += [("column", None, literal) for literal in _cut(head, body)]
                return True
            case "done":
                self._done.append(head)
                return await self._all_done(head, rows)
            case "error":
                raise errors.from_fields(head)
            case "lost":
                where = "" if member.group is None else f"group {member.group}: "
                raise ScriptLost(f"{where}the script's process {event.lost}")
            case tag:
                raise errors.ProtocolMismatch(f"a satellite said {tag!r}, which the router does not know")
        return False

    def _hidden(self, about: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a script asks for, where secrets of its own stay secrets of the run that it submits."""
        return {
            key: value if key not in ("arguments", "environment_variables", "tags", "properties")
            else self._secrets.mask_tree(value) if key in ("tags", "properties")
            else [self._secret(one) for one in value] if key == "arguments"
            else {name: self._secret(one) for name, one in value.items()}
            for key, value in about.items()
        }  # fmt: skip

    def _secret(self, value: Any) -> Any:
        return {"$secret": value} if isinstance(value, str) and self._secrets.mask(value) != value else value

    async def _all_done(self, head: Mapping[str, Any], rows: list[Row]) -> bool:
        crew = self._crew
        assert crew is not None
        if len(self._done) < len(crew.members):
            return False
        usage = Usage(max(done["peak_memory_mb"] for done in self._done), sum(done["cpu_seconds"] for done in self._done))
        await self._finish("completed", usage=usage)
        if self._request["result"] == "params":
            last = next((done for done in self._done if done["last"]), head)
            rows.append(("params", None, json.dumps(self._secrets.hide(last["params"]), ensure_ascii=False)))
        rows.append(("done", None, None))
        return True

    # -- the end -------------------------------------------------------------------------------------------------

    def stop(self, error: errors.DbmlError) -> None:
        """Stop the script, from another connection than its caller's, who gets this error."""
        if not self._stopped.done() and not self._over:
            self._stopped.set_result(error)
            if self._crew is not None:
                self._crew.stop()
            if self._is_open:  # its caller may be busy with a query for long: its place is free at once
                self._ending = asyncio.create_task(self.abandon(error))

    async def abandon(self, error: errors.DbmlError) -> None:
        """Kill the satellites and record why the run ended; does nothing after the end."""
        if self._over:
            return
        fields = self._secrets.mask_error(error).fields()
        status = "canceled" if fields["sqlstate"] == "57014" else "failed"
        if self._crew is not None and any(member.child.is_orphaned for member in self._crew.members):
            status = "interrupted"
        elif fields["sqlstate"] == CALLER_LOST:
            self._over = True
            if self._crew is not None:
                self._crew.stop()
            if await self._record.server_lives():
                status = "canceled"
            else:
                status = "interrupted"
                fields["message"] = "the database server was stopped or died while the script ran"
        await self._finish(status, error=fields)

    async def _finish(
        self, status: str, *, error: Mapping[str, str | None] | None = None, usage: Usage | None = None
    ) -> None:  # fmt: skip
        self._over = True
        self._watched = []
        if self._alarm is not None:
            self._alarm.cancel()
        if self._lease is not None:
            self._lease.release()
        self._on_end(self, status)
        for task in (self._getting, self._work):
            if task is not None:
                task.cancel()
        if self._crew is not None:
            self._crew.stop()
            if usage is None:
                exits = [await member.child.exited() for member in self._crew.members]
                usage = Usage(
                    max((exit_.peak_memory_mb or 0.0 for exit_ in exits), default=None),
                    sum(exit_.cpu_seconds or 0.0 for exit_ in exits),
                )
        if self._turn is not None:
            self._admission.leave(self._turn)
        usage = usage or Usage(None, None)
        rows_out = self._rows_out if status == "completed" else None
        outcome = {"status": status, "rows_in": self._rows_in, "rows_out": rows_out,
                   "peak_memory_mb": usage.memory_mb, "cpu_seconds": usage.cpu_seconds}  # fmt: skip
        await self._record.finish(outcome, error)

    async def _why_lost(self, lost: Exception) -> errors.DbmlError:
        """Find out why a satellite stopped answering: it may have said so before it went.

        What one had said that was found gone among the events is heard already.
        """
        rows: list[Row] = []
        self._work = None
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not isinstance(lost, ScriptLost) and (event := await self._next(PATIENCE_S)):
                    if event.head["tag"] not in ("load", "register", "artifact", "ask"):
                        await self._take(event, rows)
        except errors.DbmlError as said:
            return said
        except (ChildLost, ConnectionError) as gone:
            lost = gone
        except TimeoutError:
            pass
        if self._stopped.done():
            return self._stopped.result()
        if (limit := await self._limit_met()) is not None:
            return limit
        text = str(lost) if isinstance(lost, ScriptLost) else f"the script's process {lost}"
        return errors.ScriptCrashed(text, detail={"run_id": self.run_id})

    async def _limit_met(self) -> errors.LimitExceeded | None:
        """Return the limit for which the kernel has ended a satellite, where it tells."""
        limits = self._pool.limits
        for member in self._crew.members if self._crew is not None else ():
            if not member.child.is_over:
                continue
            exit_ = await member.child.exited()
            if member.child.leaf is not None and member.child.leaf.oom_kills:
                return over_memory(self._pool)
            spent = exit_.cpu_seconds or 0.0
            if exit_.signal in (signal.SIGXCPU, signal.SIGKILL) and spent >= (limits.cpu_seconds or math.inf):
                return self._pool.exceeded("cpu_seconds", "the script used more processor time than {} allows")
            if exit_.signal == signal.SIGXFSZ:
                return self._pool.exceeded("scratch_mb", "the script wrote a larger file than {} allows")
        return None

    def _left(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    # -- what others see -----------------------------------------------------------------------------------------

    def watched(self) -> Iterable[Watched]:
        """Return its satellites, for the watch."""
        return self._watched

    @property
    def turn(self) -> Turn | None:
        """Return its place; None before it has asked for one."""
        return self._turn

    def snapshot(self) -> dict[str, Any]:
        """Return what dbml.active_scripts shows of it."""
        request = self._request
        pids = [member.child.pid for member in self._crew.members] if self._crew is not None else []
        usage = usage_of(pids)
        done, total = self._progress or (None, None)
        status = "queued" if self._turn is not None and not self._turn.inside and not self._over else "running"
        return {
            "run_id": self.run_id, "status": status, "username": request["user"],
            "workspace": request["workspace"], "experiment": request["experiment"], "language": request["language"],
            "script": request["script"], "stored_script": request.get("stored_script"),
            "application": request["application"], "backend_pid": request["backend_pid"],
            "started_at": self._record.arrived_at.isoformat(), "queued_seconds": self.queued_s,
            "seconds": time.monotonic() - self._began, "rows_in": self._rows_in, "rows_out": self._rows_out,
            "progress_done": done, "progress_total": total, "satellites": pids, "memory_mb": usage.memory_mb,
            "cpu_seconds": usage.cpu_seconds, "pool": self._pool.name,
            "environment": _reference(request.get("environment")),
        }  # fmt: skip


def _cut(head: Mapping[str, Any], body: bytes) -> list[bytes]:
    """Cut a frame's body into its literals, a column each."""
    literals = []
    start = 0
    for size in head["sizes"]:
        literals.append(body[start : start + size])
        start += size
    return literals


def _reference(environment: Mapping[str, Any] | None) -> str | None:
    return None if environment is None else f"{environment['name']}:{environment['version']}"


def random_seed() -> int:
    """Return a seed, as numpy takes it, for a script whose caller gives none."""
    return secrets.randbits(32)


def _over() -> errors.DbmlError:
    return errors.ProtocolMismatch("the call is over", hint="repeat the statement")
