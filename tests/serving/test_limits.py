"""Sizes, times, queues, keys, batches, the log, the end: what a service does beside scoring."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.serving.services import Served, make_service, start_ours, until

SLOW = "import json, time\ndef init(): pass\ndef run(data):\n    time.sleep(json.loads(data)['s'])\n    return 'done'\n"


def post(served: Served, seconds: float) -> httpx.Response:
    return httpx.post(served.url + "/score", json={"s": seconds}, timeout=30)


def test_a_full_queue_is_503_and_when_to_come_again(serve: Callable[..., Served]) -> None:
    served = serve(SLOW, "--queue", "2")
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: post(served, 2), range(8)))
    refused = [answer for answer in answers if answer.status_code == 503]
    assert {answer.status_code for answer in answers} == {200, 503}
    assert refused[0].headers["retry-after"] == "1"
    assert refused[0].json()["message"] == "2 requests wait already, the most that queue = 2 lets"
    assert post(served, 0).status_code == 200


def test_an_answer_that_takes_too_long_is_503_and_health_goes_on(serve: Callable[..., Served]) -> None:
    served = serve(SLOW, "--timeout-s", "0.5", "--threads", "2")
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(post, served, 2)
        time.sleep(0.2)
        began = time.monotonic()
        assert httpx.get(served.url + "/").text == "Healthy"
        assert time.monotonic() - began < 1
        assert slow.result().status_code == 503
        assert slow.result().json()["message"] == "Scoring timeout after 500 ms"
    assert post(served, 0).status_code == 200


def test_a_body_over_the_limit_is_413(serve: Callable[..., Served]) -> None:
    served = serve(SLOW, "--max-body-mb", "0.1")
    big = b" " * 200_000

    def parts() -> object:
        yield big[:100_000]
        yield big[100_000:]

    for content in (big, parts()):
        answer = httpx.post(served.url + "/score", content=content)  # type: ignore[arg-type]
        assert answer.status_code == 413
        assert "104857 bytes at most" in answer.json()["message"]


def test_a_body_that_does_not_come_is_408_and_a_client_that_goes_is_no_error(serve: Callable[..., Served]) -> None:
    served = serve(SLOW, "--timeout-s", "2")
    host, port = served.url.removeprefix("http://").split(":")
    head = b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    with socket.create_connection((host, int(port)), timeout=60) as slow:
        slow.sendall(head)
        answer = b"".join(iter(lambda: slow.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 408") and b"the body must come within 2 s" in answer
    with socket.create_connection((host, int(port)), timeout=60) as gone:
        gone.sendall(head)
    until(lambda: any(line.get("status") == 499 for line in served.lines))
    assert not any("traceback" in line for line in served.lines)


def test_either_key_opens_and_keys_can_be_replaced(serve: Callable[..., Served], tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("first\nsecond\n")
    served = serve(SLOW, "--keys", str(keys))

    def status(key: str | None, path: str = "/score") -> int:
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        return httpx.post(served.url + path, json={"s": 0}, headers=headers).status_code

    assert [status(key) for key in ("first", "second", "third", None)] == [200, 200, 403, 401]
    assert status(None, "/invocations") == status(None, "/v2/models/m/infer") == 401
    assert httpx.get(served.url + "/").status_code == httpx.get(served.url + "/v2/health/ready").status_code == 200
    fresh = tmp_path / "fresh"
    fresh.write_text("second\nthird\n")
    fresh.replace(keys)
    assert [status(key) for key in ("first", "second", "third")] == [403, 200, 200]


BATCHED = """
import numpy as np
calls = []
def init(): pass
def run(data): return calls
def predict(rows, method):
    calls.append(len(rows))
    return np.asarray(rows)[:, 0] * 2
"""


def test_rows_of_several_requests_are_scored_in_one_call_each_gets_its_own(serve: Callable[..., Served]) -> None:
    served = serve(BATCHED, "--batch-rows", "8", "--batch-delay-ms", "3000")

    def one(i: int) -> float:
        return float(httpx.post(served.url + "/invocations", json={"instances": [[i, 0.0]]}, timeout=30).json()["predictions"][0])

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(one, range(32))) == [2.0 * i for i in range(32)]
    calls = httpx.post(served.url + "/score").json()
    assert sum(calls) == 32
    assert len(calls) < 16


def test_the_log_is_json_with_the_requests_own_id(serve: Callable[..., Served]) -> None:
    served = serve(SLOW)
    httpx.post(served.url + "/score", json={"s": 0}, headers={"x-request-id": "mine"})
    until(lambda: any(line.get("request_id") == "mine" for line in served.lines))
    line = next(line for line in served.lines if line.get("request_id") == "mine")
    assert (line["method"], line["path"], line["status"]) == ("POST", "/score", 200)
    assert 'dbml_requests_total{path="/score",status="200"} 1.0' in httpx.get(served.url + "/metrics").text


def test_sigterm_drains(serve: Callable[..., Served]) -> None:
    served = serve(SLOW)
    with httpx.Client(timeout=60) as held, ThreadPoolExecutor(1) as pool:
        assert held.get(served.url + "/").status_code == 200  # a connection that is open and idle
        slow = pool.submit(post, served, 2.0)
        until(lambda: "dbml_requests_in_progress 2.0" in held.get(served.url + "/metrics").text)  # this one too
        served.process.send_signal(signal.SIGTERM)
        until(lambda: any(line.get("message", "").startswith("draining") for line in served.lines))
        answer = held.post(served.url + "/score", json={"s": 0}, timeout=60)
        assert (answer.status_code, answer.headers["connection"]) == (200, "close")
        assert slow.result().status_code == 200
    assert served.process.wait(60) == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(served.url + "/")


@pytest.mark.parametrize(
    ("score", "words"),
    [
        ("def init(): pass", "must have a function run()"), ("def run(x): pass", "must have a function init()"),
        ("def init(): raise OSError('no model')\ndef run(x): pass", "init() of"), ("def init(:", "SyntaxError"),
        ("def init(): pass\ndef run(*args): pass", "positional-only"), ("def init(): pass\ndef run(request_headers): pass", "input data"),
    ],
)  # fmt: skip
def test_a_script_that_is_not_whole_does_not_start(tmp_path: Path, score: str, words: str) -> None:
    served = start_ours(make_service(tmp_path / "s", score))
    assert served.process.wait(60) == 3
    assert words in served.log.read_text()


def test_a_folder_that_is_no_service_says_how_to_make_one(tmp_path: Path) -> None:
    served = start_ours(tmp_path)
    assert served.process.wait(60) == 3
    assert "dbml export MODEL --to DIR makes it" in served.log.read_text()


def test_numpy_answers_are_json(serve: Callable[..., Served]) -> None:
    served = serve(
        "import numpy as np\ndef init(): pass\ndef run(data): return {'a': np.arange(2), 'b': np.float32(.5), 'n': float('nan'), 3: 2**70}\n"
    )
    assert httpx.post(served.url + "/score").json()["a"] == np.arange(2).tolist()
