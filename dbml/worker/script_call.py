"""A script's call: one satellite, from the first row in to the last row out, and the run's record."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from dbml import errors
from dbml.store import runs
from dbml.worker.calls import Row, unknown
from dbml.worker.environments.zygotes import Lease
from dbml.worker.processes import Child, ChildLost
from dbml.worker.telemetry import Connection, Telemetry

log = logging.getLogger("dbml.scripts")

LOG_HALF = 512 * 1024  # of a run's log, the first and the last half megabyte are kept
GATHER_S = 0.02  # prints that follow each other faster travel together
METRICS_AT_ONCE = 10_000


class RunLog:
    """What a script printed, its first and last half megabyte."""

    def __init__(self) -> None:
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
        """Return the log as it is kept; a character that PostgreSQL cannot store is replaced."""
        gap = f"\n… {self._dropped} characters are left out …\n" if self._dropped else ""
        return (self._head + gap + self._tail).replace("\x00", "\ufffd")


class ScriptCall:
    """Holds the conversation between SQL and one satellite, and keeps the record of the run."""

    def __init__(self, request: Mapping[str, Any], lease: Lease, telemetry: Telemetry) -> None:
        self._request = request
        self._lease = lease  # of the zygote, to the script's end
        self._telemetry = telemetry
        self.run_id = str(uuid.uuid4())
        self._child: Child | None = None
        self._log = RunLog()
        self._tags: dict[str, str] = {}
        self._metrics: list[tuple[Any, ...]] = []
        self._metric_count = 0
        self._rows_in = 0
        self._started: asyncio.Task[bool] | None = None
        self._receiving: asyncio.Task[tuple[dict[str, Any], bytes]] | None = None
        self._unread: tuple[dict[str, Any], bytes] | None = None
        self._passing = hashlib.sha256()  # of a model on its way to SQL, which cannot hash it whole
        self._claimed = ""
        self._over = False
        timeout_s = request.get("timeout_s")
        self._deadline = None if timeout_s is None else time.monotonic() + float(timeout_s)

    # -- what SQL sends ------------------------------------------------------------------------------------------

    async def open(self) -> list[Row]:
        """Start a satellite and hand it the script."""
        request = self._request
        self._started = asyncio.create_task(self._record_start())
        try:
            self._child = await self._lease.zygote.satellite()
            await self._child.send(
                {
                    "tag": "call",
                    "run_id": self.run_id,
                    "script": request["script"],
                    "params": request["params"],
                    "inputs": [{"name": i["name"], "columns": i["columns"]} for i in request["inputs"]],
                    "output_name": request["output_name"],
                    "expected": request.get("expected"),
                    "result": request["result"],
                    "workspace": request["workspace"],
                    "experiment": request["experiment"],
                    "user": request["user"],
                }
            )
        except (ChildLost, ConnectionError, TimeoutError) as lost:
            error = errors.ScriptCrashed(f"no process could be started for the script: {lost}", hint="the worker's log says why")
            await self.abandon(error)
            raise error from None
        return [("ready", self.run_id, None)]

    async def handle(self, verb: str, head: dict[str, Any], body: bytes) -> list[Row]:
        """Answer one message of the conversation."""
        if self._over:
            raise errors.ProtocolMismatch("the call is over", hint="repeat the statement")
        try:
            async with asyncio.timeout(self._left()):
                return await self._handle(verb, head, body)
        except TimeoutError:
            timeout = float(self._request["timeout_s"])
            error: errors.DbmlError = errors.ScriptTimeout(
                f"the script ran longer than its timeout of {timeout:g} s",
                detail={"limit": "timeout", "value": timeout},
            )
        except (ChildLost, ConnectionError) as lost:
            error = await self._why_lost(lost)
        except errors.DbmlError as raised:
            error = raised
        await self.abandon(error)
        raise error

    async def _handle(self, verb: str, head: dict[str, Any], body: bytes) -> list[Row]:
        child = self._child
        assert child is not None
        match verb:
            case "rows":
                self._rows_in += int(head["n"])
                await child.send({"tag": "rows", "input": head["input"], "n": head["n"]}, body)
                return [("ok", None, None)]
            case "run":
                await child.send({"tag": "run"})
                return await self._events()
            case "next":
                return await self._events()
            case "part":
                await child.send({"tag": "model_part"}, bytes.fromhex(body.decode("ascii")))
                return [("ok", None, None)]
            case "model":
                await child.send({"tag": "model_end", **head})
                return await self._events()
            case "refused" | "registered":
                await child.send({"tag": verb, **head})
                return await self._events()
            case "fetch":
                answer, part = await child.receive()
                if answer["tag"] == "part":
                    self._passing.update(part)
                    return [("part", None, part.hex())]
                _check_digest(self._passing, self._claimed)
                return [("end", None, None)]
            case _:
                raise unknown(verb)

    # -- what the satellite says ---------------------------------------------------------------------------------

    async def _events(self) -> list[Row]:
        """Wait for what the script says next; several things that come together are answered together."""
        rows: list[Row] = []
        child = self._child
        assert child is not None
        while True:
            try:
                frame = await self._receive(child, GATHER_S if rows else None)
            except (ChildLost, ConnectionError):
                if rows:
                    return rows  # what was printed first; the next message finds the end again
                raise
            if frame is None:
                return rows
            head, body = frame
            if head["tag"] == "error" and rows:
                self._unread = frame
                return rows
            match head["tag"]:
                case "notice":
                    text = body.decode("utf-8", "replace")
                    self._log.add(text if text.endswith("\n") else text + "\n")
                    rows.append(("notice", None, text.rstrip("\n").replace("\x00", "\ufffd")))
                case "metric":
                    await self._add_metric(head)
                case "tags":
                    self._tags.update(head["tags"])
                case "artifact":
                    await self._keep_artifact(child, head)
                case "load":
                    return [*rows, ("load", json.dumps(head, ensure_ascii=False), None)]
                case "register":
                    self._passing, self._claimed = hashlib.sha256(), head["digest"]
                    environment = self._request.get("environment") or {}
                    own = {"run_id": self.run_id, "environment_id": environment.get("id")}
                    return [*rows, ("register", json.dumps(head | own, ensure_ascii=False), None)]
                case "frame":
                    return rows + self._frame(head, body)
                case "done":
                    usage = {"peak_memory_mb": head["peak_memory_mb"], "cpu_seconds": head["cpu_seconds"]}
                    await self._finish("completed", rows_in=head["rows_in"], rows_out=head["rows_out"], usage=usage)
                    if self._request["result"] == "params":
                        rows.append(("params", None, json.dumps(head["params"], ensure_ascii=False)))
                    return [*rows, ("done", None, None)]
                case "error":
                    raise errors.from_fields(head)
                case tag:
                    raise errors.ProtocolMismatch(f"a satellite said {tag!r}, which the router does not know")

    async def _receive(self, child: Child, patience_s: float | None) -> tuple[dict[str, Any], bytes] | None:
        """Wait for a frame; None when patience ends first, and the wait goes on at the next call."""
        if self._unread is not None:
            unread, self._unread = self._unread, None
            return unread
        if self._receiving is None:
            self._receiving = asyncio.create_task(child.receive())
        done, _ = await asyncio.wait({self._receiving}, timeout=patience_s)
        if not done:
            return None
        receiving, self._receiving = self._receiving, None
        return receiving.result()

    def _frame(self, head: Mapping[str, Any], body: bytes) -> list[Row]:
        rows: list[Row] = [("frame", json.dumps({"n": head["n"], "width": len(head["sizes"])}, ensure_ascii=False), None)]
        start = 0
        for size in head["sizes"]:
            rows.append(("column", None, body[start : start + size]))
            start += size
        return rows

    async def _add_metric(self, head: Mapping[str, Any]) -> None:
        at = datetime.fromtimestamp(head["time"], UTC)
        self._metrics.append((self._metric_count, head["name"], head["step"], head["value"], at))
        self._metric_count += 1
        if len(self._metrics) >= METRICS_AT_ONCE:
            await self._flush_metrics()

    async def _flush_metrics(self) -> None:
        rows, self._metrics = self._metrics, []
        if rows and self._started is not None:
            await self._started
            await self._telemetry.note(
                f"metrics of run {self.run_id}", lambda connection: runs.add_metrics(connection, self.run_id, rows)
            )

    async def _keep_artifact(self, child: Child, head: Mapping[str, Any]) -> None:
        """Write an artifact as it comes, part by part, in a transaction of its own."""
        assert self._started is not None
        await self._started

        async def work(connection: Connection) -> None:
            digest, size = bytes.fromhex(head["digest"]), int(head["size"])
            fresh = await runs.add_blob(connection, digest, size)
            ordinal = 0
            passing = hashlib.sha256()
            while True:
                said, part = await child.receive()
                if said["tag"] == "error":
                    raise errors.from_fields(said)
                if said["tag"] != "part":
                    break
                passing.update(part)
                if fresh:
                    await runs.add_part(connection, digest, ordinal, part)
                    ordinal += 1
            _check_digest(passing, head["digest"])
            await runs.add_artifact(connection, self.run_id, head["name"], head["kind"], head["content_type"], digest)

        await self._telemetry.note(f"artifact {head['name']!r} of run {self.run_id}", work)

    # -- the end -------------------------------------------------------------------------------------------------

    async def abandon(self, error: errors.DbmlError) -> None:
        """Kill the satellite and record why the run ended; does nothing after the end."""
        if self._over:
            return
        fields = error.fields()
        canceled = fields["sqlstate"] == "57014"
        await self._finish("canceled" if canceled else "failed", error=fields)

    async def _finish(
        self, status: str, *, rows_in: int | None = None, rows_out: int | None = None,
        error: Mapping[str, str | None] | None = None, usage: Mapping[str, float | None] | None = None,
    ) -> None:  # fmt: skip
        self._over = True
        self._lease.release()
        if self._receiving is not None:
            self._receiving.cancel()
        if self._child is not None:
            self._child.kill()
            if usage is None:
                exit_ = await self._child.exited()
                usage = {"peak_memory_mb": exit_.peak_memory_mb, "cpu_seconds": exit_.cpu_seconds}
        usage = usage or {"peak_memory_mb": None, "cpu_seconds": None}
        if self._started is None or not await self._started:
            return
        metrics, self._metrics = self._metrics, []
        outcome = {
            "run_id": self.run_id, "status": status, "finished_at": datetime.now(UTC),
            "rows_in": self._rows_in if rows_in is None else rows_in, "rows_out": rows_out, "log": self._log.text(),
            "sqlstate": error and error["sqlstate"], "error": error and _plain(error["message"]),
            "error_context": error and _plain(error["context"]), "tags": self._tags, **usage,
        }  # fmt: skip

        async def work(connection: Connection) -> None:
            if metrics:
                await runs.add_metrics(connection, self.run_id, metrics)
            await runs.finish(connection, outcome)

        await self._telemetry.note(f"the end of run {self.run_id}", work)

    async def _record_start(self) -> bool:
        request = self._request
        environment = request.get("environment") or {}
        run = {
            "run_id": self.run_id, "workspace_id": request["workspace_id"], "workspace": request["workspace"],
            "experiment": request["experiment"], "username": request["user"], "session_user": request["session_user"],
            "database": request["database"], "application": request["application"],
            "client_address": request["client_address"], "backend_pid": request["backend_pid"], "language": "python",
            "script": request["script"], "script_sha256": hashlib.sha256(request["script"].encode()).hexdigest(),
            "params": request["params"], "inputs": request["inputs"], "started_at": datetime.now(UTC),
            "environment": environment.get("name"), "environment_version": environment.get("version"),
            "lock_sha256": environment.get("lock_sha256"),
        }  # fmt: skip
        return await self._telemetry.note(f"run {self.run_id}", lambda connection: runs.start(connection, run))

    async def _why_lost(self, lost: Exception) -> errors.DbmlError:
        """Find out why a satellite stopped answering: it may have said so before it went."""
        child = self._child
        assert child is not None
        try:
            while frame := await self._receive(child, 1.0):
                if frame[0]["tag"] == "error":
                    return errors.from_fields(frame[0])
        except (ChildLost, ConnectionError) as gone:
            lost = gone
        return errors.ScriptCrashed(f"the script's process {lost}", detail={"run_id": self.run_id})

    def _left(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())


def _check_digest(passed: hashlib._Hash, claimed: str) -> None:
    """Refuse bytes that are not those whose digest was named: they would be kept under another's name."""
    if passed.hexdigest() != claimed:
        raise errors.InvalidArgument("bytes from a script do not match the digest that it named", detail={"digest": claimed})


def _plain(text: str | None) -> str | None:
    return None if text is None else text.replace("\x00", "\ufffd")
