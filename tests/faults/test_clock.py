"""Clocks that jump: the worker's does not matter, the database's is followed, and no request is taken twice."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dbml import errors
from dbml.worker.requests import KEEP_S, Verifier

from .conftest import Operated

pytestmark = pytest.mark.once

LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
SECRET = b"s" * 64


class Clock:
    """A clock that is set, beside one that is not."""

    def __init__(self) -> None:
        self.ticked = 1000.0
        self.offset = 1.7e9

    def now(self) -> float:
        return self.offset + self.ticked

    def ticks(self) -> float:
        return self.ticked


def signed(made: float) -> tuple[bytes, bytes]:
    header = json.dumps({"kind": "ping", "protocol": 1, "nonce": str(uuid.uuid4()), "expires": made + 60}).encode()
    return hmac.new(SECRET, header, hashlib.sha256).hexdigest().encode(), header


@pytest.mark.parametrize("jump_s", [-7200.0, -200.0, 200.0, 7200.0])
def test_after_a_jump_new_requests_are_taken_and_old_ones_are_not(jump_s: float) -> None:
    clock = Clock()
    verifier = Verifier(SECRET, clock.now, clock.now(), clock.ticks)
    old = signed(clock.now())
    verifier.open(*old)
    clock.offset += jump_s
    verifier.open(*signed(clock.now()))
    for _ in range(20):  # until long after it would have been forgotten
        with pytest.raises(errors.WorkerRefused):
            verifier.open(*old)
        clock.ticked += 60
        verifier.open(*signed(clock.now()))


def test_nonces_are_forgotten_when_their_requests_are_refused_by_age() -> None:
    clock = Clock()
    verifier = Verifier(SECRET, clock.now, None, clock.ticks)
    for _ in range(100):
        verifier.open(*signed(clock.now()))
    clock.ticked += KEEP_S + 1
    verifier.open(*signed(clock.now()))
    assert len(verifier._seen) == len(verifier._order) == 1


def test_a_request_from_before_the_start_is_refused() -> None:
    """It may have been taken by a worker that has died since, and whose nonces went with it."""
    clock = Clock()
    recorded = signed(clock.now())
    clock.ticked += 5
    with pytest.raises(errors.WorkerRefused, match="before this worker began to listen"):
        Verifier(SECRET, clock.now, clock.now(), clock.ticks).open(*recorded)


def test_clocks_that_differ_are_named() -> None:
    with pytest.raises(errors.WorkerRefused, match=r"clock differs from the worker's by 3600 s") as caught:
        Verifier(SECRET).open(*signed(time.time() - 3600))
    assert "NTP" in str(caught.value.hint) and caught.value.detail["clock_differs_s"] == -3600


@pytest.fixture
def faked(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A file that sets the clock of processes with these variables: '+2h' in it, say."""
    if LIBRARY is None:
        if os.environ.get("CI") == "true":
            pytest.fail("libfaketime must be on this machine: apt-get install faketime")
        pytest.skip("libfaketime is not on this machine: apt-get install faketime")
    tmp_path.chmod(0o755)
    file = tmp_path / "clock"
    file.write_text("+0\n")
    variables = {
        "LD_PRELOAD": str(LIBRARY), "FAKETIME_TIMESTAMP_FILE": str(file), "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1",
    }  # fmt: skip
    return file, variables


def recorded(session: psycopg.Connection[Any], status: str, runs: int | None = None) -> None:
    """Wait until all runs have ended so, and are so many where that is said: records follow their calls."""
    end = time.monotonic() + 20
    while True:
        found = dict(session.execute("select coalesce(status, '?'), count(*)::int from dbml.runs group by 1").fetchall())
        if found.get(status) == runs if runs is not None else set(found) <= {status}:
            return
        assert time.monotonic() < end, found
        time.sleep(0.05)


def test_the_workers_clock_jumps_by_hours(
    installed: str, operate: Callable[..., Operated], faked: tuple[Path, dict[str, Any]]
) -> None:
    file, variables = faked
    for attempt in range(20):
        worker = operate(installed, "--no-supervise", **variables)
        try:
            pid = worker.ready()["pid"]
            break
        except AssertionError as refused:  # where two threads ask the library at once, it may answer that there is no clock
            if "Invalid argument" not in str(refused) or attempt == 19:
                raise
    for jump in ("+2h", "-3h", "+400d", "+0"):
        file.write_text(f"{jump}\n")
        worker.works()
        with worker.connect() as session:
            recorded(session, "completed")
            call = "select * from dbml.run_script('import time; time.sleep(60)', timeout => '0.5 s') as t(a int)"
            with pytest.raises(errors.ScriptTimeout):
                session.execute(call)
            recorded(session, "failed", 1)
            session.execute("delete from dbml._runs where status = 'failed'")
    assert worker.ping()["pid"] == pid
