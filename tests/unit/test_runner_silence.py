"""A runner whose database is gone for good ends, and says why."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from dbml.serving.runner.contract import Machine
from dbml.serving.runner.reports import Gone
from dbml.serving.runner.runner import Runner


def test_a_database_that_is_gone_is_waited_for_so_long(tmp_path: Path) -> None:
    with socket.socket() as taken:  # bound, and nobody listens: refused at once
        taken.bind(("127.0.0.1", 0))
        dsn = f"host=127.0.0.1 port={taken.getsockname()[1]} dbname=gone user=nobody"
        began = time.monotonic()
        runner = Runner(dsn, "default", "s", machine=Machine(tmp_path), silent_s=0.5)
        with pytest.raises(Gone, match=r"the database has not answered for 0\.5 s") as ended:
            _ask_until_it_ends(runner)
    assert time.monotonic() - began >= 0.5 and ended.value.served, "the service itself was not deleted"


def _ask_until_it_ends(runner: Runner) -> None:
    while True:
        answer = runner._reports.exchange({})
        assert answer is None
        runner._note_silence(answer)


def test_an_answer_begins_the_time_anew(tmp_path: Path) -> None:
    runner = Runner("", "default", "s", machine=Machine(tmp_path), silent_s=60)
    runner._heard_at -= 61
    runner._note_silence({"generation": 1})
    runner._note_silence(None)
