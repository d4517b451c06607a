"""Two versions of a service side by side: an exact share, answers that are compared, and no request lost with the second."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.serving.services import Served, free_port, make_service, start, wait

SCORE = """
import json
def init(): pass
def run(data):
    asked = json.loads(data)
    if asked.get("fail") == {number}:
        raise RuntimeError("no")
    return [asked.get("x", 0) + {number}]
def predict(rows, method):
    return rows[:, 0] + {number}
"""


class Pair:
    """A service, and its candidate at a Unix socket."""

    def __init__(self, folder: Path) -> None:
        folders = [make_service(folder / str(number), SCORE.format(number=number), name="m", version=number) for number in (1, 2)]
        self.file = folder / "peer.json"
        self.address = str(folder / "c.sock")
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(self.address)
        listening.listen()
        command = [sys.executable, "-m", "dbml.serving.app"]
        with (folder / "candidate.log").open("wb") as log:
            self.candidate = subprocess.Popen(
                [*command, str(folders[1]), "--fd", str(listening.fileno())], pass_fds=[listening.fileno()], stderr=log
            )
        listening.close()
        port = free_port()
        self.current = wait(
            start([*command, str(folders[0]), "--port", str(port), "--peer", str(self.file)], port, folder / "log")
        )

    def say(self, **said: Any) -> None:
        partial = self.file.with_name("partial")
        partial.write_text(json.dumps({"address": self.address, "generation": 2, "models": ["m"], **said}))
        partial.replace(self.file)
        time.sleep(1.0)  # it looks twenty times a second

    @property
    def comparisons(self) -> list[dict[str, Any]]:
        return [line for line in self.current.lines if line["logger"] == "dbml.serving.shadow"]


@pytest.fixture
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    found = Pair(tmp_path_factory.mktemp("pair"))  # of each test's own: one of them kills the candidate
    yield found
    found.candidate.kill()
    found.candidate.wait()
    assert found.current.stop() == 0


def score(served: Served, **payload: Any) -> httpx.Response:
    return httpx.post(served.url + "/score", json=payload, headers={"x-request-id": str(payload.get("x", "none"))}, timeout=60)


def test_every_tenth_request_goes_to_the_candidate(pair: Pair) -> None:
    pair.say(percent=10)
    with httpx.Client(base_url=pair.current.url, timeout=60) as client:
        answers = [client.post("/score", json={"x": 10 * i}) for i in range(50)]
        assert [answer.json() for answer in answers] == [[10 * i + (2 if i % 10 == 9 else 1)] for i in range(50)]
        assert [answer.headers.get("x-dbml-version") for answer in answers[8:11]] == [None, "candidate", None]
        # Whatever the dialect, of scoring alone; a version that is named is meant.
        pair.say(percent=100)
        assert client.post("/invocations", json={"instances": [[1.0]]}).json() == {"predictions": [3.0]}
        tensor = {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP64", "data": [1.0]}]}
        assert client.post("/v2/models/m/infer", json=tensor).json()["outputs"][0]["data"] == [3.0]
        assert client.post("/v2/models/m/versions/1/infer", json=tensor).json()["outputs"][0]["data"] == [2.0]
        assert client.get("/v2/models/m").json()["versions"] == ["1"]
        failed = client.post("/score", json={"fail": 2}, headers={"x-request-id": "mine", "x-ms-client-request-id": "c"})
        assert (failed.status_code, failed.headers["x-request-id"], failed.headers["x-ms-client-request-id"]) == (
            500,
            "mine",
            "c",
        )
        assert 'dbml_split_total{by="candidate"} 8.0' in client.get("/metrics").text
    pair.file.unlink()


def test_a_shadow_is_compared_and_never_returned(pair: Pair) -> None:
    pair.say(shadow=True)
    before = len(pair.comparisons)
    assert [score(pair.current, x=i).json() for i in range(3)] == [[1], [2], [3]]
    assert score(pair.current, fail=2).json() == [1]
    assert score(pair.current, fail=1).status_code == 500
    until = time.monotonic() + 60
    while len(pair.comparisons) < before + 5:
        assert time.monotonic() < until
        time.sleep(0.05)
    found = sorted(pair.comparisons[before:], key=lambda one: str(one["request_id"]))  # they come as they are done
    assert [(one["request_id"], one["agrees"], one["largest_difference"]) for one in found[:3]] == [
        (str(i), False, 1.0) for i in range(3)
    ]
    assert sorted((one["status"], one["candidate_status"]) for one in found) == [(200, 200)] * 3 + [(200, 500), (500, 200)]
    assert json.loads(found[0]["answer"]) == [1] and json.loads(found[0]["candidate_answer"]) == [2]
    pair.file.unlink()


def test_a_candidate_that_dies_loses_no_request(pair: Pair) -> None:
    """Eight connections ask while the candidate is killed; every answer is one of the two versions', and then the current's."""
    pair.say(percent=50)

    def ask(client: httpx.Client) -> Counter[tuple[int, str]]:
        return Counter((answer.status_code, answer.text) for answer in (client.post("/score", json={"x": 0}) for _ in range(60)))

    clients = [httpx.Client(base_url=pair.current.url, timeout=60) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(ask, client) for client in clients]
        time.sleep(0.1)
        os.kill(pair.candidate.pid, 9)
        answers = sum((one.result() for one in asked), Counter[tuple[int, str]]())
    for client in clients:
        client.close()
    assert sum(answers.values()) == 480 and set(answers) <= {(200, "[1]"), (200, "[2]")}, answers
    assert [score(pair.current, x=0).json() for _ in range(2)] == [[1], [1]]
    pair.file.unlink()


def test_a_peer_file_that_is_not_there_or_empty_is_no_peer(pair: Pair) -> None:
    pair.file.write_text("")
    time.sleep(0.1)
    assert score(pair.current, x=5).json() == [6]
    pair.file.unlink()


def test_a_file_that_is_half_written_is_no_peer(pair: Pair) -> None:
    pair.say(percent=100)
    assert score(pair.current, x=0).json() == [2]
    whole = pair.file.read_bytes()
    pair.file.write_bytes(whole[:20])
    time.sleep(0.1)
    assert score(pair.current, x=0).json() == [1]
    pair.file.write_bytes(whole)
    time.sleep(0.1)
    assert score(pair.current, x=0).json() == [2]
    pair.file.unlink()


def test_a_candidate_may_listen_at_a_socket_besides(pair: Pair, tmp_path: Path) -> None:
    """As in a container, whose health is asked at its port; a socket that a former one has left is in nobody's way."""
    address, port = tmp_path / "s", free_port()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(address))
    folder = make_service(tmp_path / "3", SCORE.format(number=3), name="m", version=3)
    command = [sys.executable, "-m", "dbml.serving.app", str(folder), "--port", str(port)]
    other = wait(start(command, port, tmp_path / "log", {"DBML_SOCKET": str(address)}))
    try:
        pair.say(percent=100, address=str(address))
        assert score(pair.current, x=0).json() == [3] == score(other, x=0).json()
    finally:
        assert other.stop() == 0
    pair.file.unlink()
