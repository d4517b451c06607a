"""The target `compose`: a folder with docker-compose.yml that goes on by itself, brought up where there is a compose tool.

The folder is written where the config's `folder` says, else into the runner's cache.  An update is another `up` of the same
project, during which the service does not answer for a moment.  The project lives without its runner, and ends with the service.

A candidate is a project of its own, without a network, at a Unix socket in a folder that the service's container sees: that one
shares requests out to it, as a process does, told by a file there.  It lives without its runner too; the next one starts it anew.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from dbml.serving.export import manifests
from dbml.serving.export.dockerfile import PORT
from dbml.serving.export.folder import write
from dbml.serving.export.plan import Plan
from dbml.serving.runner.containers import BESIDE, OWN, image_tag, slug, variables
from dbml.serving.runner.contract import Machine, NotHere, Service, Serving, Target
from dbml.serving.runner.lasting import Lasting, environment, fetch, folder_of, resources_of
from dbml.serving.runner.prints import is_comparison
from dbml.serving.runner.probes import READY, answers
from dbml.serving.runner.processes import tied, uri_of, write_peer

FILE = "docker-compose.yml"
KEYS, CANDIDATES = "keys", "candidates"  # folders beside it
BESIDE_KIND = "compose-candidates"
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
        self._serves: Project | None = None
        self._following: _Following | None = None

    def listen(self, host: str, port: int, former: int | None) -> None:
        """Choose the port that is written into the file; the project that runs already has it."""
        self._port = port or former or _free_port(host)
        self._host = host
        self.uri = uri_of(host, self._port)

    def prepare(
        self, plan: Plan, generation: int, config: Mapping[str, Any], *, keyed: bool, beside: bool = False
    ) -> Serving:  # fmt: skip
        """Write the folder; a candidate's is in the cache."""
        if beside:
            folder = folder_of(self._service, self._machine, {}, f"{BESIDE_KIND}/{generation}")
        else:
            folder = folder_of(self._service, self._machine, config, "compose")
        wheels = bool(self._machine.find_links or self._machine.no_index)
        write(plan, folder, wheels=wheels, keep=() if beside else (KEYS, CANDIDATES))
        if wheels:
            fetch(folder, plan, self._machine, self._service)
        document = manifests.compose(plan, image_tag(plan, self._service), self._port, resources_of(config))
        (service,) = document["services"].values()
        service["environment"] = variables(config)
        if self._machine.python_image:
            service["build"]["args"] = {"PYTHON_IMAGE": self._machine.python_image}
        if config.get("restart") == "never":
            service["restart"] = "no"
        service["labels"] = {"dbml.generation": str(generation), "dbml.service": self._service.name}
        if beside:
            self._put_beside(service, generation)
        else:
            self._put_in_place(service, folder, keyed)
        head = f"# Made by dbml for {plan.name} version {plan.version}.\n"
        text = head + yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
        (folder / FILE).write_text(text, encoding="utf-8")
        self._service.say(f"{folder / FILE} is written")
        if self._tool is None:
            raise NotHere(f"no compose tool is here: docker compose --file {folder / FILE} up --detach --build brings it up")
        return Serving(generation, folder, config, keyed, text, plan)

    def _put_in_place(self, service: dict[str, Any], folder: Path, keyed: bool) -> None:
        """Give what serves its port, its keys and a view of candidates."""
        if self._folder is None:
            self._clear(folder)
        self._folder = folder
        (folder / CANDIDATES).mkdir(exist_ok=True)
        (folder / CANDIDATES).chmod(0o711)
        service["ports"] = [f"{self._host}:{self._port}:{PORT}"]
        service["environment"]["DBML_PEER"] = f"{BESIDE}/peer.json"
        service["volumes"] = [f"./{CANDIDATES}:{BESIDE}:ro"]
        if keyed:
            self.take_keys(self._keys)
            service["environment"]["DBML_KEYS"] = f"{OWN}/keys"
            service["volumes"].append(f"./{KEYS}:{OWN}:ro")

    def _put_beside(self, service: dict[str, Any], generation: int) -> None:
        """Give a candidate a socket that what serves sees, and nothing else that reaches it: no keys."""
        if self._folder is None:
            raise NotHere("a candidate is tried beside what serves, and that cannot be written")
        place = self._folder / CANDIDATES / str(generation)
        place.mkdir(exist_ok=True)
        self._folder.chmod(0o700)
        place.chmod(0o777)  # the container's user makes its socket there
        del service["ports"]
        service["network_mode"] = "none"
        service["environment"]["DBML_SOCKET"] = f"{BESIDE}/{generation}/socket"
        service["volumes"] = [f"{place}:{BESIDE}/{generation}"]
        service["labels"]["dbml.beside"] = self._project

    def _clear(self, folder: Path) -> None:
        """End the candidates that a runner before this one has left; what is wanted beside is started again."""
        write_peer(folder / CANDIDATES / "peer.json", None)
        left = _docker("ps", "--all", "--quiet", "--filter", f"label=dbml.beside={self._project}").split()
        if left:
            _docker("rm", "--force", *left)

    def start(self, serving: Serving) -> Project:
        """Bring it up: a generation that was up before by the image that it has."""
        assert self._tool is not None
        (serving.folder / FILE).write_text(serving.made, encoding="utf-8")
        command = [*self._tool, "--project-name", self._project, "--file", str(serving.folder / FILE)]
        build = "--build" if serving.generation not in self._built else "--no-build"
        self._built.add(serving.generation)
        self._serves = Project(command, build, serving, (self._host, self._port), self._service)
        return self._serves

    def start_beside(self, serving: Serving) -> tuple[Beside, str]:
        """Bring a candidate up."""
        assert self._tool is not None and self._folder is not None
        name = f"{self._project}-candidate-{serving.generation}"
        command = [*self._tool, "--project-name", name, "--file", str(serving.folder / FILE)]
        build = "--build" if serving.generation not in self._built else "--no-build"
        self._built.add(serving.generation)
        place = self._folder / CANDIDATES / str(serving.generation)
        return Beside(command, build, serving, place, self._service), f"{BESIDE}/{serving.generation}/socket"

    def tell(self, said: Mapping[str, Any] | None) -> None:
        """Write the peer file; where a shadow is wanted, listen to what is said of it."""
        if self._folder is not None:
            write_peer(self._folder / CANDIDATES / "peer.json", said)
        shadow = bool(said and said["shadow"])
        if self._following is not None and not shadow:
            self._following.stop()
            self._following = None
        elif self._following is None and shadow and self._serves is not None:
            self._following = _Following(lambda: self._serves, self._service)

    def take_keys(self, keys: Sequence[str]) -> None:
        """Write the file that the container reads: its folder is closed to others than this user."""
        self._keys = list(keys)
        if self._folder is not None:
            folder = self._folder / KEYS
            folder.mkdir(exist_ok=True)
            self._folder.chmod(0o700)
            partial = folder / "partial"
            partial.write_text("".join(f"{key}\n" for key in keys))
            partial.chmod(0o444)  # the container's user is nobody here
            partial.replace(folder / "keys")

    def close(self, *, deleted: bool) -> None:
        """Take the project down, where the service is deleted; the folder stays, if it is the user's own."""
        if self._following is not None:
            self._following.stop()
        if not deleted or self._folder is None:
            return
        if self._tool is not None:
            words = [*self._tool, "--project-name", self._project, "--file", str(self._folder / FILE), "down", "--timeout", "30"]
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                subprocess.run(words, capture_output=True, timeout=STOP_S)
        if self._folder.is_relative_to(self._machine.cache):
            shutil.rmtree(self._folder, ignore_errors=True)
        of_candidates = f"targets/{BESIDE_KIND}/*/{slug(self._service.workspace)}/{slug(self._service.name)}"
        for folder in self._machine.cache.glob(of_candidates):
            shutil.rmtree(folder, ignore_errors=True)


class Project(Lasting):
    """A project that was brought up for one generation."""

    kind = "compose"

    def __init__(
        self, command: Sequence[str], build: str, serving: Serving, address: tuple[str, int], service: Service
    ) -> None:  # fmt: skip
        super().__init__(serving, f"{command[command.index('--project-name') + 1]}:{serving.generation}")
        self._command, self._build, self._folder = list(command), build, serving.folder
        self._address = ({"0.0.0.0": "127.0.0.1"}.get(address[0], address[0]), address[1])  # noqa: S104
        self._service = service
        self._look_after()

    def _say(self, *words: str) -> tuple[int, str]:
        done = subprocess.run([*self._command, *words], capture_output=True, text=True, cwd="/", env=environment())
        return done.returncode, (done.stdout + done.stderr).strip()

    def _look(self) -> None:
        self._ended = self._live()

    def _live(self) -> str | None:
        """Bring it up and look at it until it is to leave; returns how it ended, if it did."""
        code, said = self._say("up", "--detach", self._build, "--remove-orphans")
        for line in said.splitlines():
            self._service.tail.add(line)
        if code != 0:
            return f"compose ended with {code}: {said.splitlines()[-1] if said else 'it said nothing'}"
        until = time.monotonic() + COMING_UP_S
        while not self._done.is_set():
            found = _state_of(self.container())
            if found.generation != str(self.generation):
                return "its container was removed" if found.state == "" else "another generation is being brought up"
            if not self._ready.is_set() and self._answers(found):
                self._ready.set()
            late = time.monotonic() > until and not self._ready.is_set()
            if found.state == "exited" or late or (found.state == "restarting" and not self._ready.is_set()):
                self._say_logs()
                return "it did not answer in time" if late else f"its container is {found.state}"
            self._done.wait(LOOK_S)
        return self._ended

    def container(self) -> str:
        """Return the id of its container, empty where there is none."""
        return next(iter(self._say("ps", "--quiet")[1].split()), "")

    def _answers(self, found: _State) -> bool:
        return answers(*self._address, READY, PROBE_TIMEOUT_S)

    def _say_logs(self) -> None:
        for line in self._say("logs", "--tail", "100")[1].splitlines():
            self._service.tail.add(line)


class Beside(Project):
    """A candidate's project, which nobody asks from here: its health says when it is ready.  It is taken down when it leaves.

    place: the folder of its socket, which goes with it.
    """

    def __init__(self, command: Sequence[str], build: str, serving: Serving, place: Path, service: Service) -> None:
        self._place = place
        super().__init__(command, build, serving, ("", 0), service)

    def _look(self) -> None:
        how = self._live()
        self._say("down", "--timeout", "10")
        if self._done.is_set():
            for folder in (self._folder, self._place):
                shutil.rmtree(folder, ignore_errors=True)
        self._ended = how or "it is a candidate no more"

    def _answers(self, found: _State) -> bool:
        return found.health == "healthy"

    def stop(self, drain_s: float) -> None:
        """Have it taken down."""
        self._done.set()


class _Following:
    """Hears of comparisons from what serves, as long as there is a shadow.  serves: the project that does."""

    def __init__(self, serves: Callable[[], Project | None], service: Service) -> None:
        self._serves, self._service = serves, service
        self._process: subprocess.Popen[str] | None = None
        self._stopping = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while not self._stopping.is_set():
            project = self._serves()
            container = project.container() if project is not None else ""
            if project is not None and container:
                self._read(project.generation, container)
            self._stopping.wait(LOOK_S)

    def _read(self, generation: int, container: str) -> None:
        with subprocess.Popen(
            tied(["docker", "logs", "--follow", "--tail", "0", container]), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace", env=environment(),
        ) as self._process:  # fmt: skip
            if self._stopping.is_set():
                self._process.terminate()
            assert self._process.stdout is not None
            for line in self._process.stdout:
                if is_comparison(line):
                    self._service.hear(generation, line)

    def stop(self) -> None:
        """Hear no more."""
        self._stopping.set()
        if self._process is not None:
            self._process.terminate()


def tool() -> list[str] | None:
    """Return the compose tool's command: docker's plugin, else the program."""
    for words in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(words[0]) is not None:
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                if subprocess.run([*words, "version"], capture_output=True, timeout=30).returncode == 0:
                    return words
    return None


class _State(NamedTuple):
    """A container's state and health, as docker has them, and the generation that it is of; empty where there is none."""

    state: str = ""
    health: str = ""
    generation: str = ""


def _state_of(container: str) -> _State:
    if not container:
        return _State()
    health = "{{if .State.Health}}{{.State.Health.Status}}{{end}}"
    wanted = f'{{{{.State.Status}}}}\t{health}\t{{{{index .Config.Labels "dbml.generation"}}}}'
    said = _docker("inspect", "--format", wanted, container)
    return _State(*said.split("\t")) if said else _State()


def _docker(*words: str) -> str:
    return subprocess.run(["docker", *words], capture_output=True, text=True, env=environment()).stdout.strip()


def _free_port(host: str) -> int:
    with socket.create_server((host, 0)) as probe:
        return int(probe.getsockname()[1])
