"""Projects of docker compose, from a checkout in a folder of its own."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from .conftest import Engine, unavailable

CONTEXT = (
    "dbml",
    "sql",
    "migrations",
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "Dockerfile",
    "docker-compose.yml",
    "docker-compose.hardened.yml",
    "docker",
    ".dockerignore",
)


@dataclass(frozen=True)
class Stack:
    """A project of docker compose, in a folder that holds a checkout and a .env."""

    engine: Engine
    folder: Path
    compose: tuple[str, ...]
    file: str
    project: str
    image: str
    dsn: str

    def __call__(self, *words: str) -> str:
        answer = subprocess.run(
            [*self.compose, "--file", self.file, *words],
            cwd=self.folder,
            env={**os.environ, **self.engine.environment},
            capture_output=True,
            text=True,
        )
        assert answer.returncode == 0, f"{answer.stdout}\n{answer.stderr}\n{self.logs()}"
        return answer.stdout.strip()

    def logs(self) -> str:
        answer = subprocess.run(
            [*self.compose, "--file", self.file, "logs", "--tail", "40"],
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
        return self("run", "--rm", "--no-deps", "-T", "install", "dbml", "verify")  # the worker's login may not


def find_compose(engine: Engine) -> tuple[str, ...]:
    """Return the command of the plugin, or of Debian's package."""
    environment = {**os.environ, **engine.environment}
    for words in (("docker", "compose"), ("docker-compose",)):
        if shutil.which(words[0]) and subprocess.run([*words, "version"], capture_output=True, env=environment).returncode == 0:
            return words
    unavailable("neither docker compose nor docker-compose is on this machine")
    raise AssertionError


@dataclass(frozen=True)
class Checkout:
    """A folder with what the image is made of, and the image.  settings: of every project's .env."""

    engine: Engine
    folder: Path
    compose: tuple[str, ...]
    image: str
    settings: Mapping[str, object]

    @contextmanager
    def started(self, file: str, password: str, **settings: object) -> Iterator[Stack]:
        """Start a project of one compose file and wait until it is healthy; nothing of it is left."""
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        project = f"{self.image}_{file.split('.')[1]}"
        written = {**self.settings, **settings, "DBML_PORT": port, "COMPOSE_PROJECT_NAME": project}
        (self.folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in written.items()))
        dsn = f"postgresql://postgres:{password}@127.0.0.1:{port}/dbml"
        made = Stack(self.engine, self.folder, self.compose, file, project, self.image, dsn)
        try:
            made("up", "--detach", "--no-build")
            for service in ("postgres", "worker"):
                made.wait_healthy(service)
            yield made
        finally:
            made("down", "--volumes")
            left = [
                self.engine.docker(kind, "ls", "--quiet", "--filter", f"name={project}")
                for kind in ("container", "volume", "network")
            ]
            assert left == ["", "", ""]
