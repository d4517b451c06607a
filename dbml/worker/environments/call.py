"""The calls about environments: resolve a specification, build what was locked.

sql/70_environments has the other end.

SQL -> worker   open, form "resolve" or "build" (its body is the lock); then "next" as long as it takes
worker -> SQL   ("notice", -, line); at the end ("resolved", head, lock) or ("done", -, -)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from dbml import errors
from dbml.worker.calls import Row, unknown
from dbml.worker.environments.builder import Builder, Reference
from dbml.worker.environments.resolver import Resolved, resolve
from dbml.worker.environments.uv import Uv
from dbml.worker.environments.work import Follower, Say, Work


class EnvironmentCall:
    """Holds one such conversation; ended early, it ends its work where nobody else waits for it."""

    def __init__(self, request: Mapping[str, Any], uv: Uv, builder: Builder) -> None:
        self._request = request
        self._uv = uv
        self._builder = builder
        self._follower: Follower[Any] | None = None

    async def open(self, body: bytes) -> list[Row]:
        """Begin."""
        request = self._request
        match request["form"]:
            case "resolve":

                async def do(say: Say) -> Resolved:
                    return await resolve(request["spec"], request["python_version"], self._uv, say)

                self._follower = Work(do).follow()
            case "build":
                self._follower = self._builder.build(Reference.of(request), body.decode())
            case form:
                raise unknown(str(form))
        return [("ok", None, None)]

    async def handle(self, verb: str, head: dict[str, Any], body: bytes) -> list[Row]:
        """Answer with what is new."""
        if verb != "next":
            raise unknown(verb)
        if self._follower is None:
            raise errors.ProtocolMismatch("the call is over", hint="repeat the statement")
        lines = await self._follower.lines()
        if lines:
            return [("notice", None, line) for line in lines]
        follower, self._follower = self._follower, None
        result = await follower.result()
        if not isinstance(result, Resolved):
            return [("done", None, None)]
        told = {"format": result.format, "python_version": result.python_version, "packages": result.count,
                "properties": result.properties}  # fmt: skip
        return [("resolved", json.dumps(told, ensure_ascii=False), result.lock)]

    async def abandon(self, error: errors.DbmlError) -> None:
        """Follow no longer."""
        follower, self._follower = self._follower, None
        if follower is not None:
            follower.leave()
