r"""Requests: who may open a call, read from the signed header that SQL sends.

    open <hex HMAC-SHA-256 of the header> <header, JSON>\n<body>

The header names the caller, a nonce and an expiry; the signature is checked over its bytes as they came, before
anything in it is looked at.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from dbml import errors
from dbml.store.channel import PROTOCOL
from dbml.worker.keys import Signatures

LIFE_S = 60  # that SQL gives a request
CLOCK_SKEW_S = 240  # beyond it
KEEP_S = LIFE_S + 2 * CLOCK_SKEW_S  # a request that is older than this is refused by its age
MEASURED_S = 0.25  # how exactly the database's clock is known


class Verifier:
    """Checks signatures, ages and nonces of requests.

    signatures: what knows the key, or the key, where it is not changed.
    clock: the time as it is where requests are made; it may be set.  since: when this worker began to listen, by that
    clock: what was made before was for another worker, whose nonces went with it.  ticks: a clock that is never set.
    """

    def __init__(
        self, signatures: Signatures | bytes, clock: Callable[[], float] = time.time, since: float | None = None,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._signatures = Signatures(signatures) if isinstance(signatures, bytes) else signatures
        self._clock = clock
        self._since = since
        self._ticks = ticks
        self._seen: set[str] = set()
        self._order: deque[tuple[float, str]] = deque()  # when it may be forgotten, nonce
        self._offset = clock() - ticks()

    def open(self, signature: bytes, header: bytes) -> dict[str, Any]:
        """Return the request that a header holds.

        Raises: WorkerRefused where it is not signed with this database's secret, too old, or was seen before;
        ProtocolMismatch where SQL speaks another version of the channel.
        """
        if not self._signatures.proves(signature, header):
            raise errors.WorkerRefused(
                "the request is not signed with this database's secret",
                hint="repeat the transaction if dbml.rotate_keys was called;"
                " else the worker serves another database: restart dbml worker",
            )
        request = read_head(header)
        try:
            expires, nonce, protocol = float(request["expires"]), str(request["nonce"]), request["protocol"]
        except (KeyError, TypeError, ValueError, OverflowError):
            raise errors.ProtocolMismatch(
                "a request must have a number expires, a nonce and a protocol", hint="dbml upgrade, and restart the worker"
            ) from None
        self._follow()
        left = expires - self._clock()
        if not -CLOCK_SKEW_S < left < LIFE_S + CLOCK_SKEW_S:
            differs = left - LIFE_S
            raise errors.WorkerRefused(
                f"the request expired or comes from the future: its clock differs from the worker's by {abs(differs):.0f} s",
                detail={"clock_differs_s": round(differs, 1)},
                hint="set the clocks of the database's hosts by NTP",
            )
        if self._since is not None and expires - LIFE_S < self._since - MEASURED_S:
            raise errors.WorkerRefused(
                "the request was made before this worker began to listen, by the database's clock",
                detail={"clock_differs_s": round(left - LIFE_S, 1)}, hint="repeat the statement",
            )  # fmt: skip
        self._remember(nonce)
        if protocol != PROTOCOL:
            raise errors.ProtocolMismatch(
                f"the schema speaks version {protocol} of the channel, this worker version {PROTOCOL}",
                hint="dbml upgrade, and restart the worker of the same release",
            )
        return request

    def _follow(self) -> None:
        """Take note that the clock was set: back, what is kept is kept for longer, and new requests have older times."""
        offset = self._clock() - self._ticks()
        back_s = self._offset - offset
        if back_s > 1:
            self._order = deque((until + back_s, kept) for until, kept in self._order)
            if self._since is not None:
                self._since -= back_s
        self._offset = offset

    def _remember(self, nonce: str) -> None:
        """Take note of a nonce, and forget those whose requests are refused by their age: by a clock that is not set."""
        if nonce in self._seen:
            raise errors.WorkerRefused("the request was seen before", detail={"nonce": nonce})
        ticks = self._ticks()
        self._seen.add(nonce)
        self._order.append((ticks + KEEP_S, nonce))
        while self._order[0][0] < ticks:
            self._seen.discard(self._order.popleft()[1])


def read_head(text: bytes) -> dict[str, Any]:
    """Read the head of a message.

    Raises: ProtocolMismatch where it is no JSON object.
    """
    try:
        head = json.loads(text)
    except (ValueError, RecursionError):
        head = None
    if not isinstance(head, dict):
        raise errors.ProtocolMismatch("the head of a message must be a JSON object", hint="repeat the statement")
    return head


def split(text: bytes) -> tuple[str, bytes, bytes]:
    """Split a message into its verb, its head (JSON, may be empty) and its body."""
    line, _, body = text.partition(b"\n")
    verb, _, head = line.partition(b" ")
    return verb.decode("ascii", "replace"), head, body
