"""The folder .dbml: one process at a time, and a state that is believed only while it lives."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from dbml import errors
from dbml.home import Home, find_home


def test_the_state_is_readable_by_the_owner_alone(tmp_path):
    home = Home.of(tmp_path)
    with home.locked():
        home.write_state({"dsn": "x"})
        assert stat.S_IMODE(home.state_file.stat().st_mode) == 0o600
        assert stat.S_IMODE(home.path.stat().st_mode) in (0o700, 0o711)
        assert home.state() == {"dsn": "x"}
        assert home.holder() == os.getpid()
    assert home.state() is None
    assert home.last_state() == {"dsn": "x"}


def test_the_second_is_told_so(tmp_path):
    home = Home.of(tmp_path)
    with home.locked(), pytest.raises(errors.DbmlError, match="already running") as caught, home.locked():
        pass
    assert "dbml down" in caught.value.hint
    assert not home.running()


def test_who_only_looks_does_not_keep_one_from_starting(tmp_path):
    home = Home.of(tmp_path)
    home.create()
    with ThreadPoolExecutor(4) as pool:
        looks = [pool.submit(lambda: [home.running() for _ in range(300)]) for _ in range(4)]
        for _ in range(20):
            with home.locked():
                assert home.running()
        for look in looks:
            look.result()


def test_the_lock_of_a_killed_process_is_free(tmp_path):
    home = Home.of(tmp_path)
    program = (
        "import sys, time; from pathlib import Path; from dbml.home import Home\n"
        "with Home.of(Path(sys.argv[1])).locked(): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program, tmp_path], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        assert home.running()
        assert home.holder() == process.pid
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not home.running()


def test_a_state_that_is_cut_short_is_none(tmp_path):
    home = Home.of(tmp_path)
    with home.locked():
        home.state_file.write_text('{"dsn": ')
        assert home.state() is None
        assert find_home(tmp_path) is None


def test_git_leaves_it_alone(tmp_path):
    Home.of(tmp_path).create()
    assert (tmp_path / ".dbml" / ".gitignore").read_text() == "*\n"
