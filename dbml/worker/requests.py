r"""Requests: who may open a call, read from the signed header that SQL sends.

    open <hex HMAC-SHA-256 of the header> <header, JSON>\n<body>

The header names the caller, a nonce and an expiry; the signature is checked over its bytes as they came, before
anything in it is looked at.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from typing import Any

from dbml import errors
from dbml.store.channel import PROTOCOL

CLOCK_SKEW_S = 240  # beyond the minute that SQL gives a request


class Verifier:
    """Checks signatures, ages and nonces of requests."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._seen: dict[str, float] = {}  # nonce -> when it may be forgotten
        self._next_sweep = 0.0

    def open(self, signature: bytes, header: bytes) -> dict[str, Any]:
        """Return the request that a header holds.

        Raises: WorkerRefused where it is not signed with this database's secret, too old, or was seen before;
        ProtocolMismatch where SQL speaks another version of the channel.
        """
        wanted = hmac.new(self._secret, header, hashlib.sha256).hexdigest().encode()
        if not hmac.compare_digest(wanted, signature):
            raise errors.WorkerRefused(
                "the request is not signed with this database's secret",
                hint="the worker serves another database or was started before a reinstall: restart dbml worker",
            )
        request: dict[str, Any] = json.loads(header)
        now = time.time()
        left = float(request["expires"]) - now
        if not -CLOCK_SKEW_S < left < 60 + CLOCK_SKEW_S:
            raise errors.WorkerRefused(
                f"the request expired or comes from the future: its clock differs from the worker's by {abs(left - 60):.0f} s",
                hint="set the clocks of database and worker by NTP",
            )
        self._remember(str(request["nonce"]), now)
        if request["protocol"] != PROTOCOL:
            raise errors.ProtocolMismatch(
                f"the schema speaks version {request['protocol']} of the channel, this worker version {PROTOCOL}",
                hint="dbml upgrade, and restart the worker of the same release",
            )
        return request

    def _remember(self, nonce: str, now: float) -> None:
        if nonce in self._seen:
            raise errors.WorkerRefused("the request was seen before", detail={"nonce": nonce})
        self._seen[nonce] = now + 60 + 2 * CLOCK_SKEW_S
        if now > self._next_sweep:
            self._next_sweep = now + 30
            self._seen = {kept: until for kept, until in self._seen.items() if until > now}


def split(text: bytes) -> tuple[str, bytes, bytes]:
    """Split a message into its verb, its head (JSON, may be empty) and its body."""
    line, _, body = text.partition(b"\n")
    verb, _, head = line.partition(b" ")
    return verb.decode("ascii", "replace"), head, body
