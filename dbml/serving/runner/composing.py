"""The target `compose`: a folder with docker-compose.yml that goes on by itself, brought up where there is a compose tool.

The folder is written where the config's `folder` says, else into the runner's cache.  An update is another `up` of the same
project, during which the service does not answer for a moment.  The project lives without its runner, and ends with the service.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from dbml.serving.export import manifests
from dbml.serving.export.dockerfile import PORT
from dbml.serving.export.folder import write
from dbml.serving.export.plan import Plan
from dbml.serving.runner.containers import image_tag, slug, variables
from dbml.serving.runner.contract import Machine, NotHere, Service, Serving, Target
from dbml.serving.runner.lasting import Lasting, environment, fetch, folder_of, resources_of
from dbml.serving.runner.probes import READY, answers
from dbml.serving.runner.processes import uri_of

FILE = "docker-compose.yml"
LOOK_S, PROBE_TIMEOUT_S = 1.0, 4.0
COMING_UP_S = 300.0
STOP_S = 60.0


class Composing(Target):
    """One project of compose, whose only service is the scoring app."""

    kind = "compose"
    lasting = True

    def __init__(self, service: Service, machine: Machine) -> None:
        self._service, self._machine = service, machine
        self._keys: list[str] = []
        self._folder: Path | None = None
        self._built: set[int] = set()
        self._tool = tool()
        self._project = f"dbml-{slug(service.workspace)}-{slug(service.name)}"

    def listen(self, host: str, port: int, former: int | None) -> None:
        """Choose the port that is written into the file; the project that runs already has it."""
        self._port = port or former or _free_port(host)
        self._host = host
        self.uri = uri_of(host, self._port)

    def prepare(self, plan: Plan, generation: int, config: Mapping[str, Any], *, keyed: bool) -> Serving:
        """Write the folder."""
        folder = folder_of(self._service, self._machine, config, "compose")
        wheels = bool(self._machine.find_links or self._machine.no_index)
        write(plan, folder, wheels=wheels)
        if wheels:
            fetch(folder, plan, self._machine, self._service)
        self._folder = folder
        if keyed:
            self.take_keys(self._keys)
        image = image_tag(plan, self._service)
        document = manifests.compose(plan, image, self._port, resources_of(config))
        (service,) = document["services"].values()
        service["ports"] = [f"{self._host}:{self._port}:{PORT}"]
        service["environment"] = variables(config)
        if self._machine.python_image:
            service["build"]["args"] = {"PYTHON_IMAGE": self._machine.python_image}
        if config.get("restart") == "never":
            service["restart"] = "no"
        if keyed:
            service["environment"]["DBML_KEYS"] = "/run/dbml/keys"
            service["volumes"] = ["./keys:/run/dbml:ro"]
        service["labels"] = {"dbml.generation": str(generation), "dbml.service": self._service.name}
        head = f"# Made by dbml for {plan.name} version {plan.version}.\n"
        text = head + yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
        (folder / FILE).write_text(text, encoding="utf-8")
        self._service.say(f"{folder / FILE} is written")
        if self._tool is None:
            raise NotHere(f"no compose tool is here: docker compose --file {folder / FILE} up --detach --build brings it up")
        return Serving(generation, folder, config, keyed, text, plan)

    def start(self, serving: Serving) -> Project:
        """Bring it up: a generation that was up before by the image that it has."""
        assert self._tool is not None
        (serving.folder / FILE).write_text(serving.made, encoding="utf-8")
        command = [*self._tool, "--project-name", self._project, "--file", str(serving.folder / FILE)]
        build = "--build" if serving.generation not in self._built else "--no-build"
        self._built.add(serving.generation)
        return Project(command, build, serving, (self._host, self._port), self._service)

    def take_keys(self, keys: Sequence[str]) -> None:
        """Write the file that the container reads: its folder is closed to others than this user."""
        self._keys = list(keys)
        if self._folder is not None:
            folder = self._folder / "keys"
            folder.mkdir(exist_ok=True)
            self._folder.chmod(0o700)
            partial = folder / "partial"
            partial.write_text("".join(f"{key}\n" for key in keys))
            partial.chmod(0o444)  # the container's user is nobody here
            partial.replace(folder / "keys")

    def close(self, *, deleted: bool) -> None:
        """Take the project down, where the service is deleted; the folder stays, if it is the user's own."""
        if not deleted or self._folder is None:
            return
        if self._tool is not None:
            words = [*self._tool, "--project-name", self._project, "--file", str(self._folder / FILE), "down", "--timeout", "30"]
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                subprocess.run(words, capture_output=True, timeout=STOP_S)
        if self._folder.is_relative_to(self._machine.cache):
            shutil.rmtree(self._folder, ignore_errors=True)


class Project(Lasting):
    """A project that was brought up for one generation."""

    kind = "compose"

    def __init__(
        self, command: Sequence[str], build: str, serving: Serving, address: tuple[str, int], service: Service
    ) -> None:  # fmt: skip
        super().__init__(serving, f"{command[command.index('--project-name') + 1]}:{serving.generation}")
        self._command, self._build = list(command), build
        self._address = ({"0.0.0.0": "127.0.0.1"}.get(address[0], address[0]), address[1])  # noqa: S104
        self._service = service
        self._look_after()

    def _say(self, *words: str) -> tuple[int, str]:
        done = subprocess.run([*self._command, *words], capture_output=True, text=True, cwd="/", env=environment())
        return done.returncode, (done.stdout + done.stderr).strip()

    def _look(self) -> None:
        code, said = self._say("up", "--detach", self._build, "--remove-orphans")
        for line in said.splitlines():
            self._service.tail.add(line)
        if code != 0:
            self._ended = f"compose ended with {code}: {said.splitlines()[-1] if said else 'it said nothing'}"
            return
        until = time.monotonic() + COMING_UP_S
        while not self._done.is_set():
            state, generation = _state_of(self._say("ps", "--quiet")[1])
            if generation != str(self.generation):
                self._ended = "its container was removed" if state == "" else "another generation is being brought up"
                return
            if not self._ready.is_set() and answers(*self._address, READY, PROBE_TIMEOUT_S):
                self._ready.set()
            late = time.monotonic() > until and not self._ready.is_set()
            if state == "exited" or late or (state == "restarting" and not self._ready.is_set()):
                self._say_logs()
                self._ended = "it did not answer in time" if late else f"its container is {state}"
                return
            self._done.wait(LOOK_S)

    def _say_logs(self) -> None:
        for line in self._say("logs", "--tail", "100")[1].splitlines():
            self._service.tail.add(line)


def tool() -> list[str] | None:
    """Return the compose tool's command: docker's plugin, else the program."""
    for words in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(words[0]) is not None:
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                if subprocess.run([*words, "version"], capture_output=True, timeout=30).returncode == 0:
                    return words
    return None


def _state_of(identities: str) -> tuple[str, str]:
    """Return the state of a container, as docker has it, and the generation that it is of; empty where there is none."""
    first = identities.split()[:1]
    if not first:
        return "", ""
    words = ["docker", "inspect", "--format", '{{.State.Status}} {{index .Config.Labels "dbml.generation"}}', *first]
    done = subprocess.run(words, capture_output=True, text=True, env=environment())
    state, _, generation = done.stdout.strip().partition(" ")
    return state, generation


def _free_port(host: str) -> int:
    with socket.create_server((host, 0)) as probe:
        return int(probe.getsockname()[1])
