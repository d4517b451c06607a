"""Calls: what a connection has open, and the conversation that belongs to it.

A call takes messages (verb, head, body) from SQL and answers rows (tag, head, body).  sql/ holds the other end:
30_scripts/run_call.sql for a script, 40_predictions/score_query.sql for a prediction.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from typing import IO, Any, Protocol

from dbml import errors
from dbml.features import feature_names, feature_places, signature_features
from dbml.worker.scorers import PICKLE, Frame, ModelNeeded
from dbml.worker.space import room_for

LONGEST_COMPILE_S = 600.0
GRACE_S = 5.0  # for loading, and for the scorer to say itself that the time is over

Row = tuple[str | None, str | None, str | bytes | None]


class Call(Protocol):
    """One open call of one connection."""

    async def handle(self, verb: str, head: dict[str, Any], body: bytes) -> list[Row]:
        """Answer one message; raises an errors.DbmlError, after which the call is over."""

    async def abandon(self, error: errors.DbmlError) -> None:
        """Stop at once and leave nothing behind; idempotent."""


def unknown(verb: str) -> errors.DbmlError:
    """Make the error for a message that a call does not take."""
    return errors.ProtocolMismatch(
        f"the worker does not know the message {verb[:40]!r} here", hint="dbml upgrade, and restart the worker"
    )


class ModelUpload:
    """A model's bytes on their way from SQL to a scorer, in memory up to 16 MB and in a file beyond."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._spool: IO[bytes] | None = None
        self._left = 0

    def expect(self, size: int) -> None:
        """Begin a model of that many bytes."""
        self.drop()
        self._left = size

    def add(self, body: bytes) -> None:
        """Take one part, in hex; only what is expected: anybody's session can send parts."""
        try:
            part = bytes.fromhex(body.decode("ascii"))
        except ValueError:
            part = None
        if part is None or len(part) > self._left:
            self.drop()
            raise errors.ProtocolMismatch(
                "a part of a model must be expected, and in hex", hint="dbml upgrade, and restart the worker of the same release"
            )
        self._left -= len(part)
        try:
            with room_for("a model on its way to a scorer"):
                if self._spool is None:
                    self._spool = tempfile.SpooledTemporaryFile(max_size=16 << 20, dir=self._directory)  # noqa: SIM115 - outlives this call
                self._spool.write(part)
        except BaseException:
            self.drop()  # what has come of it is of no use, and takes the space
            raise

    def take(self) -> IO[bytes] | None:
        """Return what has come, None if nothing; the caller closes it."""
        spool, self._spool = self._spool, None
        return spool

    def drop(self) -> None:
        """Let go of what has come, and expect nothing."""
        self._left = 0
        spool = self.take()
        if spool is not None:
            with contextlib.suppress(OSError):  # what it still holds in memory has no room either
                spool.close()


class Scorers(Protocol):
    """What scores: the `ScorerPool` of the worker's own environment, or that of another."""

    async def describe(
        self, digest: str, upload: IO[bytes] | None, role: str = "", loading: Mapping[str, Any] = PICKLE
    ) -> dict[str, Any]:
        """As `ScorerPool.describe`."""

    async def score(
        self, digest: str, head: dict[str, Any], body: bytes, upload: IO[bytes] | None = None, role: str = ""
    ) -> Frame:
        """As `ScorerPool.score`."""


class Admission(Protocol):
    """What decides by a model's contents whether a policy lets it be loaded: `Inspections`."""

    async def admit(
        self, model: str, digest: str, format: str, policy: Mapping[str, Any] | None, upload: IO[bytes] | None,  # noqa: A002
        role: str = "",
    ) -> None:  # fmt: skip
        """As `Inspections.admit`."""


class ScoreCall:
    """Scores rows with one model: one row in the opening message, or a query's rows chunk by chunk."""

    def __init__(self, request: Mapping[str, Any], scorers: Scorers, admission: Admission) -> None:
        self._request = request
        self._scorers = scorers
        self._admission = admission
        self._loading = {"format": request.get("format", "pickle"), "policy": request.get("policy")}
        self._columns: list[Mapping[str, Any]] = []

    async def open(self, body: bytes, spool: IO[bytes] | None) -> list[Row]:
        """Answer the opening message; 'need' asks SQL for the model's bytes and for the same call again."""
        request = self._request
        digest, role = request["digest"], request["user"]
        policy = self._loading["policy"]
        try:
            if policy is not None and (policy["types"] is not None or self._loading["format"] in ("safe", "onnx")):
                await self._admission.admit(request["model"], digest, self._loading["format"], policy, spool, role)
            match request["form"]:
                case "row" | "record" as form:
                    head = {"tag": f"score_{form}", "digest": digest, "method": request["method"],
                            "signature": request.get("signature"), **self._loading}  # fmt: skip
                    answer, scores = await self._scorers.score(digest, head, body, spool, role)
                    return [("scores", answer.get("type"), scores)]
                case "describe":
                    about = await self._scorers.describe(digest, spool, role, self._loading)
                    return [("signature", about["prediction"]["type"], None)]
                case "query":
                    about = await self._scorers.describe(digest, spool, role, self._loading)
                    sent = self._match(about)
                    return [
                        ("signature", json.dumps({"sent": sent, "type": about["prediction"]["type"]}, ensure_ascii=False), None)
                    ]
                case "compile" | "convert" as form:
                    return [await self._compile(spool, form)]
                case form:
                    raise unknown(str(form))
        except ModelNeeded:
            return [("need", None, None)]
        finally:
            if spool is not None:
                spool.close()

    async def _compile(self, spool: IO[bytes] | None, form: str) -> Row:
        """Have the model compiled to SQL, or converted to ONNX; a scorer that takes too long over it is stopped.

        Raises: errors.LimitExceeded; ModelNeeded.
        """
        request = self._request
        limit_s = min(float(request["time_limit_s"]), LONGEST_COMPILE_S)
        head = {"tag": form, "digest": request["digest"], "signature": request.get("signature"), "time_limit_s": limit_s,
                **self._loading}  # fmt: skip
        try:
            async with asyncio.timeout(limit_s + GRACE_S):
                answer, body = await self._scorers.score(request["digest"], head, b"", spool, request["user"])
        except TimeoutError:
            raise errors.LimitExceeded(
                f"the model takes longer to compile than {limit_s:g} s", detail={"limit": "time_limit_s", "value": limit_s}
            ) from None
        return (str(answer["tag"]), json.dumps(answer, ensure_ascii=False), body)

    async def handle(self, verb: str, head: dict[str, Any], body: bytes) -> list[Row]:
        """Score one chunk."""
        if verb != "rows":
            raise unknown(verb)
        request = self._request
        frame = {"tag": "score", "digest": request["digest"], "method": request["method"], "columns": self._columns,
                 "n": head["n"], "expected": request["prediction"], **self._loading}  # fmt: skip
        try:
            _, scores = await self._scorers.score(request["digest"], frame, body, None, request["user"])
        except ModelNeeded:
            raise errors.ScorerLost(
                "the scorer died in mid-call, or let the model go for others",
                hint="repeat the call; a larger cache_mb keeps more models",
            ) from None
        return [("scores", None, scores)]

    async def abandon(self, error: errors.DbmlError) -> None:
        """Do nothing: a scorer that works for a caller who is gone is stopped where it is waited for."""

    def _match(self, about: Mapping[str, Any]) -> list[int]:
        """Find the model's features among the query's columns, by name; returns their positions from 1."""
        columns: Sequence[Mapping[str, Any]] = self._request["columns"]
        names = [column["name"] for column in columns]
        features = feature_names(about.get("features"), signature_features(self._request.get("signature")))
        model = self._request["model"]
        if not features:
            wanted = about.get("n_features")
            if wanted is not None and wanted != len(columns):
                raise errors.MissingFeature(
                    f'model "{model}" takes {wanted} columns and does not know their names, the query has {len(columns)}',
                    detail={"model": model, "n_features": wanted, "columns": names},
                    hint="select just the features, in the model's order, or register the model with a signature",
                )
            features = names
        places = feature_places(features, names)
        missing = [name for name, place in zip(features, places, strict=True) if place is None]
        if missing:
            raise errors.MissingFeature(
                f"the query lacks {'column' if len(missing) == 1 else 'columns'} "
                + ", ".join(f'"{name}"' for name in missing)
                + f' that model "{model}" needs',
                detail={"model": model, "missing": missing, "columns": names},
                hint="the model's features: " + ", ".join(f'"{name}"' for name in features),
            )
        twice = [names[place] for place in places if place is not None and names.count(names[place]) > 1]
        if twice:
            raise errors.InvalidArgument(f'the query has the column "{twice[0]}" more than once', detail={"columns": twice})
        sent = [place + 1 for place in places if place is not None]
        self._columns = [columns[position - 1] for position in sent]
        return sent
