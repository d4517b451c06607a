"""A run's record: what is written about a script while it runs and when it has ended."""

from __future__ import annotations

import asyncio
import hashlib
import re
import tempfile
import uuid
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import IO, Any

from dbml import errors
from dbml.store import runs
from dbml.worker.child_runs import ChildRuns
from dbml.worker.logged import LoggedValues
from dbml.worker.secret_params import Secrets
from dbml.worker.software import software_of
from dbml.worker.space import room_for
from dbml.worker.telemetry import NOTE_BYTES, Connection, Telemetry

LOG_HALF = 512 * 1024  # of a run's log, the first and the last half megabyte are kept
MOST_TAGGED = 1 << 20  # characters of tags, properties and parameters
SPOOLED = 1 << 20  # bytes of an artifact on its way that are kept in memory, in a file beyond

TYPE = re.compile(r"[a-z][a-z ]{0,39}(\[\])?")

Receive = Callable[[], Awaitable[tuple[dict[str, Any], bytes]]]


class RunLog:
    """What a script printed, its first and last half megabyte."""

    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets
        self._head = ""
        self._tail = ""
        self._dropped = 0

    def add(self, text: str) -> None:
        """Add printed text."""
        room = LOG_HALF - len(self._head)
        self._head += text[:room]
        if len(text) > room:
            tail = self._tail + text[room:]
            self._dropped += max(0, len(tail) - LOG_HALF)
            self._tail = tail[-LOG_HALF:]

    def text(self) -> str:
        """Return the log as it is kept, without secrets; a character that PostgreSQL cannot store is replaced."""
        if self._dropped:
            head, tail = self._secrets.mask_cut(self._head, self._tail)
            text = f"{head}\n… {self._dropped} characters are left out …\n{tail}"
        else:
            text = self._secrets.mask(self._head + self._tail)
        return text.replace("\x00", "\ufffd")


class RunRecord:
    """The row in dbml.runs and what belongs to it; nothing that fails here fails the script."""

    def __init__(
        self, request: Mapping[str, Any], telemetry: Telemetry, secrets: Secrets, pool: str | None,
        limits: Mapping[str, Any] | None = None, seed: int | None = None,
    ) -> None:  # fmt: skip
        self._request = request
        self._seed = seed
        self._secrets = secrets
        self._pool = pool
        self._limits = limits
        self._telemetry = telemetry
        self.run_id = str(uuid.uuid4())
        self.log = RunLog(secrets)
        self.arrived_at = datetime.now(UTC)
        self.queued_s = 0.0
        self._tags: dict[str, str] = {}
        self._properties: dict[str, str] = {}
        self._params: dict[str, str] = {}
        self._loaded: list[dict[str, Any]] = []
        self._values = LoggedValues(secrets)
        self._value_count = 0
        self.children = ChildRuns(lambda: self.run_id, secrets, telemetry.unfinished, self._note)
        self._tagged = 0
        self._output_parts: dict[str, int] = {}
        self._started: asyncio.Task[bool] | None = None
        self._run: dict[str, Any] = {}

    def begin(self, status: str) -> None:
        """Record that the run is there, as 'queued' or 'running', without waiting for it."""
        request = self._request
        environment = request.get("environment") or {}
        submitted: Mapping[str, Any] | None = request.get("submitted")
        run = {
            "run_id": self.run_id, "workspace_id": request["workspace_id"], "workspace": request["workspace"],
            "experiment": request["experiment"], "username": request["user"], "session_user": request["session_user"],
            "database": request["database"], "application": request["application"],
            "client_address": request["client_address"], "backend_pid": request["backend_pid"],
            "language": request["language"], "script": request["script"], "status": status,
            "script_sha256": script_digest(request["script"], submitted), "kind": "script" if submitted is None else "submitted",
            "params": self._secrets.shown,
            "inputs": request["inputs"], "started_at": self.arrived_at, "stored_script": request.get("stored_script"),
            "stored_version": request.get("stored_version"), "environment": environment.get("name"),
            "environment_version": environment.get("version"), "lock_sha256": environment.get("lock_sha256"),
            "pool": self._pool, "options": _options(request, self._limits), "seed": self._seed,
            "software": software_of(request.get("environment")), "replay_of": request.get("replay_of"),
            "snapshot": None if submitted is None else bytes.fromhex(submitted["snapshot"]),
            "arguments": None if submitted is None else self._secrets.shown["arguments"],
        }  # fmt: skip
        self._run = run
        self._telemetry.unfinished.add(self.run_id)
        self._started = asyncio.create_task(
            self._telemetry.note(
                f"run {self.run_id}", lambda connection: runs.start(connection, run), size=len(request["script"])
            )
        )

    async def leave_queue(self, queued_s: float) -> None:
        """Record that a run that was queued is running."""
        self.queued_s = queued_s
        await self._note("the start", lambda connection: runs.leave_queue(connection, self.run_id, queued_s))

    async def server_lives(self) -> bool:
        """Tell whether the database's server has been there all along."""
        return await self._telemetry.lives()

    def tag(self, tags: Mapping[str, str]) -> None:
        """Add tags, which are written at the end.

        Raises: LimitExceeded.
        """
        self._count_tagged(tags)
        self._tags.update(self._secrets.mask_tree(dict(tags)))

    def add_properties(self, properties: Mapping[str, str]) -> None:
        """Add properties, which are written at the end; errors as `tag`."""
        self._count_tagged(properties)
        self._properties.update(self._secrets.mask_tree(dict(properties)))

    def add_params(self, params: Mapping[str, str]) -> None:
        """Add parameters beside those of the call, which are written at the end; errors as `tag`."""
        self._count_tagged(params)
        self._params.update(self._secrets.mask_tree(dict(params)))

    def _count_tagged(self, given: Mapping[str, str]) -> None:
        self._tagged += sum(len(name) + len(text) for name, text in given.items())
        if self._tagged > MOST_TAGGED:
            raise errors.LimitExceeded(
                f"tags, properties and parameters of a run must have {MOST_TAGGED} characters at most",
                detail={"limit": "tags", "value": MOST_TAGGED},
            )

    def check_size(self, what: str, size: int) -> None:
        """Refuse bytes that are more than a script's process could have.

        Raises: LimitExceeded.
        """
        limits = self._limits or {}
        held = [(int(limits[name]), name) for name in ("scratch_mb", "memory_mb") if limits.get(name) is not None]
        value, limit = max(held, default=(0, ""))
        if limit and not 0 <= size <= value << 20:
            raise errors.LimitExceeded(
                f"{what} is larger than {limit} = {value} allows", detail={"limit": limit, "value": value, "pool": self._pool}
            )

    def add_loaded(self, asked: str, model: Mapping[str, Any]) -> None:
        """Add a model that was loaded."""
        if all(known["asked"] != asked for known in self._loaded):
            self._loaded.append({"asked": asked, **{key: model[key] for key in ("name", "version", "digest")}})

    async def add_metric(self, head: Mapping[str, Any]) -> None:
        """Add a logged value; many are written together."""
        full = self._values.add(self.run_id, self._value_count, head)
        self._value_count += 1
        if full:
            await self._write_values()

    async def _write_values(self) -> None:
        rows, size = self._values.take()
        await self._note("metrics", lambda connection: runs.add_values(connection, rows), size=size)

    async def add_artifact(self, head: Mapping[str, Any], receive: Receive) -> None:
        """Take an artifact from its script whole, of its run or a child, then write it in a transaction of its own.

        Raises: LimitExceeded where there is no room for it on its way, or it is larger than a script's files can be.
        """
        digest, size = bytes.fromhex(head["digest"]), int(head["size"])
        name = self._secrets.mask(head["name"])
        run_id = await self.home_of(head)
        self.check_size(f"artifact {name!r}", size)
        passed = 0
        spool: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=SPOOLED)  # noqa: SIM115 - the note closes it
        try:
            passing = hashlib.sha256()
            while True:
                said, part = await receive()
                if said["tag"] == "error":
                    raise errors.from_fields(said)
                if said["tag"] != "part":
                    break
                passing.update(part)
                passed += len(part)
                check_passed(passed, size)
                with room_for(f"artifact {name!r}"):
                    spool.write(part)
            check_digest(passing, head["digest"])
            check_passed(passed, size, whole=True)
        except BaseException:
            spool.close()
            raise

        async def work(connection: Connection) -> None:
            if await runs.add_blob(connection, digest, size):
                spool.seek(0)
                ordinal = 0
                while part := spool.read(runs.PART_BYTES):
                    await runs.add_part(connection, digest, ordinal, part)
                    ordinal += 1
            await runs.add_artifact(connection, run_id, name, head["kind"], head["content_type"], digest)

        # Whoever reads it once it is there finds it after a crash too.
        await self._note(f"artifact {name!r}", work, size=min(size, SPOOLED), durable=True)

    async def home_of(self, head: Mapping[str, Any]) -> str:
        """Return the id of the run that a message is about, this one or a child whose row is there."""
        if head.get("child") is None:
            return self.run_id
        child = self.children.find(head)
        await self.children.flush()
        return child.run_id

    async def add_output(self, head: Mapping[str, Any], literals: list[str]) -> None:
        """Write some rows of an output.

        Raises: ProtocolMismatch for a type that is none: its name will stand in a query.
        """
        for type_ in head["types"]:
            if not TYPE.fullmatch(type_):
                raise errors.ProtocolMismatch(f"an output's column has the type {type_!r}, which is none")
        output = self._secrets.mask(head["name"])
        part = self._output_parts.get(output, 0)
        self._output_parts[output] = part + 1
        columns = [
            {"name": self._secrets.mask(name), "type": type_} for name, type_ in zip(head["names"], head["types"], strict=True)
        ]
        await self._note(
            f"output {output!r}",
            lambda connection: runs.add_output(connection, self.run_id, output, part, columns, head["n"], literals),
            size=sum(map(len, literals)),
        )

    async def refuse(self, error: errors.DbmlError) -> None:
        """Record a call that was refused before it began."""
        self.begin("running")
        nothing = {"status": "failed", "rows_in": 0, "rows_out": None, "peak_memory_mb": None, "cpu_seconds": None}
        await self.finish(nothing, error.fields())

    async def finish(self, outcome: Mapping[str, Any], error: Mapping[str, str | None] | None) -> None:
        """Record how the run ended."""
        if self._started is None:
            return
        await self._started
        values, _ = self._values.take()
        ending = self._ending(outcome, error)
        await self.children.end_all(ending)

        async def work(connection: Connection) -> None:
            await runs.finish(connection, self._run, ending)
            if values:
                await runs.add_values(connection, values)
            self._telemetry.unfinished.discard(self.run_id)

        size = len(ending["log"]) + len(self._run["script"]) + 100 * len(values)
        await self._telemetry.note(f"the end of run {self.run_id}", work, size=size)

    def _ending(self, outcome: Mapping[str, Any], error: Mapping[str, str | None] | None) -> dict[str, Any]:
        return {
            "run_id": self.run_id, "finished_at": datetime.now(UTC), "log": self.log.text(), "tags": self._tags,
            "properties": self._properties, "logged_params": self._params, "loaded": self._loaded,
            "sqlstate": error and error["sqlstate"],
            "error": error and _plain(error["message"]), "error_context": error and _plain(error["context"]), **outcome,
        }  # fmt: skip

    async def _note(
        self, what: str, work: Callable[[Connection], Awaitable[object]], *, size: int = NOTE_BYTES, durable: bool = False
    ) -> None:  # fmt: skip
        if self._started is not None and await self._started:
            await self._telemetry.note(f"{what} of run {self.run_id}", work, size=size, durable=durable)


def _options(request: Mapping[str, Any], limits: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the arguments of a call that are no columns of dbml.runs, as far as they were given, and its limits."""
    split = request.get("split") or {}
    found = {
        "partition_by": split.get("keys"), "rows_per_read": split.get("rows"), "order_by": request.get("order_by"),
        "parallel": request.get("parallel"), "timeout_s": request.get("timeout_s"), "input_name": request.get("main_input"),
        "output_name": request.get("output_name"), "result": request.get("result"), "limits": limits,
    }  # fmt: skip
    return {name: value for name, value in found.items() if value is not None}


def script_digest(script: str, submitted: Mapping[str, Any] | None) -> str:
    """Return what tells a script from others: of its text, or of its path and the snapshot that it is in."""
    snapshot = b"" if submitted is None else bytes.fromhex(submitted["snapshot"])
    return hashlib.sha256(snapshot + script.encode()).hexdigest()


def check_digest(passed: hashlib._Hash, claimed: str) -> None:
    """Refuse bytes that are not those whose digest was named: they would be kept under another's name."""
    if passed.hexdigest() != claimed:
        raise errors.InvalidArgument("bytes from a script do not match the digest that it named", detail={"digest": claimed})


def check_passed(passed: int, claimed: int, *, whole: bool = False) -> None:
    """Refuse bytes that are more, or when they are whole less, than was said."""
    if passed > claimed or (whole and passed < claimed):
        raise errors.InvalidArgument(f"bytes from a script must be as many as it said, {claimed}", detail={"size": claimed})


def _plain(text: str | None) -> str | None:
    return None if text is None else text.replace("\x00", "\ufffd")
