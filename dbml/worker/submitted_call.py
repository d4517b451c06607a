"""A submitted run: the conversation with its script that SQL holds for a call, held by the worker itself.

What a script asks of its caller's transaction is done in transactions of the worker's: a model that it registers is
there at once and belongs to who submitted the run, and it loads models of the run's own workspace.
"""

from __future__ import annotations

import asyncio
import json
import logging
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from typing import IO, Any

import psycopg

from dbml import errors
from dbml.store import runs, submissions
from dbml.worker.calls import Row
from dbml.worker.environments.builder import Reference
from dbml.worker.environments.zygotes import EnvironmentNeeded, Zygotes
from dbml.worker.inputs import send_inputs
from dbml.worker.record import SPOOLED, check_passed
from dbml.worker.script_call import ScriptCall, random_seed
from dbml.worker.space import room_for
from dbml.worker.submitted_record import SubmittedRecord
from dbml.worker.telemetry import INTERRUPTED, Connection, Telemetry

log = logging.getLogger("dbml.submitted")

Message = tuple[str, dict[str, Any], bytes]


def request_of(header: Mapping[str, Any], pool: Mapping[str, Any]) -> dict[str, Any]:
    """Return the request of a script's call for what was submitted."""
    seed = random_seed() if header["seed"] is None else header["seed"]
    inputs = [{key: source[key] for key in source if key != "function"} for source in header["inputs"]]
    return {
        **header, "kind": "script", "submitted": {"snapshot": header["snapshot"], "outputs": True}, "pool": pool, "seed": seed,
        "inputs": inputs, "sources": header["inputs"], "expected": None, "split": None, "output_name": "OutputDataSet",
        "result": "none", "backend_pid": None,
    }  # fmt: skip


class SubmittedCall:
    """Holds one such conversation.

    make: makes the script's call, when its environment is built.  dsn: where its input queries run.
    """

    def __init__(
        self, request: Mapping[str, Any], record: SubmittedRecord, zygotes: Zygotes, telemetry: Telemetry,
        make: Callable[[], ScriptCall], dsn: str,
    ) -> None:  # fmt: skip
        self._request = request
        self._record = record
        self._zygotes = zygotes
        self._telemetry = telemetry
        self._make = make
        self._dsn = dsn
        self._script: ScriptCall | None = None

    async def run(self) -> bool:
        """Run the script to its end; False where it could not begin and waits on."""
        try:
            return await self._run()
        except Exception as error:  # the edge where a run ends
            log.exception("run %s failed unexpectedly", self._record.run_id)
            await self._give_up(errors.DbmlError(f"dbml failed: {type(error).__name__}: {error}", hint="please report it"))
            return True

    async def _run(self) -> bool:
        try:
            await self._build_environment()
            self._script = script = self._make()
            await script.open()
        except errors.TooManyScripts:
            return False
        except EnvironmentNeeded as needed:
            await self._give_up(errors.EnvironmentBuildFailed(f"environment {needed} was deleted", hint="submit the run again"))
            return True
        except errors.DbmlError as error:
            if self._script is None:
                await self._record.fail(error)
            return True
        except Exception as error:  # the edge where a run ends: what was submitted may have been made by hand
            log.exception("run %s could not begin", self._record.run_id)
            await self._give_up(errors.DbmlError(f"dbml failed: {type(error).__name__}: {error}", hint="please report it"))
            return True
        if not await self._record.has_begun():  # taken back, or the database is away
            self._record.leave_alone()
            await script.abandon(errors.CallCanceled("the run was taken back"))
            return False
        try:
            await self._converse(script)
        except errors.DbmlError as error:
            await script.abandon(error)  # where the script itself did not raise it
        return True

    async def interrupt(self) -> None:
        """End it with the worker: a run that has begun is interrupted, another waits for the next worker."""
        if not (self._script is not None and await self._record.has_begun()):
            self._record.leave_alone()
        await self._give_up(errors.WorkerLost(INTERRUPTED))

    def take_back(self) -> None:
        """Stop waiting: somebody has cancelled it in the database."""
        self._record.leave_alone()
        if self._script is not None:
            self._script.stop(errors.CallCanceled("the run was taken back"))

    @property
    def functions(self) -> list[str]:
        """Return the names of the functions that hold its input queries."""
        return [source["function"] for source in self._request["sources"]]

    @property
    def waits(self) -> bool:
        """Tell whether it has not begun."""
        return self._script is None or self._script.turn is None or not self._script.turn.inside

    async def _give_up(self, error: errors.DbmlError) -> None:
        if self._script is not None:
            await self._script.abandon(error)
        else:
            await self._record.fail(error)

    async def _build_environment(self) -> None:
        """Build the environment where this machine does not have it.

        Raises: errors.EnvironmentFailed; errors.WorkerError where its lock cannot be read.
        """
        given = self._request.get("environment")
        try:
            self._zygotes.check(given)
            return
        except EnvironmentNeeded:
            assert given is not None
        try:
            lock = await self._telemetry.transact(lambda connection: submissions.lock_of(connection, int(given["id"])))
        except psycopg.Error as error:
            raise errors.WorkerError(f"the environment's lock could not be read: {str(error).strip()}") from None
        reference = Reference.of(given)
        if lock is None:
            raise errors.EnvironmentNotFound(f'environment "{reference}" was deleted before the run began')
        self._record.follow()
        follower = self._zygotes.builder.build(reference, lock)
        try:
            while lines := await follower.lines():
                for line in lines:
                    self._record.log.add(f"{line}\n")
            await follower.result()
        finally:
            follower.leave()

    async def _send_inputs(self, script: ScriptCall) -> None:
        """Send the rows of the inputs, as long as the script is not stopped."""

        async def send(head: dict[str, Any], body: bytes) -> None:
            await script.handle("rows", head, body)

        work = send_inputs(self._dsn, self._request["sources"], str(self._request["user"]), send)
        sending = asyncio.create_task(work)
        either: set[asyncio.Future[Any]] = {sending, script.stopped}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not sending.done():
            sending.cancel()
            await asyncio.wait({sending})
            return  # the next message finds out why it was stopped
        try:
            sending.result()
        except errors.DbmlError as error:
            await script.abandon(error)
            raise

    async def _converse(self, script: ScriptCall) -> None:
        if self._request["sources"]:
            await self._send_inputs(script)
        message: Message = ("run", {}, b"")
        while True:
            rows = await script.handle(*message)
            message = ("next", {}, b"")
            for tag, head, _ in rows:
                match tag:
                    case "done":
                        return
                    case "register":
                        message = await self._register(script, json.loads(head or "{}"))
                    case "load":
                        message = await self._lend(script, json.loads(head or "{}"))
                    case "ask":
                        message = await self._do(json.loads(head or "{}"))

    async def _register(self, script: ScriptCall, head: Mapping[str, Any]) -> Message:
        """Take a model from the script, or what the run keeps of it, and register it; returns the answer."""
        if "files" in head:
            return await self._answer("registered", lambda connection: self._add_model(connection, head, None))
        size, passed = int(head["size"]), 0
        self._record.check_size(f"model {head['name']!r}", size)
        with tempfile.SpooledTemporaryFile(max_size=SPOOLED) as spool:
            with room_for("a model on its way to the database"):
                while (part := await _fetch(script)) is not None:
                    passed += len(part)
                    check_passed(passed, size)
                    spool.write(part)
            check_passed(passed, size, whole=True)
            return await self._answer("registered", lambda connection: self._add_model(connection, head, spool))

    async def _add_model(self, connection: Connection, head: Mapping[str, Any], spool: IO[bytes] | None) -> dict[str, Any]:
        if spool is not None:
            digest = bytes.fromhex(head["digest"])
            if await runs.add_blob(connection, digest, int(head["size"])):
                spool.seek(0)
                ordinal = 0
                while part := spool.read(runs.PART_BYTES):
                    await runs.add_part(connection, digest, ordinal, part)
                    ordinal += 1
        return {"name": head["name"], "version": await submissions.add_model(connection, head["run_id"], head)}

    async def _do(self, asked: Mapping[str, Any]) -> Message:
        """Do what the script asks of the database, and return the answer."""
        run_id, about = self._record.run_id, asked["about"]
        what = asked["what"]
        if what == "keep_output":

            async def work(connection: Connection) -> dict[str, Any]:
                return await submissions.keep_output(connection, run_id, about["output"], about["files"])

        elif what == "submit_child":
            await self._record.children.flush()  # its parent may be one of them

            async def work(connection: Connection) -> dict[str, Any]:
                return {"run_id": await submissions.submit_child(connection, run_id, about)}

        elif what == "child_state":

            async def work(connection: Connection) -> dict[str, Any]:
                return await submissions.child_state(connection, run_id, about["run_id"])

        else:
            raise errors.ProtocolMismatch(f"a submitted script cannot ask for {what!r}")
        return await self._answer("answer", work)

    async def _lend(self, script: ScriptCall, head: Mapping[str, Any]) -> Message:
        """Send the script the model that it asks for; returns the answer.

        No transaction is open while a part is sent: the script may take its time.
        """
        run_id = self._record.run_id

        async def find(connection: Connection) -> dict[str, Any]:
            key, name, version, digest = await submissions.find_model(connection, run_id, head["name"])
            return {"key": key, "name": name, "version": version, "digest": digest.hex()}

        verb, found, body = await self._answer("model", find)
        if verb == "refused":
            return verb, found, body
        key = found.pop("key")
        ordinal = 0
        while True:
            verb, part, body = await self._answer("part", partial(self._part, key, ordinal))
            if verb == "refused":
                return verb, part, body
            if part["content"] is None:
                return "model", found, b""
            await script.handle("part", {}, part["content"].hex().encode())
            ordinal += 1

    async def _part(self, key: int, ordinal: int, connection: Connection) -> dict[str, Any]:
        return {"content": await submissions.model_part(connection, self._record.run_id, key, ordinal)}

    async def _answer(self, verb: str, work: Any) -> Message:
        """Do what the script asked in a transaction; an error of the database's is the answer."""
        try:
            return verb, await self._telemetry.transact(work, durable=True), b""
        except psycopg.Error as error:
            fields = {
                "sqlstate": error.sqlstate or "08006", "message": error.diag.message_primary or str(error).strip(),
                "detail": error.diag.message_detail, "hint": error.diag.message_hint,
            }  # fmt: skip
            return "refused", fields, b""


async def _fetch(script: ScriptCall) -> bytes | None:
    rows: list[Row] = await script.handle("fetch", {}, b"")
    ((tag, _, part),) = rows
    return bytes.fromhex(str(part)) if tag == "part" else None
