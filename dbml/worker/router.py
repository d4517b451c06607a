"""The router: hands each connection's messages to the call it has open.

Between the listener, which speaks PostgreSQL's protocol, and the processes that compute.  The router never
unpickles and never runs user code: it verifies who calls, forwards bytes, and keeps the records.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import resource
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg

import dbml
from dbml import errors
from dbml.store.channel import PROTOCOL, Channel
from dbml.temporary import SCRATCH, SOCKETS, sweep, temporary_directory
from dbml.worker import cgroups as control_groups
from dbml.worker.admission import Admission
from dbml.worker.calls import Call, ModelUpload, Row, ScoreCall, unknown
from dbml.worker.environments import bytecode
from dbml.worker.environments.builder import Builder, cache_directory
from dbml.worker.environments.call import EnvironmentCall
from dbml.worker.environments.uv import Uv
from dbml.worker.environments.zygotes import EnvironmentNeeded, Zygotes
from dbml.worker.inspections import InspectCall, Inspections
from dbml.worker.keys import Keys
from dbml.worker.listener import MAX_UNAUTHENTICATED, Listener, Session
from dbml.worker.metrics import Counts, serve_metrics
from dbml.worker.packages import scoring_packages
from dbml.worker.processes import Zygote
from dbml.worker.record import RunRecord
from dbml.worker.requests import Verifier, read_head, split
from dbml.worker.sandbox import Limits, conceal
from dbml.worker.sandbox.layers import Sandbox, choose
from dbml.worker.scorers import ScorerPool
from dbml.worker.script_call import CALLER_LOST, ScriptCall
from dbml.worker.secret_params import Secrets
from dbml.worker.settings import WorkerSettings
from dbml.worker.spawn import bury_strays
from dbml.worker.submissions import Submissions
from dbml.worker.telemetry import Telemetry
from dbml.worker.usage import own_memory_mb
from dbml.worker.watch import Subject, Watch
from dbml.worker.zygote_process import Interpreter

log = logging.getLogger("dbml.router")

HEARTBEAT_S = 0.2  # the longest that SQL waits for an answer of some kind
OWN_DESCRIPTORS = 500  # of scripts, scorers, logs
LONGEST_MESSAGE = (1 << 30) - 1  # the text of a query, and so a value in hex, is shorter than 1 GiB


@dataclass
class Conversation:
    """What one connection is in the middle of."""

    upload: ModelUpload
    call: Call | None = None
    task: asyncio.Task[list[Row]] | None = None
    turn: asyncio.Future[None] | None = None  # done when the task has ended, or SQL has waited long enough


class Router:
    """The listener's handler: opens calls, forwards messages to them, ends them."""

    def __init__(
        self, keys: Keys, zygotes: Zygotes, uv: Uv, scorers: ScorerPool, telemetry: Telemetry, runtime: str,
        admission: Admission, limits: Limits, counts: Counts, sandbox: Sandbox, inspections: Inspections,
        *, has_cgroups: bool = False,
    ) -> None:  # fmt: skip
        self._sandbox = sandbox
        self._inspections = inspections
        self._keys = keys
        self._verifier = Verifier(keys.signatures, telemetry.now, since=telemetry.now())
        self._zygotes = zygotes
        self._uv = uv
        self._scorers = scorers
        self._telemetry = telemetry
        self._runtime = runtime
        self._admission = admission
        self._limits = limits
        self._has_cgroups = has_cgroups
        self._scripts: dict[str, ScriptCall] = {}
        self._counts = counts
        self._began = time.time()
        self._endings: set[asyncio.Task[None]] = set()

    def connected(self, session: Session) -> None:
        """Give a new connection its state."""
        session.state = Conversation(ModelUpload(self._runtime))

    async def query(self, session: Session, text: bytes) -> list[Row]:
        """Answer one message of a connection, or "wait" where that takes longer than HEARTBEAT_S.

        SQL then asks again by "wait": before PostgreSQL 17 it could not be interrupted while it waits in dblink.
        """
        conversation: Conversation = session.state
        verb, head, body = split(text)
        if verb != "wait":
            if conversation.task is not None:
                raise errors.ProtocolMismatch("the last message is not yet answered", hint="repeat the statement")
            conversation.task = asyncio.create_task(self._answer(session, conversation, verb, head, body))
        task = conversation.task
        if task is None:
            raise errors.ProtocolMismatch("there is nothing to wait for", hint="repeat the statement")
        if not task.done():
            # asyncio.wait() would do the same, by one more turn of the loop: a tenth of what a one-row call costs here.
            loop = asyncio.get_running_loop()
            turn = conversation.turn = loop.create_future()
            timer = loop.call_later(HEARTBEAT_S, _finish, turn)
            try:
                await turn
            finally:
                timer.cancel()
            if not task.done():
                session.holds = True
                return [("wait", None, None)]
        session.holds = False
        conversation.task = None
        return task.result()

    async def _answer(
        self, session: Session, conversation: Conversation, verb: str, head: bytes, body: bytes
    ) -> list[Row]:  # fmt: skip
        try:
            if verb == "open":
                return await self._open(conversation, head, body)
            if verb == "part" and not isinstance(conversation.call, ScriptCall):
                conversation.upload.add(body)
                return [("ok", None, None)]
            if verb == "expect":
                conversation.upload.expect(int((await self._verify(head, "upload"))["size"]))
                return [("ok", None, None)]
            if verb == "abandon":
                conversation.upload.drop()
                await self._end(conversation, errors.from_fields(read_head(head)))
                return [("ok", None, None)]
            if conversation.call is None:
                raise errors.ProtocolMismatch("no call is open on this connection", hint="repeat the statement")
            return await conversation.call.handle(verb, read_head(head), body)
        except EnvironmentNeeded as needed:
            if verb == "open":
                return [("need_environment", None, None)]
            raise errors.EnvironmentBuildFailed(
                f"environment {needed} was deleted in mid-call", hint="repeat the statement"
            ) from None
        except asyncio.CancelledError:
            canceled = _caller_lost() if session.lost else errors.CallCanceled("the call was cancelled by its caller")
            await asyncio.shield(self._ending(conversation, canceled))
            raise canceled from None
        finally:
            if conversation.turn is not None:
                _finish(conversation.turn)  # it is heard after this task's last step

    def cancel(self, session: Session) -> None:
        """Stop what a connection waits for; its caller has cancelled or is gone."""
        conversation: Conversation = session.state
        if conversation.task is not None:
            conversation.task.cancel()

    def disconnected(self, session: Session) -> None:
        """End the call of a connection that is gone."""
        conversation: Conversation = session.state
        self.cancel(session)
        conversation.upload.drop()
        self._ending(conversation, _caller_lost())

    def _ending(self, conversation: Conversation, error: errors.DbmlError) -> asyncio.Task[None]:
        """End a call in a task of its own, which goes on whatever becomes of the connection."""
        ending = asyncio.create_task(self._end(conversation, error))
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)
        return ending

    async def _verify(self, signed: bytes, kind: str | None = None) -> dict[str, Any]:
        """Return what was signed.

        kind: the only one that it may be of; None is any but "upload".
        """
        signature, _, header = signed.partition(b" ")
        if not self._keys.signatures.proves(signature, header):
            # They may have been changed since we looked last.  Who opens a call asks again of its own accord.
            if kind is None:
                self._keys.follow_soon()
            else:
                await self._keys.follow()
        try:
            request = self._verifier.open(signature, header)
        except errors.WorkerRefused as refused:
            if "clock_differs_s" not in refused.detail:
                raise
            await self._telemetry.ask_clock()  # it may have been set since we asked last
            request = self._verifier.open(signature, header)
        if (request.get("kind") == "upload") != (kind == "upload"):
            raise unknown(str(request.get("kind")))
        return request

    async def _open(self, conversation: Conversation, signed: bytes, body: bytes) -> list[Row]:
        request = await self._verify(signed)
        await self._end(conversation, errors.CallCanceled("the caller opened another call"))
        if request["kind"] not in ("score", "inspect"):
            conversation.upload.drop()
        match request["kind"]:
            case "script":
                self._zygotes.check(request.get("environment"))
                script = ScriptCall(
                    request, self._zygotes, self._telemetry, self._admission, self._limits, self._forget,
                    sign=self._keys.signatures.sign,
                )  # fmt: skip
                conversation.call = self._scripts[script.run_id] = script
                return await script.open()
            case "refused":
                # SQL has refused it, for the pool: recorded like any other, and told to its caller.
                refusal = errors.from_fields(request["refusal"])
                record = RunRecord(request, self._telemetry, Secrets(request["params"]), request["pool"])
                await record.refuse(refusal)
                raise refusal
            case "score":
                self._counts.predictions += 1
                environment = request.get("environment")
                scorers = self._scorers if environment is None else self._zygotes.scorers(environment)
                score = ScoreCall(request, scorers, self._inspections)
                conversation.call = score
                return await score.open(body, conversation.upload.take())
            case "inspect":
                inspection = InspectCall(request, self._inspections)
                conversation.call = inspection
                return await inspection.open(conversation.upload.take())
            case "environment":
                made = EnvironmentCall(request, self._uv, self._zygotes.builder)
                conversation.call = made
                return await made.open(body)
            case "active":
                order = self._admission.positions()
                shown = [
                    call.snapshot() | {"queue_position": None if call.turn is None else order.get(call.turn)}
                    for call in self._scripts.values()
                ]
                return [("script", json.dumps(each, ensure_ascii=False), None) for each in shown]
            case "cancel":
                return [("canceled", json.dumps(self._cancel_script(request)), None)]
            case "ping":
                return [("pong", json.dumps(self.status(), ensure_ascii=False), None)]
            case kind:
                raise errors.ProtocolMismatch(f"the worker does not know calls of kind {kind!r}", hint="restart the worker")

    async def _end(self, conversation: Conversation, error: errors.DbmlError) -> None:
        call, conversation.call = conversation.call, None
        if call is not None:
            await call.abandon(error)

    def _forget(self, script: ScriptCall, status: str) -> None:
        self._scripts.pop(script.run_id, None)
        self._counts.ended(script, status)

    def _cancel_script(self, request: dict[str, Any]) -> bool:
        """Stop a script for its own role or for an administrator; False where there is none that they may stop."""
        script = self._scripts.get(request["run_id"])
        if script is None or not (request["admin"] or script.user == request["user"]):
            return False
        script.stop(errors.CallCanceled(f"the script was cancelled by role {request['user']}"))
        return True

    def adopt(self, request: Mapping[str, Any], record: RunRecord, backend: int) -> ScriptCall:
        """Make the call of a submitted run, which is seen and cancelled like any other; its conversation is another's."""
        script = ScriptCall(
            request, self._zygotes, self._telemetry, self._admission, self._limits, self._forget,
            sign=self._keys.signatures.sign, record=record, backend=backend,
        )  # fmt: skip
        self._scripts[script.run_id] = script
        return script

    def scripts(self) -> list[ScriptCall]:
        """Return the scripts that run or wait."""
        return list(self._scripts.values())

    def subjects(self) -> list[Subject]:
        """Return what is watched: scripts, and scorers of every environment."""
        return [*self._scripts.values(), *self._scorers.scorers(), *self._zygotes.all_scorers()]

    @property
    def counts(self) -> Counts:
        """Return what has been counted since the start."""
        return self._counts

    def status(self) -> dict[str, Any]:
        """Return what a ping tells."""
        return {
            "version": dbml.__version__, "protocol": PROTOCOL, "pid": os.getpid(), "scorers": self._scorers.pids(),
            "zygotes": self._zygotes.pids(), "standby_zygote": self._zygotes.standby(),
            "environments": self._zygotes.status(), "started_at": self._began,
            "running": self._admission.running, "queued": self._admission.waiting,
            "max_running": self._admission.most_running, "max_scripts": self._admission.most_scripts,
            "memory_mb": own_memory_mb(), "sandbox": self._sandbox.as_json(), "pools": self._admission.by_pool(),
            "limits_by": "cgroup" if self._has_cgroups else "rlimit",
        }  # fmt: skip


def _take_note(task: asyncio.Task[None]) -> None:
    """Log why something that nobody waits for has failed."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.warning("%s", error)


def _caller_lost() -> errors.DbmlError:
    """Make the error of a run whose caller's backend has ended; nobody but the run's record hears of it."""
    return errors.from_fields({"sqlstate": CALLER_LOST, "message": "the caller's connection ended in mid-call"})


def _finish(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)


async def serve(settings: WorkerSettings) -> None:
    """Serve a database until SIGTERM or SIGINT; returns when everything that was started has ended.

    Raises: errors.SchemaMissing where the database has no schema dbml; psycopg.OperationalError where it cannot be
    reached; OSError where the address is taken.
    """
    conceal()  # scripts may run under the same account: nobody reads this process' memory or environment
    allow_descriptors(settings.max_connections)
    telemetry = Telemetry(settings.dsn)
    sweep()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with contextlib.AsyncExitStack() as cleanup:
        runtime = str(cleanup.enter_context(temporary_directory(SCRATCH)))
        Path(runtime).chmod(0o711)  # who may pass through to a scratch directory cannot list what is here
        cleanup.push_async_callback(telemetry.close)
        own = Interpreter.own()
        sandbox = await asyncio.to_thread(choose, settings.sandbox, own.command(), own.files, own.path)
        log.info("sandbox: %s", json.dumps(sandbox.as_json()))
        cgroups = control_groups.find()
        if cgroups is not None:
            cleanup.callback(cgroups.close)
        log.info("memory and processes of scripts are limited by %s", "rlimit and watch" if cgroups is None else "control groups")
        burying = asyncio.create_task(bury_strays())
        cleanup.callback(burying.cancel)
        zygote = Zygote(runtime, settings.limits, own, sandbox, cgroups=cgroups)
        cleanup.push_async_callback(zygote.stop)
        warming = asyncio.create_task(zygote.start())  # what takes longest begins first
        try:
            if settings.on_standby is not None:
                await warming
                if not await _turn(settings.on_standby, stop):
                    return
            preparing = asyncio.create_task(_prepare_the_next(zygote, own, sandbox, runtime, standby=settings.standby))
            preparing.add_done_callback(_take_note)
            cleanup.callback(preparing.cancel)
            channel = await _channel(telemetry)
            await warming
        except BaseException:
            warming.cancel()
            await asyncio.wait([warming])
            raise
        scorer_limits = replace(settings.limits, cache_mb=settings.cache_mb)
        scorers = ScorerPool(zygote, scorer_limits, settings.scorers)
        cleanup.callback(scorers.stop)
        ahead = asyncio.create_task(scorers.start())  # calls are answered meanwhile
        ahead.add_done_callback(_take_note)
        cleanup.callback(ahead.cancel)
        admission = Admission(
            settings.max_running, settings.max_scripts, of_role=settings.max_running_per_role, share=settings.role_share
        )
        uv = Uv(settings.cache or cache_directory(), settings.find_links, settings.no_index)
        zygotes = Zygotes(
            zygote, Builder(uv, Path(runtime, "code"), sandbox), runtime, settings.limits, scorer_limits, settings.scorers,
            most=settings.environments, idle_s=settings.environment_idle_s,
        )  # fmt: skip
        zygotes.start()
        cleanup.push_async_callback(zygotes.stop)
        keys = Keys(channel, telemetry.read_channel, telemetry.now)
        router = Router(
            keys, zygotes, uv, scorers, telemetry, runtime, admission, settings.limits, Counts(), sandbox,
            Inspections(zygote, settings.limits),
            has_cgroups=cgroups is not None,
        )  # fmt: skip
        watch = Watch(router.subjects)
        watch.start()
        cleanup.push_async_callback(watch.stop)
        if settings.metrics is not None:
            cleanup.callback(serve_metrics(settings.metrics, router))
        host, port, directory = listen_address(settings)
        if directory is not None and not Path(directory).is_dir():
            # The server's account must reach the socket; what keeps others out is SCRAM and the signature.
            if settings.listen is None:
                directory = str(cleanup.enter_context(temporary_directory(SOCKETS)))
                Path(directory).chmod(0o711)
            else:
                Path(directory).mkdir(mode=0o711, parents=True)
                cleanup.callback(shutil.rmtree, directory, ignore_errors=True)
        listener = Listener(
            router, password=channel.password, host=host, port=port, directory=directory,
            max_connections=settings.max_connections, max_message=LONGEST_MESSAGE,
            max_messages=settings.messages_mb << 20,
            max_unauthenticated=max(MAX_UNAUTHENTICATED, settings.max_connections),  # they may all come at once
            on_wrong_password=keys.follow_soon,
        )  # fmt: skip
        keys.begin(listener.change_password)
        seen_host, seen_port = await listener.start()
        place = seen_host if directory is not None else f"{seen_host}:{seen_port}"
        cleanup.push_async_callback(listener.stop)
        if settings.advertise is not None:
            seen_host, _, advertised = settings.advertise.rpartition(":")
            seen_port = int(advertised)
        await telemetry.register(seen_host, seen_port, scoring_packages())
        telemetry.start()
        submissions = Submissions(settings.dsn, keys, telemetry, zygotes, settings.limits, router.adopt)
        submissions.start()
        cleanup.push_async_callback(submissions.stop)
        address = f"{seen_host}:{seen_port}"
        log.info("worker %s listens at %s, process %d", dbml.__version__, address, os.getpid())
        if settings.on_ready is not None:
            settings.on_ready(place)
        if settings.on_warm is not None:
            told = settings.on_warm
            ahead.add_done_callback(lambda task: None if task.cancelled() else told())
        await stop.wait()
        log.info("worker stops")


def allow_descriptors(connections: int) -> None:
    """Raise the limit of open files as far as it goes; every connection takes one of them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < connections + OWN_DESCRIPTORS:
        log.warning(
            "%d connections need %d open files, the limit is %d: raise it (LimitNOFILE=, ulimit -n) or lower --max-connections",
            connections, connections + OWN_DESCRIPTORS, most,
        )  # fmt: skip


async def _turn(on_standby: Callable[[Callable[[], object]], None], stop: asyncio.Event) -> bool:
    """Wait until it is this worker's turn to serve; False where it is to stop."""
    loop = asyncio.get_running_loop()
    turn = asyncio.Event()
    on_standby(lambda: loop.call_soon_threadsafe(turn.set))
    waiting = [asyncio.create_task(event.wait()) for event in (turn, stop)]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
    return not stop.is_set()


async def _prepare_the_next(zygote: Zygote, own: Interpreter, sandbox: Sandbox, runtime: str, *, standby: bool) -> None:
    """Make the next start of a zygote quick: by compiled files, and by another one that stands by."""
    await zygote.warm.wait()
    if bytecode.is_missing():
        await bytecode.complete(own, sandbox, Path(runtime))
    if standby:
        zygote.keep_standby()


async def _channel(telemetry: Telemetry) -> Channel:
    try:
        channel = await telemetry.read_channel()
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        channel = None
    except psycopg.errors.UndefinedColumn:
        raise errors.SchemaTooOld("the schema dbml is older than this worker", hint="dbml upgrade --dsn …") from None
    except psycopg.errors.InsufficientPrivilege as error:
        raise errors.SchemaError(
            f"the worker's login must have the rights of the role dbml_worker in this database: {str(error).strip()}",
            hint="dbml upgrade gives the role its rights, dbml install --worker-login NAME makes a login that has it",
        ) from None
    if channel is None:
        raise errors.SchemaMissing("the database has no schema dbml", hint="dbml install --dsn …")
    return channel


def listen_address(settings: WorkerSettings) -> tuple[str | None, int, str | None]:
    """Choose where to listen: (host, port, None) for TCP, (None, port, directory) for a Unix socket."""
    if settings.listen is None:
        host = psycopg.conninfo.conninfo_to_dict(settings.dsn).get("host")
        if host is None or str(host).startswith("/"):
            return None, 5432, str(Path(tempfile.gettempdir(), SOCKETS))  # one of that name is made
        return "127.0.0.1", 0, None
    if settings.listen.startswith(("/", ".")):
        return None, 5432, str(Path(settings.listen).absolute())
    host, _, port = settings.listen.rpartition(":")
    if not port.isdigit():
        raise errors.InvalidArgument(f"listen must be HOST:PORT or a directory, got {settings.listen!r}")
    return host.strip("[]") or "127.0.0.1", int(port), None
