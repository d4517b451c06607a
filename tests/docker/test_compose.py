"""The compose file as users start it: a server, the installation and a worker in containers of their own."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from .conftest import ROOT, Engine, unavailable

pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]

CONTEXT = (
    "dbml",
    "sql",
    "migrations",
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "Dockerfile",
    "docker-compose.yml",
    ".dockerignore",
)
DOUBLE = """SELECT * FROM dbml.run_script('OutputDataSet = InputDataSet * factor',
    input_query => 'SELECT g AS x FROM generate_series(1, 3) g', params => '{"factor": 3}') AS t(x int)"""


@dataclass(frozen=True)
class Stack:
    """A project of docker compose, in a folder that holds a checkout and a .env."""

    engine: Engine
    folder: Path
    compose: tuple[str, ...]
    project: str
    dsn: str

    def __call__(self, *words: str) -> str:
        answer = subprocess.run(
            [*self.compose, *words],
            cwd=self.folder,
            env={**os.environ, **self.engine.environment},
            capture_output=True,
            text=True,
        )
        assert answer.returncode == 0, f"{answer.stdout}\n{answer.stderr}\n{self.logs()}"
        return answer.stdout.strip()

    def logs(self) -> str:
        answer = subprocess.run(
            [*self.compose, "logs", "--tail", "40"],
            cwd=self.folder, env={**os.environ, **self.engine.environment}, capture_output=True, text=True,
        )  # fmt: skip
        return answer.stdout

    def inspect(self, service: str) -> dict:
        label = f"label=com.docker.compose.service={service}"
        of_project = f"label=com.docker.compose.project={self.project}"
        container = self.engine.docker("ps", "--all", "--quiet", "--filter", of_project, "--filter", label)
        return json.loads(self.engine.docker("inspect", container))[0]

    def wait_healthy(self, service: str, timeout_s: float = 120) -> None:
        deadline = time.monotonic() + timeout_s
        while (state := self.inspect(service)["State"])["Health"]["Status"] != "healthy":
            assert state["Running"] and time.monotonic() < deadline, f"{service}: {state}\n{self.logs()}"
            time.sleep(0.5)

    def connect(self) -> psycopg.Connection:
        return psycopg.connect(self.dsn, autocommit=True, connect_timeout=10)

    def verify(self) -> str:
        return self("exec", "-T", "worker", "dbml", "verify")


def find_compose(engine: Engine) -> tuple[str, ...]:
    """Return the command of the plugin, or of Debian's package."""
    environment = {**os.environ, **engine.environment}
    for words in (("docker", "compose"), ("docker-compose",)):
        if shutil.which(words[0]) and subprocess.run([*words, "version"], capture_output=True, env=environment).returncode == 0:
            return words
    unavailable("neither docker compose nor docker-compose is on this machine")
    raise AssertionError


@pytest.fixture(scope="module")
def stack(
    engine: Engine, python_image: str, postgres_image: str, wheels: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """The project, built without a network and started; nothing of it is left."""
    compose = find_compose(engine)
    folder = tmp_path_factory.mktemp("compose") / "dbml"
    folder.mkdir()
    for name in CONTEXT:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    shutil.copytree(wheels, folder / "wheels")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    password, project = secrets.token_hex(8), f"dbml_test_{os.getpid()}"
    settings = {
        "POSTGRES_PASSWORD": password, "POSTGRES_IMAGE": postgres_image, "PYTHON_IMAGE": python_image, "DBML_IMAGE": project,
        "DBML_PORT": port, "COMPOSE_PROJECT_NAME": project,
    }  # fmt: skip
    (folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    made = Stack(engine, folder, compose, project, f"postgresql://postgres:{password}@127.0.0.1:{port}/dbml")
    try:
        made("build", "worker")  # the installation has the same image
        made("up", "--detach")
        for service in ("postgres", "worker"):
            made.wait_healthy(service)
        yield made
    finally:
        made("down", "--volumes")
        if not engine.own:
            engine.docker("image", "rm", "--force", project)
        left = [
            engine.docker(kind, "ls", "--quiet", "--filter", f"name={project}") for kind in ("container", "volume", "network")
        ]
        assert left == ["", "", ""]


@pytest.fixture
def db(stack: Stack) -> Iterator[psycopg.Connection]:
    with stack.connect() as connection:
        yield connection


def test_the_installation_ends_well_and_everything_answers(stack: Stack) -> None:
    assert stack.inspect("install")["State"]["ExitCode"] == 0
    said = stack.verify()
    assert "WRONG" not in said
    assert "worker:7070" in said


def test_scripts_and_predictions_from_the_host(stack: Stack, db: psycopg.Connection) -> None:
    assert db.execute(DOUBLE).fetchall() == [(3,), (6,), (9,)]
    trained = """
from sklearn.linear_model import LinearRegression
OutputDataSet = [run.register_model('line', LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0]))]"""
    assert db.execute("SELECT * FROM dbml.run_script(%s) AS t(version int)", [trained]).fetchone() == (1,)
    assert db.execute("SELECT round(dbml.predict('line', array[4.0])::numeric, 6)").fetchone() == (8,)


def test_by_psql_in_the_servers_container(stack: Stack) -> None:
    said = stack("exec", "-T", "postgres", "psql", "-U", "postgres", "-At", "-c", DOUBLE, "dbml")
    assert said.split() == ["3", "6", "9"]


def test_a_session_goes_on_after_the_worker_was_restarted(stack: Stack, db: psycopg.Connection) -> None:
    assert db.execute(DOUBLE).fetchall() == [(3,), (6,), (9,)]
    before = stack.inspect("worker")["State"]["StartedAt"]
    stack("restart", "worker")
    stack.wait_healthy("worker")
    assert stack.inspect("worker")["State"]["StartedAt"] > before
    assert db.execute(DOUBLE).fetchall() == [(3,), (6,), (9,)]
    assert "WRONG" not in stack.verify()


def test_a_worker_that_is_stopped_is_told_apart_and_comes_back(stack: Stack, db: psycopg.Connection) -> None:
    stack("stop", "worker")
    try:
        with pytest.raises(psycopg.DatabaseError) as caught:
            db.execute(DOUBLE)
        assert caught.value.sqlstate == "ML010"
        assert db.execute("SELECT 1").fetchone() == (1,)
    finally:
        stack("start", "worker")
        stack.wait_healthy("worker")
    assert db.execute(DOUBLE).fetchall() == [(3,), (6,), (9,)]


def test_no_process_of_the_worker_has_rights_to_speak_of(stack: Stack, db: psycopg.Connection) -> None:
    db.execute(DOUBLE)
    listed = stack("exec", "-T", "worker", "sh", "-c", "cat /proc/[0-9]*/status").split("Name:\t")[1:]
    processes = [dict(line.split(":\t", 1) for line in f"Name:\t{one}".splitlines() if ":\t" in line) for one in listed]
    assert len(processes) > 3  # the init, the listener, the zygote, and cat itself
    for process in processes:
        assert process["Uid"].split() == ["10001"] * 4, process
        assert {process[f"Cap{kind}"].strip("0") for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {""}, process
        assert process["NoNewPrivs"] == "1", process


def test_the_init_reaps_what_a_script_leaves_behind(stack: Stack, db: psycopg.Connection) -> None:
    orphan = "import os\nif os.fork() == 0:\n    if os.fork() == 0:\n        import time; time.sleep(1)\n    os._exit(0)\nOutputDataSet = [1]"
    assert db.execute("SELECT * FROM dbml.run_script(%s) AS t(x int)", [orphan]).fetchone() == (1,)
    deadline = time.monotonic() + 20
    while "\nState:\tZ" in stack("exec", "-T", "worker", "sh", "-c", "cat /proc/[0-9]*/status"):
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_only_the_server_is_published_and_only_on_this_host(stack: Stack) -> None:
    published = stack.inspect("postgres")["NetworkSettings"]["Ports"]["5432/tcp"]
    assert [one["HostIp"] for one in published] == ["127.0.0.1"]
    assert not any(stack.inspect("worker")["NetworkSettings"]["Ports"].values())


def test_the_password_is_in_no_image_and_on_no_command_line(stack: Stack) -> None:
    password = psycopg.conninfo.conninfo_to_dict(stack.dsn)["password"]
    assert password not in stack.engine.docker("image", "inspect", stack.project)
    assert password not in stack.engine.docker("history", "--no-trunc", stack.project)
    assert password not in stack("exec", "-T", "worker", "sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
