"""The channel's keys, which may be changed while the worker runs: `dbml.rotate_keys`.

The worker is told of a change by a notification, and looks for one itself where a signature or a password is not right.
It takes the former ones as long as the database says.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import logging
import time
from collections.abc import Awaitable, Callable

import psycopg

from dbml.store.channel import Channel

log = logging.getLogger("dbml.keys")

LEAST_S = 0.2  # between two readings, whoever asks for them
LONGEST_S = 5.0  # of one reading


class Signatures:
    """Makes and checks signatures, with the key of now; with the former one, until a time by the database's clock."""

    def __init__(self, secret: bytes, clock: Callable[[], float] = time.time) -> None:
        self._secret = secret
        self._former: tuple[bytes, float] | None = None
        self._clock = clock

    def change(self, secret: bytes, former: tuple[bytes, float] | None) -> None:
        """Take another key; former: the one before it, and until when it is taken."""
        self._secret, self._former = secret, former

    def sign(self, text: bytes) -> str:
        """Return the signature of a text, in hex."""
        return _signature(self._secret, text)

    def proves(self, signature: bytes, text: bytes) -> bool:
        """Tell whether a signature is one of this text."""
        if hmac.compare_digest(_signature(self._secret, text).encode(), signature):
            return True
        if self._former is None or self._clock() >= self._former[1]:
            return False
        return hmac.compare_digest(_signature(self._former[0], text).encode(), signature)


def _signature(secret: bytes, text: bytes) -> str:
    return hmac.new(secret, text, hashlib.sha256).hexdigest()


class Keys:
    """Follows the keys in the database.

    read: reads the channel's row; turn_to: called with the password of now and the former one, None where there is none
    that is taken.
    """

    def __init__(
        self, channel: Channel, read: Callable[[], Awaitable[Channel | None]], clock: Callable[[], float] = time.time
    ) -> None:  # fmt: skip
        self.signatures = Signatures(channel.secret, clock)
        self.turn_to: Callable[[str, str | None], object] = lambda password, former: None
        self._channel = channel
        self._read = read
        self._clock = clock
        self._asked = 0
        self._answered = 0
        self._read_at = 0.0
        self._lock = asyncio.Lock()
        self._alarm: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._sign_with(channel)

    def begin(self, turn_to: Callable[[str, str | None], object]) -> None:
        """Say the passwords of now, and from now on each change of them."""
        self.turn_to = turn_to
        self._take(self._channel)

    def follow_soon(self) -> None:
        """Follow, and do not wait for it."""
        if len(self._tasks) < 2:  # one that reads, and one for who came since it began
            task = asyncio.create_task(self.follow())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def follow(self) -> None:
        """Look whether the keys have been changed, by a reading that begins after now; several who ask share one."""
        self._asked += 1
        wanted = self._asked
        async with self._lock:
            if self._answered >= wanted:
                return
            await asyncio.sleep(max(0.0, self._read_at + LEAST_S - time.monotonic()))
            answered = self._asked
            channel = None
            with contextlib.suppress(psycopg.Error, OSError, TimeoutError):
                async with asyncio.timeout(LONGEST_S):
                    channel = await self._read()
            self._answered, self._read_at = answered, time.monotonic()
            if channel is not None and (channel.secret, channel.password) != (self._channel.secret, self._channel.password):
                log.info("the channel's password and signing key were changed; the former ones are taken for %.0f s more",
                         max(0.0, (channel.former_until or 0.0) - self._clock()))  # fmt: skip
                self._take(channel)

    def _take(self, channel: Channel) -> None:
        self._channel = channel
        self._sign_with(channel)
        former, left_s = channel.former_password, (channel.former_until or 0.0) - self._clock()
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if former is not None and left_s > 0:
            self._alarm = asyncio.get_running_loop().call_later(left_s, lambda: self.turn_to(channel.password, None))
        self.turn_to(channel.password, former if left_s > 0 else None)

    def _sign_with(self, channel: Channel) -> None:
        former, until = channel.former_secret, channel.former_until
        self.signatures.change(channel.secret, None if former is None or until is None else (former, until))
