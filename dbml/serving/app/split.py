"""Two versions of a service side by side: of each hundred requests so many go to the other process, or each in copy.

The process that holds the service's socket deals them out, by counting and not by chance: 10 percent is every tenth.  What the
other process does not answer, because it is not there or went away, this one does.  In shadow this process answers, and then
the other is asked the same; the two answers are compared, and what came of it is a line of the log for the runner to read.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from dbml.serving.app.front import App, Measures, Message, Receive, Scope, Send, log_lines
from dbml.serving.app.peer import Answer, Peer, PeerFile, PeerLost, Wanted
from dbml.serving.app.problems import Problem

compared = logging.getLogger("dbml.serving.shadow")
log = logging.getLogger("dbml.serving")

TOLERANCE = 1e-9  # of a number's size
WAITING = 100  # copies that may wait for the other process
LONGEST = 2000  # characters of an answer in the log
_NAMED = re.compile(r"/(v2/)?models/([^/]+)/(infer|score|invocations)")
_OWN = frozenset({
    b"host", b"content-length", b"transfer-encoding", b"connection", b"keep-alive", b"te", b"trailer", b"upgrade", b"expect",
    b"authorization", b"proxy-authorization", b"x-request-id", b"x-ms-request-id", b"x-ms-client-request-id", b"traceid", b"date",
    b"server",
})  # fmt: skip


class Split:
    """An ASGI app around the dialects that lets another process answer.

    file: says whether there is one.  answer: a problem's response, as its dialect has it.  timeout_s: for the other's answer.
    """

    def __init__(
        self, app: App, *, file: PeerFile, answer: Callable[[Scope, Problem], Any], measures: Measures, timeout_s: float
    ) -> None:
        self._app, self._file, self._answer, self._measures, self._timeout_s = app, file, answer, measures, timeout_s
        self._wanted: Wanted | None = None
        self._peer: Peer | None = None
        self._count = 0
        self._copies: set[asyncio.Task[None]] = set()
        self._dropped = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, here or there."""
        wanted = self._file.read()
        if wanted is not self._wanted:
            self._turn(wanted)
        if wanted is None or self._peer is None or not _is_scoring(scope, wanted):
            await self._app(scope, receive, send)
        elif wanted.shadow:
            await self._answer_and_compare(scope, receive, send, self._peer, wanted)
        elif not self._is_its_turn(wanted.percent) or not await self._answered_there(scope, send, self._peer):
            await self._app(scope, receive, send)
            self._measures.split("current")

    def _turn(self, wanted: Wanted | None) -> None:
        if wanted is None or self._wanted is None or wanted.address != self._wanted.address:
            if self._peer is not None:
                self._peer.close()
            self._peer = None if wanted is None else Peer(wanted.address, self._file.dialer)
        self._wanted, self._count = wanted, 0

    def _is_its_turn(self, percent: float) -> bool:
        self._count += 1
        return math.floor(self._count * percent / 100) > math.floor((self._count - 1) * percent / 100)

    async def _ask(self, scope: Scope, peer: Peer) -> Answer:
        target: bytes = scope.get("raw_path") or scope["path"].encode()
        if scope["query_string"]:
            target += b"?" + scope["query_string"]
        headers = [pair for pair in scope["headers"] if pair[0] not in _OWN]
        headers.append((b"x-request-id", scope["dbml.request_id"].encode("latin-1")))
        return await peer.ask(scope["method"].encode(), target, headers, scope["dbml.body"], self._timeout_s)

    async def _answered_there(self, scope: Scope, send: Send, peer: Peer) -> bool:
        """Have the other process answer; tell whether it did."""
        try:
            answer = await self._ask(scope, peer)
        except PeerLost as error:
            log.warning("the candidate does not answer, the current version does: %s", error)
            self._measures.split("lost")
            return False
        scope["dbml.path"] = _NAMED.sub(r"/\1models/{name}/\3", scope["path"])
        headers = [pair for pair in answer.headers if pair[0] not in _OWN]
        headers += [(b"content-length", str(len(answer.body)).encode()), (b"x-dbml-version", b"candidate")]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})
        self._measures.split("candidate")
        return True

    async def _answer_and_compare(self, scope: Scope, receive: Receive, send: Send, peer: Peer, wanted: Wanted) -> None:
        status, parts = 500, []

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            else:
                parts.append(message.get("body", b""))
            await send(message)

        began = time.perf_counter()
        try:
            await self._app(scope, receive, send_on)
        except Problem as problem:
            await self._answer(scope, problem)(scope, receive, send_on)
        if len(self._copies) >= WAITING:
            self._dropped += 1
            self._measures.split("dropped")
            return
        own = Answer(status, (), b"".join(parts))
        seconds = time.perf_counter() - began
        task = asyncio.ensure_future(self._compare(scope, peer, wanted, own, seconds))
        self._copies.add(task)
        task.add_done_callback(self._copies.discard)

    async def _compare(self, scope: Scope, peer: Peer, wanted: Wanted, own: Answer, seconds: float) -> None:
        began = time.perf_counter()
        other: Answer | None = None
        why = ""
        try:
            other = await self._ask(scope, peer)
        except PeerLost as error:
            why = str(error)
        self._measures.split("shadow" if other is not None else "lost")
        agrees, difference = _compared(own, other)
        dropped, self._dropped = self._dropped, 0
        log_lines(compared, {
            "request_id": scope["dbml.request_id"], "path": scope["path"], "candidate": wanted.generation, "agrees": agrees,
            "largest_difference": difference, "status": own.status, "candidate_status": None if other is None else other.status,
            "ms": round(seconds * 1000, 3), "candidate_ms": round((time.perf_counter() - began) * 1000, 3), "dropped": dropped,
            "answer": _text(own.body), "candidate_answer": why if other is None else _text(other.body),
        })  # fmt: skip

    async def drain(self) -> None:
        """Wait for the copies that are under way."""
        while self._copies:
            await asyncio.wait(set(self._copies))


def _is_scoring(scope: Scope, wanted: Wanted) -> bool:
    if scope["method"] != "POST":
        return False
    path: str = scope["path"]
    if path in ("/score", "/invocations"):
        return True
    named = _NAMED.fullmatch(path)
    return named is not None and named[2] in wanted.models


def _compared(own: Answer, other: Answer | None) -> tuple[bool, float | None]:
    """Return whether two answers agree, and the largest difference of numbers that stand at the same place."""
    if other is None:
        return False, None
    if own.body == other.body:
        return own.status == other.status, 0.0
    try:
        same, difference = _differ(_parsed(own.body), _parsed(other.body))
    except ValueError:
        return False, None
    return same and own.status == other.status, difference


def _differ(one: Any, two: Any) -> tuple[bool, float | None]:
    if _is_number(one) and _is_number(two):
        difference = abs(one - two)
        return difference <= TOLERANCE * max(abs(one), abs(two)), float(difference)
    if isinstance(one, list) and isinstance(two, list) and len(one) == len(two):
        found = [_differ(a, b) for a, b in zip(one, two, strict=True)]
    elif isinstance(one, Mapping) and isinstance(two, Mapping) and one.keys() == two.keys():
        # A model's own name and version are not what it says.
        found = [_differ(one[key], two[key]) for key in one if key not in ("model_name", "model_version", "id")]
    else:
        return one == two, None
    differences = [difference for _, difference in found if difference is not None]
    return all(same for same, _ in found), max(differences, default=None)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _parsed(body: bytes) -> Any:
    """Return an answer as values: of JSON, or of an Arrow stream."""
    if not body.startswith(b"\xff\xff\xff\xff"):
        return orjson.loads(body)
    import pyarrow as pa

    return pa.ipc.open_stream(body).read_all().to_pydict()


def _text(body: bytes) -> str:
    return body[:LONGEST].decode("utf-8", "replace").replace("\x00", "\ufffd")
