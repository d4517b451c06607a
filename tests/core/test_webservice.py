"""Services by the SDK, on the process target: deployed, asked, updated without a failed request, killed, refused, deleted."""

from __future__ import annotations

import http.client
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from sklearn.dummy import DummyRegressor

from dbml.core import Model, Webservice, Workspace
from dbml.core.model import InferenceConfig
from dbml.core.webservice import AciWebservice, AksWebservice, LocalWebservice, runners
from dbml.errors import InvalidArgument
from dbml.exceptions import WebserviceException

from ..serving.services import until
from ..walk_through import walk

pytestmark = pytest.mark.once

ROWS = json.dumps({"data": [[0.0]], "method": "predict"})


@pytest.fixture
def deployed(ws: Workspace) -> Iterator[Callable[[Webservice], Webservice]]:
    """What is deployed is deleted in the end, and its runner with it."""
    yield lambda service: service
    for service in ws.webservices.values():
        service.delete()


def constant(ws: Workspace, value: float, name: str = "m") -> Model:
    """Register a model that says one number."""
    path = Path(f"{name}-{value}.pkl")
    path.write_bytes(pickle.dumps(DummyRegressor(strategy="constant", constant=value).fit([[0.0]], [value])))
    return Model.register(ws, path, name)


@pytest.mark.usefixtures("place")
def test_the_walk_through_to_its_prediction(capsys: pytest.CaptureFixture[str]) -> None:
    ws, model, service = walk(f"walk-{uuid.uuid4().hex[:8]}", capsys)
    assert type(service) is LocalWebservice and type(Webservice(ws, "my-sklearn-service")) is LocalWebservice
    assert service.state == "Healthy" and service.port == urlsplit(service.scoring_uri or "").port and not service.auth_enabled
    with urllib.request.urlopen(service.swagger_uri or "") as answer:
        assert json.load(answer)["paths"]
    with pytest.raises(WebserviceException, match="exists"):
        Model.deploy(ws, "my-sklearn-service", [model])
    assert "generation 1 of my-sklearn-service" in service.get_logs()
    port = service.port
    service.delete()
    with pytest.raises(OSError):  # noqa: PT011 - nobody listens any more
        http.client.HTTPConnection("127.0.0.1", port or 0, timeout=5).request("GET", "/")
    with pytest.raises(WebserviceException, match="no service"):
        Webservice(ws, "my-sklearn-service")
    ws.delete()


@pytest.mark.usefixtures("deployed")
def test_an_update_loses_no_request(ws: Workspace, db: psycopg.Connection[Any]) -> None:
    """16 connections ask all the time while the model changes: every answer is 200, and of one version or the other."""
    service = Model.deploy(ws, "steady", [constant(ws, 1.0)])
    service.wait_for_deployment()
    place = urlsplit(service.scoring_uri or "")
    stop = threading.Event()
    answers: Counter[tuple[int, str]] = Counter()
    broken: list[str] = []

    def ask() -> None:
        connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=60)
        while not stop.is_set():
            try:
                connection.request("POST", "/score", ROWS, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                answers[answer.status, answer.read().decode()] += 1
            except (OSError, http.client.HTTPException) as error:
                broken.append(repr(error))
        connection.close()

    clients = [threading.Thread(target=ask) for _ in range(16)]
    for client in clients:
        client.start()
    time.sleep(1)
    service.update(models=[constant(ws, 2.0)])
    service.wait_for_deployment()
    time.sleep(1)
    stop.set()
    for client in clients:
        client.join()
    assert broken == [] and set(answers) == {(200, "[1.0]"), (200, "[2.0]")}, (broken[:3], answers)
    assert service.run(ROWS) == [2.0] and service.scoring_uri == f"http://{place.netloc}/score"
    former = db.execute("SELECT generation, ended_by FROM dbml.containers WHERE workspace = %s ORDER BY started_at", [ws.name])
    assert [row[0] for row in former.fetchall()] == [1, 2]


@pytest.mark.usefixtures("deployed")
def test_what_is_killed_is_seen_and_comes_back(ws: Workspace, db: psycopg.Connection[Any]) -> None:
    service = Model.deploy(ws, "killed", [constant(ws, 3.0)])
    service.wait_for_deployment()
    query = "SELECT identity FROM dbml.containers WHERE workspace = %s AND ended_at IS NULL"
    seen = set()
    (pid,) = db.execute(query, [ws.name]).fetchone()  # type: ignore[misc]
    os.kill(int(pid), signal.SIGKILL)
    until = time.monotonic() + 60
    while "Healthy" not in seen:
        state = service.state
        if state == "Unhealthy" or seen:
            seen.add(state)
        assert time.monotonic() < until, (seen, service.get_logs())
        time.sleep(0.05)
    assert seen == {"Unhealthy", "Healthy"} and service.run(ROWS) == [3.0] and service.error is None
    ended = db.execute("SELECT ended_by FROM dbml.containers WHERE workspace = %s AND ended_at IS NOT NULL", [ws.name]).fetchall()
    assert [row[0] for row in ended] == ["killed by SIGKILL"] and service._row["restarts"] == 1


@pytest.mark.usefixtures("deployed")
def test_what_is_hung_is_ended_and_comes_back(ws: Workspace, db: psycopg.Connection[Any]) -> None:
    config = LocalWebservice.deploy_configuration(target="process", probe_s=2, probe_failures=2)
    service = Model.deploy(ws, "hung", [constant(ws, 3.0)], deployment_config=config)
    service.wait_for_deployment()
    running = "SELECT identity FROM dbml.containers WHERE workspace = %s AND ended_at IS NULL"
    (pid,) = db.execute(running, [ws.name]).fetchone()  # type: ignore[misc]
    os.kill(int(pid), signal.SIGSTOP)
    how = "SELECT ended_by FROM dbml.containers WHERE workspace = %s AND identity = %s AND ended_at IS NOT NULL"
    until = time.monotonic() + 90
    while (ended := db.execute(how, [ws.name, pid]).fetchone()) is None:
        assert time.monotonic() < until, service.get_logs()
        time.sleep(0.1)
    assert ended == ("it was hung, and killed by SIGKILL",)
    assert service.run(ROWS) == [3.0] and "2 health requests in turn" in service.get_logs()


@pytest.mark.usefixtures("deployed")
def test_memory_and_processors_are_limited(ws: Workspace) -> None:
    Path("score.py").write_text(
        "import os\n\ndef init():\n    pass\n\ndef run(data):\n    try:\n        got = len(bytearray(1 << 30))\n"
        "    except MemoryError:\n        got = 'MemoryError'\n    return [got, len(os.sched_getaffinity(0))]\n"
    )
    config = AciWebservice.deploy_configuration(cpu_cores=0.5, memory_gb=0.5, target="process")
    service = Model.deploy(ws, "limited", [constant(ws, 1.0)], InferenceConfig(entry_script="score.py"), config)
    assert service.run("{}") == ["MemoryError", 1]
    with pytest.raises(WebserviceException, match="code 400"):
        service.get_token()


@pytest.mark.usefixtures("deployed")
def test_a_script_that_does_not_load_fails_with_its_log(ws: Workspace) -> None:
    Path("score.py").write_text("def init():\n    raise RuntimeError('no such thing')\n\ndef run(data):\n    return data\n")
    model = constant(ws, 1.0)
    service = Model.deploy(
        ws, "bad", [model], InferenceConfig(entry_script="score.py"), AciWebservice.deploy_configuration(cpu_cores=1)
    )
    assert type(service) is AciWebservice
    with pytest.raises(WebserviceException, match="RuntimeError: no such thing"):
        service.run(ROWS)
    assert service.state == "Failed" and "did not come up" in (service.error or "")
    # An update mends it; one that does not come up leaves what serves alone.
    Path("score.py").write_text("def init():\n    pass\n\ndef run(data):\n    return {'length': len(data)}\n")
    service.update(models=[model], inference_config=InferenceConfig(entry_script="score.py"))
    assert service.run("12345") == {"length": 5}
    Path("score.py").write_text("import nothing_of_that_name\n")
    service.update(models=[model], inference_config=InferenceConfig(entry_script="score.py"))
    with pytest.raises(WebserviceException, match="nothing_of_that_name"):
        service.wait_for_deployment()
    assert service.state == "Healthy" and "did not come up" in (service.error or "")


@pytest.mark.usefixtures("deployed")
def test_keys_on_and_off(ws: Workspace) -> None:
    service = Model.deploy(
        ws, "locked", [constant(ws, 4.0)], deployment_config=AksWebservice.deploy_configuration(num_replicas=1, target="process")
    )
    assert type(service) is AksWebservice and service.auth_enabled
    assert service.run(ROWS) == [4.0]
    first, second = service.get_keys()
    assert first != second and status(service, None) == 401 and status(service, "wrong") == 403
    assert status(service, first) == status(service, second) == 200
    service.regen_key("Primary")
    fresh = service.get_keys()[0]
    assert fresh != first and service.run(ROWS) == [4.0]
    assert status(service, first) == 403 and status(service, second) == 200
    service.update(auth_enabled=False)
    assert service.run(ROWS) == [4.0] and status(service, None) == 200
    assert [found.name for found in Webservice.list(ws, compute_type="AKS")] == ["locked"] and not Webservice.list(
        ws, compute_type="ACI"
    )


@pytest.mark.usefixtures("deployed")
def test_what_sql_asks_for_is_served_where_somebody_looks(
    ws: Workspace, db: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dbml.core.webservice.webservice.CALLED_S", 600.0)
    constant(ws, 5.0)
    with subprocess.Popen(
        [sys.executable, "-m", "dbml.cli", "services", "serve", "--unconfined"], stdout=subprocess.DEVNULL
    ) as looking:
        try:
            db.execute("SELECT dbml.deploy('m', 'from-sql', workspace => %s)", [ws.name])
            assert Webservice(ws, "from-sql").run(ROWS) == [5.0]
            with pytest.raises(InvalidArgument, match="serves 'from-sql'"):
                db.execute("SELECT dbml.delete_model('m:1', %s)", [ws.name])
            # What is deployed where somebody looks is left to them.
            service = Model.deploy(ws, "left", [constant(ws, 7.0)])
            assert service.run(ROWS) == [7.0]
            assert not [key for key in runners._started if key[2] == "left"]
        finally:
            looking.terminate()
        assert looking.wait(60) == 0
    assert Webservice(ws, "from-sql").state == "Unhealthy", "its runner ends with who started it"


@pytest.mark.usefixtures("deployed")
def test_from_the_shell(ws: Workspace) -> None:
    def dbml(*words: str) -> str:
        command = [sys.executable, "-m", "dbml.cli", *words, "--workspace", ws.name]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    constant(ws, 6.0)
    said = dbml("deploy", "m", "--service", "shell", "--auth")
    service = Webservice(ws, "shell")
    assert said == f"shell answers at {service.scoring_uri}\n" and service.run(ROWS) == [6.0]
    assert "Healthy" in dbml("services", "list") and '"generation": 1' in dbml("services", "list", "--json")
    assert dbml("services", "keys", "shell").split() == list(service.get_keys())
    assert "answers at" in dbml("services", "logs", "shell")
    dbml("services", "delete", "shell")
    assert "shell" not in dbml("services", "list")


def status(service: Webservice, key: str | None) -> int:
    place = urlsplit(service.scoring_uri or "")
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=60)
    connection.request(
        "POST", "/score", ROWS, {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
    )
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


REACHING = """
import os, pickle, socket
def init():
    global said
    with open(os.path.join(os.environ["AZUREML_MODEL_DIR"], os.listdir(os.environ["AZUREML_MODEL_DIR"])[0]), "rb") as file:
        said = pickle.load(file)
def run(data):
    return said
"""
ATTEMPTS = """
import socket
def attempt(what):
    try:
        return "done " + repr(what())
    except BaseException as error:
        return type(error).__name__
def unix():
    with socket.socket(socket.AF_UNIX) as made:
        made.connect({unix!r})
def tcp():
    with socket.create_connection(({host!r}, {port}), 5):
        pass
said = [attempt(lambda: open({secret!r}).read()), attempt(unix), attempt(tcp), attempt(lambda: open("/proc/{other}/mem", "rb").close())]
"""


@pytest.mark.usefixtures("deployed")
@pytest.mark.parametrize("unsafe", [False, True])
def test_a_malicious_pickle_reaches_nothing_of_its_owners(
    ws: Workspace, db: psycopg.Connection[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unsafe: bool
) -> None:
    """Neither the owner's other files, nor the database, nor another process' memory, as the runner's that knows its login; unconfined it would."""
    secret = tmp_path / "id_ed25519"
    secret.write_text("the owner's key")
    folder = db.info.get_parameters().get("host", "") or db.execute("SHOW unix_socket_directories").fetchone()[0].split(",")[0]  # type: ignore[index]
    unix = f"{folder if folder.startswith('/') else '/tmp'}/.s.PGSQL.{db.info.port}"
    other = subprocess.Popen(["/bin/sleep", "100"])
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        text = ATTEMPTS.format(
            secret=str(secret), unix=unix, host="127.0.0.1", port=listening.getsockname()[1], other=other.pid
        )  # fmt: skip

        class Malicious:
            def __reduce__(self) -> Any:
                return eval, (f"(lambda d: (exec({text!r}, d), d['said'])[1])({{}})",)

        Path("m.pkl").write_bytes(pickle.dumps(Malicious()))
        Path("score.py").write_text(REACHING)
        if unsafe:
            monkeypatch.setenv("DBML_UNSAFE_NO_SANDBOX", "1")
        try:
            service = Model.deploy(
                ws,
                f"reaching-{unsafe}".lower(),
                [Model.register(ws, "m.pkl", "reaching")],
                InferenceConfig(entry_script="score.py"),
            )
            said = service.run(ROWS)
        finally:
            other.kill()
            other.wait()
    if unsafe:
        assert said[0] == 'done "the owner\'s key"' and said[2:] == ["done None", "done None"]
        assert "not confined: --unsafe-no-sandbox" in service.get_logs()
    else:
        assert not [word for word in said if word.startswith("done")]
        assert "the scoring app is confined by" in service.get_logs()


@pytest.mark.usefixtures("deployed")
def test_a_runner_that_was_killed_is_replaced_within_seconds(ws: Workspace, db: psycopg.Connection[Any]) -> None:
    """One that reports keeps its claim; ten seconds after its last word another one gets it, and the first is told so."""
    constant(ws, 1.0)
    db.execute("SELECT dbml.deploy('m', 'claimed', workspace => %s)", [ws.name])

    def report(claim: str) -> bool:
        said = json.dumps({"claim": claim, "node": "here", "state": "Healthy"})
        (answer,) = db.execute("SELECT dbml_channel.report_service('claimed', %s, %s)", [said, ws.name]).fetchone()  # type: ignore[misc]
        return not answer.get("lost")

    def silent_for(seconds: int) -> str:
        db.execute(
            "UPDATE dbml._services SET seen_at = now() - make_interval(secs => %s) WHERE name = 'claimed' AND workspace_id ="
            " (SELECT workspace_id FROM dbml._workspaces WHERE name = %s)", [seconds, ws.name],
        )  # fmt: skip
        return Webservice(ws, "claimed").state

    assert report("first") and not report("second")
    assert silent_for(5) == "Healthy" and not report("second")
    assert silent_for(11) == "Unhealthy" and report("second") and not report("first")


@pytest.mark.usefixtures("deployed")
def test_a_runner_is_killed_and_another_takes_its_service_over(ws: Workspace, db: psycopg.Connection[Any]) -> None:
    """The scoring app ends with its runner; where somebody looks for services, one comes that serves at the same address."""
    service = Model.deploy(ws, "orphaned", [constant(ws, 8.0)])
    service.wait_for_deployment()
    place = urlsplit(uri := service.scoring_uri or "")
    (runner,) = [process for key, (process, _) in runners._started.items() if key[1:] == (ws.name, "orphaned")]

    def is_refused() -> bool:
        with socket.socket() as made:
            return made.connect_ex((place.hostname, place.port)) != 0

    looking = subprocess.Popen([sys.executable, "-m", "dbml.cli", "services", "serve", "--unconfined"], stdout=subprocess.DEVNULL)
    try:
        runner.kill()
        runner.wait()
        until(is_refused)
        until(lambda: service.state == "Unhealthy")  # as long as the other one is being started
        until(lambda: service.state == "Healthy")
        assert service.run(ROWS) == [8.0] and service.scoring_uri == uri
        told = db.execute("SELECT generation, ended_by FROM dbml.containers WHERE workspace = %s ORDER BY started_at", [ws.name])
        assert told.fetchall() == [(1, "another runner took over"), (1, None)]
    finally:
        looking.terminate()
        assert looking.wait(60) == 0
