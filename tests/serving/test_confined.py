"""What a model that is not what it seems can do from within the scoring app: nothing but answer."""

from __future__ import annotations

import json
import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from dbml.kernel import landlock
from dbml.serving.app.confined import _of_keys
from tests.serving.services import GENERATED, Served, free_port, make_service, wait

pytestmark = pytest.mark.skipif(landlock.version() < 4, reason="the kernel's Landlock has no rules for TCP")

# Runs within unpickling; what each attempt came to is what the model answers.
ATTEMPTS = """
import ctypes, os, socket, subprocess
def attempt(what):
    try:
        return "done " + repr(what())
    except BaseException as error:
        return type(error).__name__ + ": " + str(error)
def unix():
    with socket.socket(socket.AF_UNIX) as made:
        made.connect({unix!r})
def tcp():
    with socket.create_connection(("127.0.0.1", {tcp})):
        pass
def trace():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(16, {parent}, None, None):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
def write():
    with open({written!r}, "w") as file:
        file.write("x")
said = {{
    "secret": attempt(lambda: open({secret!r}).read()), "listing": attempt(lambda: os.listdir({home!r})),
    "unix": attempt(unix), "tcp": attempt(tcp), "ptrace": attempt(trace), "write": attempt(write),
    "environ": attempt(lambda: open("/proc/{parent}/environ", "rb").read()),
    "kill": attempt(lambda: os.kill({parent}, 0)),
    "by a program": attempt(lambda: subprocess.run(["/bin/cat", {secret!r}], check=True, capture_output=True).stdout),
    "own scratch": attempt(lambda: open(os.path.join(os.environ["TMPDIR"], "f"), "w").close()),
}}
class Said:
    def __init__(self): self.said = said
    def predict(self, rows): return [self.said]
"""


class Malicious:
    """A pickle that runs a program's text, and is what that text left as `Said`."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __reduce__(self) -> Any:
        return eval, (f"(lambda d: (exec({self.text!r}, d), d['Said']())[1])({{}})",)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[tuple[str, int]]:
    """What a database looks like from here: a Unix socket and a port at which something listens."""
    with socket.socket(socket.AF_UNIX) as unix, socket.socket() as tcp:
        unix.bind(str(tmp_path / ".s.PGSQL.5432"))
        tcp.bind(("127.0.0.1", 0))
        for one in (unix, tcp):
            one.listen()
        yield str(tmp_path / ".s.PGSQL.5432"), tcp.getsockname()[1]


@pytest.fixture
def confined(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Serve a folder behind the app's own walls, at a socket that is given to it."""
    running: list[Served] = []

    def begin(folder: Path, *options: str) -> Served:
        with socket.socket() as held:
            port = free_port()
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.bind(("127.0.0.1", port))
            scratch = tmp_path / "scratch"
            scratch.mkdir(exist_ok=True)
            command = [sys.executable, "-m", "dbml.serving.app.confined", "landlock", str(scratch), str(folder),
                       "--fd", str(held.fileno()), *options]  # fmt: skip
            with (folder / "log").open("wb") as log:
                process = subprocess.Popen(
                    command, stdout=log, stderr=log, pass_fds=[held.fileno()], start_new_session=True, cwd=folder,
                    env={**os.environ, "TMPDIR": str(scratch), "HOME": str(scratch)},
                )  # fmt: skip
        running.append(Served(process, f"http://127.0.0.1:{port}", folder / "log"))
        return running[-1]

    yield begin
    for served in running:
        served.stop()


@pytest.fixture
def text(tmp_path: Path, database: tuple[str, int]) -> Iterator[str]:
    """The attempts, at a home and at a process that are like the owner's."""
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh" / "id_ed25519").write_text("the owner's key")
    victim = subprocess.Popen(["/bin/sleep", "100"])
    yield ATTEMPTS.format(
        unix=database[0], tcp=database[1], parent=victim.pid, secret=str(home / ".ssh" / "id_ed25519"), home=str(home),
        written=str(home / "written"),
    )  # fmt: skip
    victim.kill()
    victim.wait()


def test_a_malicious_pickle_reaches_nothing(tmp_path: Path, text: str, confined: Callable[..., Served]) -> None:
    folder = make_service(tmp_path / "s", GENERATED, model=Malicious(text))
    served = wait(confined(folder))
    (said,) = httpx.post(served.url + "/score", json={"data": [[1.0]]}).json()
    assert said.pop("own scratch") == "done None"
    assert {what: word for what, word in said.items() if word.startswith("done")} == {}
    for what in ("secret", "listing", "write", "environ"):
        assert "Permission denied" in said[what]
    for what in ("unix", "tcp", "ptrace"):
        assert "not permitted" in said[what], said[what]
    (line,) = [line["message"] for line in served.lines if "confined by Landlock" in line.get("message", "")]
    assert "connects to nothing" in line
    # The same pickle without walls: each attempt would have come to something.
    program = f"import pickle, json; print(json.dumps(pickle.loads({pickle.dumps(Malicious(text))!r}).said))"
    free = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env={**os.environ, "TMPDIR": str(tmp_path)}
    )
    assert {what for what, word in json.loads(free.stdout).items() if word.startswith("done")} >= said.keys() - {"ptrace"}


def test_a_model_that_cannot_be_loaded_confined_says_so(tmp_path: Path, text: str, confined: Callable[..., Served]) -> None:
    secret = str(tmp_path / "home" / ".ssh" / "id_ed25519")
    folder = make_service(tmp_path / "s", GENERATED, model=Malicious(f"open({secret!r})"))
    served = confined(folder)
    assert served.process.wait(60) == 3
    log = served.log.read_text()
    assert "init() of" in log and "PermissionError" in log and "--unsafe-no-sandbox" in log


def test_what_scoring_raises_behind_the_walls_is_in_the_log(tmp_path: Path, text: str, confined: Callable[..., Served]) -> None:
    secret = str(tmp_path / "home" / ".ssh" / "id_ed25519")
    assert secret in text
    score = f"def init(): pass\ndef run(data): return open({secret!r}).read()\n"
    served = wait(confined(make_service(tmp_path / "s", score)))
    assert httpx.post(served.url + "/score", json={}).status_code == 500
    assert any("score.py raised PermissionError" in line.get("message", "") for line in served.lines)


def test_another_version_is_reached_by_errand(tmp_path: Path, confined: Callable[..., Served]) -> None:
    peers = tmp_path / "peer"
    peers.mkdir()
    with socket.socket(socket.AF_UNIX) as held:
        held.bind(str(peers / "2.sock"))
        folder = make_service(tmp_path / "b", "def init(): pass\ndef run(data): return 2\n")
        with (folder / "log").open("wb") as log:
            command = [sys.executable, "-m", "dbml.serving.app", str(folder), "--fd", str(held.fileno())]
            other = subprocess.Popen(command, pass_fds=[held.fileno()], stdout=log, stderr=log)
    try:
        peer = peers / "peer.json"
        served = wait(confined(make_service(tmp_path / "a", "def init(): pass\ndef run(data): return 1\n"), "--peer", str(peer)))
        ask = lambda: httpx.post(served.url + "/score", json={}, timeout=60).json()  # noqa: E731
        assert ask() == 1
        said = {"address": str(peers / "2.sock"), "generation": 2, "percent": 100, "models": []}
        (peers / "partial").write_text(json.dumps(said))
        (peers / "partial").replace(peer)
        for _ in range(600):
            if ask() == 2:
                break
        assert [ask() for _ in range(3)] == [2, 2, 2]
        other.terminate()
        other.wait(60)
        assert ask() == 1, "what is not there is answered here"
    finally:
        other.kill()
        other.wait()


def test_keys_alone_in_their_folder_can_be_replaced(tmp_path: Path, confined: Callable[..., Served]) -> None:
    keys = tmp_path / "keys" / "keys"
    keys.parent.mkdir()
    keys.write_text("first\n")
    served = wait(confined(make_service(tmp_path / "s", "def init(): pass\ndef run(data): return 1\n"), "--keys", str(keys)))
    ask = lambda key: httpx.post(served.url + "/score", json={}, headers={"authorization": f"Bearer {key}"}).status_code  # noqa: E731
    assert ask("first") == 200
    (keys.parent / "partial").write_text("second\n")
    (keys.parent / "partial").replace(keys)
    assert (ask("first"), ask("second")) == (403, 200)
    (keys.parent / "another").touch()
    assert _of_keys(str(keys)) == [str(keys)]
