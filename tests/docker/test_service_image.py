"""A service's image, made of what the database keeps and of wheels alone, and what runs it: limits, rights, the end."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import pickle
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge

from dbml.core import Model, Webservice, Workspace
from dbml.core.webservice import AciWebservice, runners
from dbml.serving.export.plan import packages
from dbml.serving.export.score import ARROW, NEEDED
from dbml.worker.environments.resolver import NEEDED as OF_THE_WORKER

from ..conftest import Servers
from ..walk_through import PAYLOAD, walk
from .conftest import ROOT, Engine, cached, command
from .stack import find_compose

pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]

ROW = [1, 2, 3, 4, 5, 4, 3, 2, 9, 187]
MOST_MB = 400  # beyond the base


@dataclass(frozen=True)
class Built:
    """An exported folder, and the image that was built of it."""

    folder: Path
    image: str
    printed: str
    dsn: str


@pytest.fixture(scope="module")
def links() -> Path:
    """Wheels of what a scikit-learn service needs, from the index that pip knows, once."""
    wanted = ["scikit-learn", *NEEDED, *ARROW, *OF_THE_WORKER]
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    key = hashlib.sha256(repr((here, wanted, pickle_version())).encode()).hexdigest()[:12]
    with cached(f"service-wheels-{here}-{key}") as (folder, there):
        if not there:
            partial = folder.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            command(sys.executable, "-m", "pip", "download", "--quiet", "--dest", partial, "--only-binary=:all:",
                    *[f"scikit-learn=={pickle_version()}" if one == "scikit-learn" else one for one in wanted])  # fmt: skip
            partial.rename(folder)
    return folder


def pickle_version() -> str:
    import sklearn

    return str(sklearn.__version__)


@pytest.fixture(scope="module")
def built(
    engine: Engine, python_image: str, servers: Servers, links: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Built]:
    """`dbml export MODEL --to DIR --image TAG --wheels`, of a database with a worker that knows no index."""
    server = servers.get("pg18")
    name = server.create(server.template())
    dsn = server.dsn(name)
    folder = tmp_path_factory.mktemp("service") / "diabetes"
    tag = f"dbml-test-service:{os.getpid()}"
    worker = server.start_worker(dsn, "--find-links", str(links))
    try:
        data = load_diabetes()
        with psycopg.connect(dsn, autocommit=True) as db:
            db.execute(
                "select dbml.register_model('diabetes', %s, framework => 'scikit-learn', framework_version => %s)",
                [pickle.dumps(Ridge().fit(data.data, data.target)), pickle_version()],
            )
        printed = command(
            sys.executable, "-m", "dbml.cli", "export", "diabetes", "--to", str(folder), "--compose", str(folder), "--image", tag,
            "--wheels", "--no-index", "--find-links", str(links), "--python-image", python_image, "--dsn", dsn, cwd=ROOT,
            environment=engine.environment,
        )  # fmt: skip
        yield Built(folder, tag, printed, dsn)
    finally:
        worker.stop()
        server.drop(name)
        if not engine.own:
            engine.docker("image", "rm", "--force", tag)
            engine.docker("image", "prune", "--all", "--force", "--filter", f"label=dbml.base={python_image}")


@dataclass(frozen=True)
class Running:
    engine: Engine
    container: str

    def inside(self, code: str) -> str:
        return self.engine.docker("exec", self.container, "python3", "-c", code)

    def score(self) -> Any:
        """Score from within: the tests' engine gives containers no network but their own."""
        code = (
            "import json, urllib.request as u; print(u.urlopen(u.Request('http://127.0.0.1:5001/score',"
            f" data=json.dumps({{'data': [{ROW}]}}).encode(), headers={{'Content-Type': 'application/json'}})).read().decode())"
        )
        return json.loads(self.inside(code))

    @property
    def state(self) -> dict[str, Any]:
        return json.loads(self.engine.docker("inspect", "--format", "{{json .State}}", self.container))  # type: ignore[no-any-return]


@pytest.fixture
def running(engine: Engine, built: Built) -> Iterator[Running]:
    """The container: read-only, as nobody, with little memory, and healthy."""
    container = engine.docker(
        "run", "--detach", "--network", "none", "--read-only", "--tmpfs", "/tmp", "--memory", "256m", "--memory-swap", "256m",
        "--pids-limit", "64", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", built.image,
    )  # fmt: skip
    made = Running(engine, container)
    try:
        deadline = time.monotonic() + 120
        while made.state["Health"]["Status"] != "healthy":
            assert made.state["Running"] and time.monotonic() < deadline, engine.docker("logs", container)
            time.sleep(0.5)
        yield made
    finally:
        engine.docker("rm", "--force", container)


def test_it_scores_and_its_end_is_orderly(running: Running) -> None:
    assert running.score() == pytest.approx([24718.712200131304])
    status = running.inside("print(open('/proc/1/status').read())")
    assert "Uid:\t10001\t10001\t10001\t10001" in status and "CapEff:\t0000000000000000" in status
    refused = running.inside(
        "for path in ('/srv/service/x', '/opt/service/x', '/etc/x'):\n    try:\n        open(path, 'w')\n"
        "    except OSError as error:\n        print(error.errno)"
    )
    assert refused.split() == ["30", "30", "30"]  # EROFS
    # A request under way when it is asked to end gets its answer.
    begun = subprocess.Popen(
        ["docker", "exec", running.container, "python3", "-c", LATE], stdout=subprocess.PIPE, text=True,
        env={**os.environ, **running.engine.environment},
    )  # fmt: skip
    assert begun.stdout is not None and begun.stdout.readline() == "begun\n"
    running.engine.docker("stop", "--time", "30", running.container)
    assert begun.stdout.readline() == "HTTP/1.1 200 OK\n"
    begun.stdout.close()
    begun.wait(10)
    assert running.state["ExitCode"] == 0 and not running.state["OOMKilled"]
    logs = subprocess.run(
        ["docker", "logs", running.container], capture_output=True, text=True, env={**os.environ, **running.engine.environment}
    )
    assert "draining" in logs.stderr


# The half of a request, and the other half after the container was asked to end.
LATE = f"""
import json, socket, time
body = json.dumps({{'data': [{ROW}]}}).encode()
s = socket.create_connection(('127.0.0.1', 5001))
head = 'POST /score HTTP/1.1\\r\\nHost: x\\r\\nContent-Type: application/json\\r\\nContent-Length: %d\\r\\n\\r\\n' % len(body)
s.sendall(head.encode() + body[:5])
print('begun', flush=True)
time.sleep(3)
s.sendall(body[5:])
print(s.recv(65536).decode().splitlines()[0], flush=True)
"""


def test_memory_is_limited(engine: Engine, built: Built) -> None:
    greedy = subprocess.run(
        ["docker", "run", "--rm", "--network", "none", "--memory", "256m", "--memory-swap", "256m", built.image,
         "python3", "-c", "x = bytearray(1 << 30); x[::4096] = b'x' * len(x[::4096])"],
        capture_output=True, env={**os.environ, **engine.environment},
    )  # fmt: skip
    assert greedy.returncode == 137, greedy.stderr  # SIGKILL, of the kernel


def test_what_is_inside(engine: Engine, built: Built, python_image: str, capsys: pytest.CaptureFixture[str]) -> None:
    layers = [
        (int(size), by) for size, _, by in
        (line.partition("\t") for line in engine.docker(
            "history", "--no-trunc", "--human=false", "--format", "{{.Size}}\t{{.CreatedBy}}", built.image).splitlines())
    ]  # fmt: skip
    base = int(engine.docker("image", "inspect", "--format", "{{.Size}}", python_image))
    whole = int(engine.docker("image", "inspect", "--format", "{{.Size}}", built.image))
    code = """
import pathlib, pandas, pyarrow.ipc, pyarrow.parquet, sklearn
for path in sorted(pathlib.Path('/opt/service').glob('lib/python3*/site-packages/*')):
    size = sum(p.stat().st_size for p in path.rglob('*') if p.is_file()) if path.is_dir() else path.stat().st_size
    if size > 1 << 20: print(f'{size / 1e6:8.1f} MB  {path.name}')
for program in ('pip', 'setuptools', 'psycopg'):
    assert not list(pathlib.Path('/opt/service').glob(f'lib/python3*/site-packages/{program}')), program"""
    listed = engine.docker("run", "--rm", "--network", "none", built.image, "python3", "-c", code)
    with capsys.disabled():
        print()
        for size, by in layers:
            if size:
                print(f"{size / 1e6:8.1f} MB  {by[:90]}")
        print(f"{(whole - base) / 1e6:8.1f} MB  beyond the base of {base / 1e6:.1f} MB\n{listed}")
    assert whole - base < MOST_MB * 1e6
    # The export has printed them, and the command that shows the image does.
    printed = [line for line in built.printed.splitlines() if " MB  " in line]
    sizes = [size for size, _ in reversed(layers) if size]
    assert [line.split(" MB")[0].strip() for line in printed] == [f"{size / 1e6:.1f}" for size in [*sizes, sum(sizes)]]
    assert printed[-1].endswith(f"in all, {sum(sizes[-2:]) / 1e6:.1f} MB of them beyond the base")
    shown = json.loads(command(
        sys.executable, "-m", "dbml.cli", "image", "show", "diabetes", "--workspace", "default", "--json", "--dsn", built.dsn,
        environment=engine.environment,
    ))  # fmt: skip
    assert shown["size_bytes"] == sum(sizes) and built.image in shown["built_as"]
    assert [layer["size_bytes"] for layer in shown["layers"] if layer["is_own"]] == sizes[-2:]
    labels = json.loads(engine.docker("image", "inspect", "--format", "{{json .Config.Labels}}", built.image))
    assert labels["dbml.model"] == "diabetes" and labels["dbml.model.version"] == "1" and len(labels["dbml.plan"]) == 64
    assert {name.lower() for name, *_ in packages((built.folder / "requirements.lock").read_text())} >= {
        "scikit-learn",
        "uvicorn",
    }
    found = subprocess.run(
        ["docker", "run", "--rm", "--network", "none", built.image, "sh", "-c", "command -v cc gcc pip"],
        capture_output=True, env={**os.environ, **engine.environment},
    )  # fmt: skip
    assert found.returncode != 0


@pytest.fixture
def place(
    engine: Engine, built: Built, links: Path, python_image: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Path]:
    """An empty current folder, with what says which engine, base and wheels there are; no container is left."""
    told = {
        "DBML_DSN": built.dsn, "DBML_PYTHON_IMAGE": python_image, "DBML_FIND_LINKS": str(links), "DBML_NO_INDEX": "1",
        "DBML_CACHE": str(tmp_path / "cache"), **engine.environment,
    }  # fmt: skip
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("DBML_RUN_ID", raising=False)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    with psycopg.connect(built.dsn, autocommit=True) as db:
        for workspace, name in db.execute("SELECT workspace, name FROM dbml.services").fetchall():
            Webservice(Workspace.get(workspace), name).delete()
    assert engine.docker("ps", "--all", "--quiet", "--filter", "label=dbml.service") == ""


def told(engine: Engine, container: str, what: str) -> Any:
    return json.loads(engine.docker("inspect", "--format", f"{{{{json {what}}}}}", container))


def ask(uri: str, stop: threading.Event, answers: set[int | str]) -> None:
    """Ask without a key, each time on a connection of its own."""
    place = urlsplit(uri)
    while not stop.is_set():
        connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=60)
        try:
            connection.request("POST", "/score", PAYLOAD, {"Content-Type": "application/json"})
            answers.add(connection.getresponse().status)
        except (OSError, http.client.HTTPException) as error:
            answers.add(repr(error))
        finally:
            connection.close()


@pytest.mark.usefixtures("place")
def test_the_walk_through_on_docker(engine: Engine, built: Built, capsys: pytest.CaptureFixture[str]) -> None:
    ws, model, service = walk("docker-walk", capsys)
    assert service.target == "docker" and service.state == "Healthy" and "answers at" in service.get_logs()
    with psycopg.connect(built.dsn, autocommit=True) as db:
        query = "SELECT identity FROM dbml.containers WHERE kind = 'docker' AND generation = %s AND ended_at IS NULL"
        (first,) = db.execute(query, [1]).fetchone()  # type: ignore[misc]
        assert engine.docker("ps", "--quiet", "--filter", "label=dbml.service=my-sklearn-service") == first
        # With limits and keys; whoever asks without one meanwhile gets an answer, and in the end a refusal.
        stop, answers = threading.Event(), set()
        asking = threading.Thread(target=ask, args=(service.scoring_uri, stop, answers))
        asking.start()
        service.update(cpu_cores=0.5, memory_gb=0.5, auth_enabled=True)
        service.wait_for_deployment()
        stop.set()
        asking.join()
        assert {200} <= answers <= {200, 401}
        (second,) = db.execute(query, [2]).fetchone()  # type: ignore[misc]
        host, state = told(engine, second, ".HostConfig"), told(engine, second, ".Config")
        assert (host["Memory"], host["NanoCpus"], host["ReadonlyRootfs"]) == (1 << 29, 500_000_000, True)
        assert host["CapDrop"] == ["ALL"] and host["RestartPolicy"]["Name"] == "unless-stopped" and state["User"] == "10001:10001"
        assert state["Labels"]["dbml.models"] == model.id and state["Labels"]["dbml.workspace"] == ws.name
        assert service.run(PAYLOAD) == pytest.approx([24718.712200131304])
        service.regen_key("Primary", "another-key-of-mine")
        assert service.run(PAYLOAD) == pytest.approx([24718.712200131304]) and service.get_keys()[0] == "another-key-of-mine"
        # Killed by hand: seen, said, and brought back.
        engine.docker("kill", second)
        seen, until = set(), time.monotonic() + 120
        while not seen >= {"Unhealthy", "Healthy"}:
            if (state := service.state) == "Unhealthy" or seen:
                seen.add(state)
            assert time.monotonic() < until, (seen, service.get_logs())
            time.sleep(0.05)
        assert service.run(PAYLOAD) == pytest.approx([24718.712200131304])
        how = "SELECT ended_by FROM dbml.containers WHERE identity = %s"
        assert db.execute(how, [second]).fetchone() == ("killed by signal 9",)
    service.delete()
    assert engine.docker("ps", "--all", "--quiet", "--filter", "label=dbml.service") == ""
    assert engine.docker("volume", "ls", "--quiet", "--filter", "label=dbml.service") == ""


def until(service: Webservice, holds: Callable[[], Any], timeout_s: float = 120) -> Any:
    end = time.monotonic() + timeout_s
    while not (found := holds()):
        assert time.monotonic() < end, service.get_logs()
        time.sleep(0.1)
    return found


@pytest.mark.usefixtures("place")
def test_a_container_outlives_its_killed_runner_and_the_next_one_has_it(engine: Engine, built: Built) -> None:
    ws = Workspace.get("default")
    config = AciWebservice.deploy_configuration(auth_enabled=True, target="docker")
    service = Model.deploy(ws, "orphaned", [Model(ws, "diabetes")], deployment_config=config)
    service.wait_for_deployment()
    label = "label=dbml.service=orphaned"
    container = engine.docker("ps", "--quiet", "--filter", label)
    ((key, runner),) = [(key, process) for key, (process, _) in runners._started.items() if key[2] == "orphaned"]
    runner.kill()
    runner.wait()
    until(service, lambda: service.state == "Unhealthy")
    assert engine.docker("ps", "--quiet", "--filter", label) == container
    runners.start(*key)
    until(service, lambda: service.state == "Healthy")
    assert service.run(PAYLOAD) == pytest.approx([24718.712200131304])
    assert engine.docker("ps", "--all", "--quiet", "--filter", label) == container
    assert "was left running" in service.get_logs()
    with psycopg.connect(built.dsn, autocommit=True) as db:
        told = "SELECT identity, ended_by FROM dbml.containers WHERE service = 'orphaned' ORDER BY started_at"
        assert db.execute(told).fetchall() == [(container, "another runner took over"), (container, None)]


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("target", ["docker", "compose"])
def test_a_candidate_runs_beside(engine: Engine, built: Built, place: Path, target: str) -> None:
    """It answers its share, is compared in shadow, may die, and takes over; only what serves can reach it."""
    data, one = load_diabetes(), 24718.712200131304
    name = f"doubled-{target}"
    with psycopg.connect(built.dsn, autocommit=True) as db:
        for times in (1, 2):
            db.execute(
                "select dbml.register_model(%s, %s, framework => 'scikit-learn', framework_version => %s)",
                [name, pickle.dumps(Ridge().fit(data.data, times * data.target)), pickle_version()],
            )
    ws = Workspace.get("default")
    service = Model.deploy(
        ws, f"tried-{target}", [Model(ws, name, version=1)],
        deployment_config=AciWebservice.deploy_configuration(auth_enabled=True, target=target),
    )  # fmt: skip
    service.wait_for_deployment()

    def asked(times: int) -> list[float]:
        return [round(value / one, 6) for _ in range(times) for value in service.run(PAYLOAD)]

    assert asked(2) == [1, 1]
    service.set_candidate([Model(ws, name, version=2)], traffic_percent=50, wait=True)
    until(service, lambda: sorted(asked(6)) == [1, 1, 1, 2, 2, 2])
    (beside,) = engine.docker("ps", "--quiet", "--filter", "label=dbml.generation=2").split()
    host = told(engine, beside, ".HostConfig")
    assert (host["NetworkMode"], host["ReadonlyRootfs"], host["CapDrop"]) == ("none", True, ["ALL"])
    assert told(engine, beside, ".Config.User") == "10001:10001" and not told(engine, beside, ".NetworkSettings.Ports")
    # In shadow it is asked, and not heard.
    service.set_candidate(shadow=True)
    until(service, lambda: asked(2) == [1, 1] and service.candidate["compared"] >= 2)  # type: ignore[index]
    assert service.candidate["differing"] == service.candidate["compared"]  # type: ignore[index]
    assert service.comparisons(1)[0]["largest_difference"] == pytest.approx(one)
    # One that dies loses no request, and comes back.
    service.set_candidate(traffic_percent=100)
    until(service, lambda: asked(2) == [2, 2])
    engine.docker("rm", "--force", beside)
    assert set(asked(4)) <= {1, 2}
    until(service, lambda: engine.docker("ps", "--quiet", "--filter", "label=dbml.generation=2").split() not in ([], [beside]))
    until(service, lambda: asked(2) == [2, 2])
    service.promote(wait=True)
    until(service, lambda: engine.docker("ps", "--all", "--quiet", "--filter", "label=dbml.generation=2") == "")
    assert asked(2) == [2, 2] and service.candidate is None
    until(service, lambda: not [*place.glob("cache/targets/compose/*/*/candidates/*")])  # neither a file nor a socket is left
    service.delete()
    for kind in ("container", "volume"):
        every = ["--all"] if kind == "container" else []
        assert engine.docker(kind, "ls", *every, "--quiet", "--filter", f"label=dbml.service={service.name}") == ""


def test_a_project_of_compose(engine: Engine, built: Built, place: Path) -> None:
    find_compose(engine)
    ws = Workspace.get("default")
    config = AciWebservice.deploy_configuration(auth_enabled=True, memory_gb=0.5, target="compose")
    config.config["folder"] = str(place / "composed")
    service = Model.deploy(ws, "composed", [Model(ws, "diabetes")], deployment_config=config)
    service.wait_for_deployment()
    assert service.run(PAYLOAD) == pytest.approx([24718.712200131304])
    written = (place / "composed" / "docker-compose.yml").read_text()
    assert "read_only: true" in written and "10001:10001" in written
    (container,) = engine.docker("ps", "--quiet", "--filter", "label=dbml.generation=1").split()
    engine.docker("rm", "--force", container)
    until = time.monotonic() + 120
    while service.state != "Unhealthy" and service._row["restarts"] == 0:
        assert time.monotonic() < until, service.get_logs()
    service.wait_for_deployment()
    assert service.run(PAYLOAD) == pytest.approx([24718.712200131304])
    service.delete()
    assert engine.docker("ps", "--all", "--quiet", "--filter", "label=dbml.generation") == ""


def test_the_compose_tool_takes_the_file(engine: Engine, built: Built) -> None:
    compose = find_compose(engine)
    said = command(*compose, "--file", str(built.folder / "docker-compose.yml"), "config", environment=engine.environment)
    assert "read_only: true" in said and "10001:10001" in said
