"""Another version beside the one that serves: an exact share, a shadow's comparisons in the database, and the way back."""

from __future__ import annotations

import http.client
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from dbml.core import Model, Webservice, Workspace
from dbml.core.model import InferenceConfig
from dbml.errors import InvalidArgument, NotSupportedYet
from dbml.exceptions import WebserviceException

from .test_webservice import ROWS, constant

pytestmark = pytest.mark.once

DEADLINE_S = 90


@pytest.fixture
def service(ws: Workspace) -> Iterator[Webservice]:
    """A service of a model that says 1."""
    found = Model.deploy(ws, "tried", [constant(ws, 1.0)])
    found.wait_for_deployment(timeout_sec=DEADLINE_S)
    yield found
    found.delete()


class Load:
    """Connections that ask all the time."""

    def __init__(self, service: Webservice, connections: int) -> None:
        self._place = urlsplit(service.scoring_uri or "")
        self._stop = threading.Event()
        self.answers: Counter[tuple[int, str]] = Counter()
        self.broken: list[str] = []
        self._threads = [threading.Thread(target=self._ask) for _ in range(connections)]

    def _ask(self) -> None:
        connection = http.client.HTTPConnection(self._place.hostname or "", self._place.port, timeout=60)
        while not self._stop.is_set():
            try:
                connection.request("POST", "/score", ROWS, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                self.answers[answer.status, answer.read().decode()] += 1
            except (OSError, http.client.HTTPException) as error:
                self.broken.append(repr(error))
        connection.close()

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def until(service: Webservice, condition: Any) -> Any:
    """Wait until something holds, and return it."""
    end = time.monotonic() + DEADLINE_S
    while not (found := condition()):
        assert time.monotonic() < end, service.get_logs()
        time.sleep(0.1)
    return found


def asked(service: Webservice, count: int) -> list[Any]:
    return [service.run(ROWS)[0] for _ in range(count)]


def dbml(ws: Workspace, *words: str) -> str:
    command = [sys.executable, "-m", "dbml.cli", "services", *words, "--workspace", ws.name]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_share_promotion_and_the_way_back_under_load(ws: Workspace, service: Webservice, db: psycopg.Connection[Any]) -> None:
    """Connections ask all the time while a candidate comes, gets a share, takes over and goes: no request fails."""
    second = constant(ws, 2.0)
    with Load(service, 3) as load:
        service.set_candidate([second], wait=True)  # it runs, and is asked nothing
        assert (200, "[2.0]") not in load.answers
        dbml(ws, "candidate", "tried", "--traffic-percent", "25")
        until(service, lambda: load.answers[200, "[2.0]"] > 20)
        dbml(ws, "promote", "tried")
        assert service.candidate is None and Webservice(ws, "tried").models[0].version == 2
        dbml(ws, "rollback", "tried")
    assert load.broken == [] and set(load.answers) == {(200, "[1.0]"), (200, "[2.0]")}, (load.broken[:3], load.answers)
    assert asked(service, 3) == [1.0] * 3
    told = [(one["generation"], one["role"], one["models"], one["restores"]) for one in service.versions]
    assert told == [
        (4, "current", ["m:1"], 1), (3, "former", ["m:2"], None), (2, "former", ["m:2"], None), (1, "former", ["m:1"], None),
    ]  # fmt: skip
    assert "former" in dbml(ws, "versions", "tried") and '"restores": 1' in dbml(ws, "versions", "tried", "--json")
    with pytest.raises(InvalidArgument, match="no version before"):
        service.rollback()
    with pytest.raises(InvalidArgument, match="no generation 9"):
        service.rollback(9)
    running = "SELECT count(*) FROM dbml.containers WHERE workspace = %s AND ended_at IS NULL"
    until(service, lambda: db.execute(running, [ws.name]).fetchone() == (1,))


def test_a_share_a_shadow_and_what_cannot_be_a_candidate(ws: Workspace, service: Webservice, db: psycopg.Connection[Any]) -> None:
    refuse_what_is_none(ws, service, db)
    service.set_candidate([constant(ws, 1.5)], traffic_percent=20, wait=True)
    assert until(service, lambda: Counter(asked(service, 20)) == {1.0: 16, 1.5: 4}), "exactly every fifth"
    with pytest.raises(InvalidArgument, match="serves 'tried'"):
        db.execute("SELECT dbml.delete_model('m:3', %s)", [ws.name])
    service.set_candidate(traffic_percent=100)
    until(service, lambda: asked(service, 2) == [1.5, 1.5])

    service.set_candidate(shadow=True)  # the same one: it is asked, and not heard
    until(service, lambda: asked(service, 2) == [1.0, 1.0])
    row = until(service, lambda: (found := service.candidate) and found["compared"] >= 2 and found)
    assert (row["traffic_percent"], row["differing"], row["largest_difference"]) == (0, row["compared"], 0.5)
    found = db.execute(
        "SELECT generation, candidate, agrees, largest_difference, answer, candidate_answer, status, candidate_status"
        " FROM dbml.service_comparisons WHERE workspace = %s LIMIT 1", [ws.name],
    ).fetchone()  # fmt: skip
    assert found == (1, 2, False, 0.5, "[1.0]", "[1.5]", 200, 200)
    assert service.comparisons(1)[0]["agrees"] is False

    # One that does not come up takes the place of the other, and harms nobody.
    Path("score.py").write_text("def init():\n    raise RuntimeError('no such thing')\n\ndef run(data):\n    return data\n")
    config = InferenceConfig(entry_script="score.py")
    with pytest.raises(WebserviceException, match="did not come up"):
        service.set_candidate([constant(ws, 2.0)], inference_config=config, traffic_percent=50, wait=True)
    assert asked(service, 4) == [1.0] * 4
    until(service, lambda: "no such thing" in service.get_logs())  # a runner tells its log now and then
    assert service.state == "Healthy"
    service.rollback()
    assert service.candidate is None


def refuse_what_is_none(ws: Workspace, service: Webservice, db: psycopg.Connection[Any]) -> None:
    for words, error in (
        ("traffic_percent => 101", "0 to 100"), ("traffic_percent => 'NaN'", "0 to 100"), ("traffic_percent => 5", "must have a model"),
        ("model => 'm', config => '{\"x\": 1}'", "keys of"), ("model => 'm', shadow => true, traffic_percent => 5", "must be 0"),
    ):  # fmt: skip
        with pytest.raises(InvalidArgument, match=error):
            db.execute(f"SELECT dbml.set_candidate('tried', {words}, workspace => '{ws.name}')")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="no candidate to promote"):
        service.promote()
    db.execute("UPDATE dbml._services SET target = 'kubernetes' WHERE name = 'tried'")
    try:
        with pytest.raises(NotSupportedYet):
            service.set_candidate([constant(ws, 3.0)])
    finally:
        db.execute("UPDATE dbml._services SET target = 'process' WHERE name = 'tried'")
