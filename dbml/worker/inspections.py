"""Inspections: what is in a model's bytes, asked of a process that reads them and loads nothing.

The router keeps what it was told, by digest, so that a policy is decided once for a model and not for each prediction.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from typing import IO, Any

from dbml import errors
from dbml.formats.policy import Policy
from dbml.formats.verdicts import HARMLESS, TRUSTED
from dbml.worker.calls import Row, unknown
from dbml.worker.processes import Zygote
from dbml.worker.sandbox import Limits
from dbml.worker.scorers import PART_BYTES, ModelNeeded
from dbml.worker.space import room_for
from dbml.worker.turns import Turns
from dbml.worker.zygote_process import ChildLost

CPU_SECONDS = 60  # of one model
MOST_KEPT = 1000  # models whose contents are known
MOST_ROWS = 100  # of one of them; of what is harmless none is kept
AT_A_TIME = 2
MOST_AT_A_TIME = 8  # where roles that have none in work come


class Inspections:
    """Reads models in processes of their own, and remembers what was in them."""

    def __init__(self, zygote: Zygote, limits: Limits) -> None:
        self._zygote = zygote
        self._limits = replace(limits, cpu_seconds=CPU_SECONDS, processes=16, threads=1, network=False)
        self._known: OrderedDict[tuple[str, str], list[dict[str, Any]]] = OrderedDict()
        self._turns = Turns(AT_A_TIME, MOST_AT_A_TIME)

    async def contents(
        self, digest: str, format: str, upload: IO[bytes] | None, role: str = ""  # noqa: A002
    ) -> list[dict[str, Any]]:  # fmt: skip
        """Return what is in a model, a row for each thing: module, name, calls, verdict, note.

        upload: the model's bytes, where SQL has sent them; role: whose turn is waited for.
        Raises: ModelNeeded without them; errors.ModelLoadError.
        """
        if upload is None:
            raise ModelNeeded(digest)
        await self._turns.acquire(role)
        try:
            rows: list[dict[str, Any]] = json.loads(await self._ask(digest, format, upload))
        finally:
            self._turns.release(role)
        return rows

    async def admit(
        self, model: str, digest: str, format: str, policy: Mapping[str, Any] | None, upload: IO[bytes] | None,  # noqa: A002
        role: str = "",
    ) -> None:  # fmt: skip
        """Make sure that a policy allows what is in a model; errors as `contents`, and errors.ModelRefused.

        The bytes are not asked for where it is known what is in them that a policy might forbid.
        """
        rows = self._known.get((digest, format))
        if rows is None:
            rows = [row for row in await self.contents(digest, format, upload, role) if row["verdict"] not in (HARMLESS, TRUSTED)]
            if len(rows) <= MOST_ROWS:
                self._known[digest, format] = rows
                while len(self._known) > MOST_KEPT:
                    self._known.popitem(last=False)
        else:
            self._known.move_to_end((digest, format))
        Policy.of(policy).check(format, rows, model, (policy or {}).get("workspace"))

    async def _ask(self, digest: str, format: str, upload: IO[bytes]) -> bytes:  # noqa: A002
        child = None
        try:
            with room_for("an inspector's directory"):
                child = await self._zygote.fork("inspector", self._limits)
            await child.send({"tag": "inspect", "digest": digest, "format": format})
            upload.seek(0)
            while part := upload.read(PART_BYTES):
                await child.send({"tag": "part"}, part)
            await child.send({"tag": "end"})
            answer, body = await child.receive()
        except (ChildLost, ConnectionError, TimeoutError) as lost:
            raise errors.ModelLoadError(
                f"the model's bytes cannot be read: the process that does it {lost}", detail={"digest": digest}
            ) from None
        finally:
            if child is not None:
                child.kill()
        if answer["tag"] == "error":
            raise errors.from_fields(answer)
        return body


class InspectCall:
    """Tells what is in a model, or refuses it, in one message."""

    def __init__(self, request: Mapping[str, Any], inspections: Inspections) -> None:
        self._request = request
        self._inspections = inspections

    async def open(self, spool: IO[bytes] | None) -> list[Row]:
        """Answer the opening message; 'need' asks SQL for the model's bytes and for the same call again."""
        request = self._request
        digest, format_, given = request["digest"], request["format"], request.get("policy")
        try:
            match request["form"]:
                case "inspect":
                    rows = await self._inspections.contents(digest, format_, spool, request["user"])
                    policy = Policy.of(given)
                    has_rule = format_ in ("safe", "onnx") or policy.types is not None
                    told = [row | {"allowed": not policy.misfits(format_, [row]) if has_rule else None} for row in rows]
                    return [("contents", None, json.dumps(told, ensure_ascii=False))]
                case "admit":
                    await self._inspections.admit(request["model"], digest, format_, given, spool, request["user"])
                    return [("admitted", None, None)]
                case form:
                    raise unknown(str(form))
        except ModelNeeded:
            return [("need", None, None)]
        finally:
            if spool is not None:
                spool.close()

    async def handle(self, verb: str, head: dict[str, Any], body: bytes) -> list[Row]:
        """Take no further message."""
        raise unknown(verb)

    async def abandon(self, error: errors.DbmlError) -> None:
        """Do nothing: the process ends with whoever waits for it."""
