"""The target `docker`: a container a generation, by the Docker SDK, behind a port that the runner holds.

A container is read-only, runs as nobody in particular with no capability, and has the memory and processors of the service's
config.  Its own port is published on 127.0.0.1, at a number that Docker chooses; the service's port is the relay's, so that an
update loses no connection.  Keys lie in a volume of the container's own, which can be written to while it runs.

A candidate is a container without a network, at a Unix socket in a volume that the service's containers see: the one that serves
shares requests out to it, as a process does, told by a file beside its keys.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
import tarfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from dbml import errors
from dbml.serving.export.dockerfile import PORT, USER
from dbml.serving.export.folder import app_digest, write
from dbml.serving.export.plan import Plan
from dbml.serving.export.wheels import WheelsMissing, fetch_wheels
from dbml.serving.runner.contract import OPTIONS, STOP_S, Instance, Machine, NotHere, Service, Serving, Target
from dbml.serving.runner.prints import is_comparison, is_ready, moment
from dbml.serving.runner.probes import READY, answers
from dbml.serving.runner.processes import listen_at, uri_of
from dbml.serving.runner.relay import Address, Relay

if TYPE_CHECKING:
    from docker.models.containers import Container

    from docker import DockerClient

NETWORK = "dbml-services"
OWN, BESIDE = "/run/dbml", "/run/dbml-candidates"  # the container's own volume, and the service's
PROCESSES = 256
LOOK_S, PROBE_S, PROBE_TIMEOUT_S = 0.5, 0.2, 4.0
REMOVE_S = 30.0


def client() -> DockerClient:
    """Return a client of the engine that DOCKER_HOST names, else of this machine's.

    Raises: DbmlError where the Docker SDK is not installed; NotHere where no engine answers.
    """
    try:
        import docker
    except ModuleNotFoundError:
        raise errors.DbmlError("docker's SDK is not installed here", hint="pip install 'dbml[docker]'") from None
    try:
        found = docker.from_env(timeout=120)
        found.ping()
    except (docker.errors.DockerException, OSError) as error:
        raise NotHere(f"no Docker engine answers here ({_said(error)}); DOCKER_HOST says where one is") from None
    return found


def build(engine: DockerClient, plan: Plan, service: Service, machine: Machine) -> str:
    """Return the id of a plan's image: the one that is there with this very app, else a new one, built from the plan's folder.

    Raises: EnvironmentBuildFailed with what the engine or pip said.
    """
    import docker

    base = base_image(plan, machine)
    wanted = {"dbml.plan": plan.digest, "dbml.base": base, "dbml.app": app_digest()}
    for image in engine.images.list(filters={"label": [f"{name}={value}" for name, value in wanted.items()]}):
        service.say(f"image {image.short_id} is of this plan")
        return str(image.id)
    folder = write_folder(plan, service, machine)
    tag = image_tag(plan, service)
    service.say(f"building image {tag} on {base}")
    last = ""
    try:
        for line in engine.api.build(
            path=str(folder), tag=tag, buildargs={"PYTHON_IMAGE": base}, labels=wanted, rm=True, forcerm=True, decode=True
        ):
            for text in str(line.get("stream") or line.get("error") or "").splitlines():
                if text.strip():
                    service.tail.add(text)
                    last = text
            if "error" in line:
                raise errors.EnvironmentBuildFailed(f"the image cannot be built: {last.strip()}", hint=_hint(base))
        return str(engine.images.get(tag).id)
    except (docker.errors.DockerException, OSError) as error:
        raise errors.EnvironmentBuildFailed(f"the image cannot be built: {_said(error)}", hint=_hint(base)) from None


def write_folder(plan: Plan, service: Service, machine: Machine) -> Any:
    """Write the folder that the image is built from; returns it.

    Raises: EnvironmentBuildFailed where its packages are to come from wheels, and are not there.
    """
    wheels = bool(machine.find_links or machine.no_index)
    folder = write(plan, service.scratch / "image", wheels=wheels)
    if wheels:
        try:
            fetch_wheels(
                folder, plan.lock, plan.python_version, find_links=machine.find_links, no_index=machine.no_index, say=service.say
            )
        except WheelsMissing as error:
            raise errors.EnvironmentBuildFailed(str(error)) from None
    return folder


def base_image(plan: Plan, machine: Machine) -> str:
    """Return what an image is built on."""
    return machine.python_image or f"python:{'.'.join(plan.python_version.split('.')[:2])}-slim"


def image_tag(plan: Plan, service: Service) -> str:
    """Return the name of a service's image."""
    return f"{slug(service.workspace)}/{plan.dns_name}:{slug(plan.version)}"


def slug(text: str) -> str:
    """Return a text as names of images, networks and folders take it."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60] or "x"


def variables(config: Mapping[str, Any]) -> dict[str, str]:
    """Return a service's settings as the variables that the app in an image reads."""
    given = {str(name): str(value) for name, value in config.get("environment_variables", {}).items()}
    return {**given, **{f"DBML_{name.upper()}": f"{config[name]:g}" for name in OPTIONS if name in config}}


class Containers(Target):
    """Generations as containers of one engine."""

    kind = "docker"

    def __init__(self, service: Service, machine: Machine) -> None:
        self._service, self._machine = service, machine
        self._engine = client()
        self._keys: list[str] = []
        self._live: list[Running] = []
        self._labels = {
            "dbml.database": service.database, "dbml.workspace": service.workspace, "dbml.service": service.name,
        }  # fmt: skip
        self._said: Mapping[str, Any] | None = None
        which = hashlib.sha256(repr((service.database, service.created)).encode()).hexdigest()[:12]
        self._beside = f"dbml-{slug(service.workspace)}-{slug(service.name)}-{which}-candidates"

    def listen(self, host: str, port: int, former: int | None) -> None:
        """Hold the service's port."""
        held = listen_at(host, port, former)
        self.uri = uri_of(host, held.getsockname()[1])
        self._relay = Relay(held)

    def prepare(
        self, plan: Plan, generation: int, config: Mapping[str, Any], *, keyed: bool, beside: bool = False
    ) -> Serving:  # fmt: skip
        """Build the image, where it is not there."""
        engine = client()  # another thread's than the loop's
        try:
            made = build(engine, plan, self._service, self._machine)
        finally:
            engine.close()
        return Serving(generation, self._service.scratch, config, keyed, made, plan)

    def start(self, serving: Serving) -> Running:
        """Start a container, or take over the one that a runner before this one has left."""
        import docker

        try:
            left = self._left(serving)
            made = Running(left or self._run(serving), serving, self._service, left=left is not None)
        except (docker.errors.DockerException, OSError) as error:
            raise errors.ServiceError(f"the container cannot be started: {_said(error)}") from None
        self._live = [one for one in self._live if not one.is_closed] + [made]
        return made

    def start_beside(self, serving: Serving) -> tuple[Running, str]:
        """Start a container that the one that serves reaches by a socket in their volume, and nobody else does: without keys."""
        import docker

        folder = f"{BESIDE}/{serving.generation}"
        try:
            made = Running(self._run_beside(serving, folder), serving, self._service, beside=True)
        except (docker.errors.DockerException, OSError) as error:
            raise errors.ServiceError(f"the candidate's container cannot be started: {_said(error)}") from None
        self._live = [one for one in self._live if not one.is_closed] + [made]
        return made, f"{folder}/socket"

    def tell(self, said: Mapping[str, Any] | None) -> None:
        """Write the peer file of what serves."""
        self._said = said
        self._rewrite("peer.json", self._peer())

    def _left(self, serving: Serving) -> Container | None:
        """Return a container that serves this already, and remove others of the service that nobody looks after."""
        mine = {one.container.id for one in self._live if not one.is_closed}
        found = None
        for container in self._engine.containers.list(all=True, filters={"label": _filters(self._labels)}):
            if container.id in mine:
                continue
            told = container.labels
            same = told.get("dbml.started") == self._digest(serving, (OWN, BESIDE))
            if same and found is None and container.status == "running":
                found = container
                self._service.say(f"container {container.short_id} was left running")
            else:
                _remove(container)
        if found is not None:
            _put(found, OWN, self._files(keyed=serving.keyed))
        return found

    def _digest(self, serving: Serving, volumes: Sequence[str]) -> str:
        """Return what makes a container the one that is wanted; volumes: where it has them."""
        told = (
            self._service.created, serving.generation, serving.made, serving.keyed, sorted(serving.config.items(), key=str),
            *volumes,
        )  # fmt: skip
        return hashlib.sha256(repr(told).encode()).hexdigest()[:32]

    def _run(self, serving: Serving) -> Container:
        """Run a container of its own volume, which may look into that of candidates."""
        name = self._name(serving)
        own = self._engine.volumes.create(f"{name}-own", labels=self._labels).name
        volumes = {own: {"bind": OWN, "mode": "rw"}, self._volume_beside(): {"bind": BESIDE, "mode": "ro"}}
        own_variables = {"DBML_PEER": f"{OWN}/peer.json", **({"DBML_KEYS": f"{OWN}/keys"} if serving.keyed else {})}
        container = self._create(
            serving, name, own_variables, volumes, network=self._network(), ports={f"{PORT}/tcp": ("127.0.0.1", None)},
            restart_policy={"Name": "no" if serving.config.get("restart") == "never" else "unless-stopped"},
        )  # fmt: skip
        return _started(container, OWN, self._files(keyed=serving.keyed))

    def _run_beside(self, serving: Serving, folder: str) -> Container:
        """Run a candidate's container, which no network reaches."""
        volumes = {self._volume_beside(): {"bind": BESIDE, "mode": "rw"}}
        container = self._create(
            serving, self._name(serving), {"DBML_SOCKET": f"{folder}/socket"}, volumes, network_mode="none",
            restart_policy={"Name": "no"},
        )  # fmt: skip
        return _started(container, BESIDE, {folder.rpartition("/")[2]: None})

    def _name(self, serving: Serving) -> str:
        service = self._service
        return f"dbml-{slug(service.workspace)}-{slug(service.name)}-{serving.generation}-{time.time_ns() % 10**9:09d}"

    def _volume_beside(self) -> str:
        return str(self._engine.volumes.create(self._beside, labels=self._labels).name)  # the one that is there, where it is

    def _create(
        self, serving: Serving, name: str, own_variables: Mapping[str, str], volumes: Mapping[str, Any], **options: Any
    ) -> Container:  # fmt: skip
        """Make a container with the service's limits and nobody's rights, without starting it."""
        config = serving.config
        labels = {
            **self._labels, "dbml.generation": str(serving.generation),
            "dbml.started": self._digest(serving, [volume["bind"] for volume in volumes.values()]),
            "dbml.models": ",".join(model.reference for model in serving.plan.models),
        }  # fmt: skip
        limits: dict[str, Any] = {}
        if memory := float(config.get("memory_gb") or 0):
            limits |= {"mem_limit": int(memory * (1 << 30)), "memswap_limit": int(memory * (1 << 30))}
        if cpus := float(config.get("cpu_cores") or 0):
            limits["nano_cpus"] = int(cpus * 1e9)
        return self._engine.containers.create(
            serving.made, name=name, labels=labels, environment={**variables(config), **own_variables}, volumes=volumes,
            user=f"{USER}:{USER}", read_only=True, tmpfs={"/tmp": ""}, cap_drop=["ALL"],  # noqa: S108
            security_opt=["no-new-privileges:true"], pids_limit=PROCESSES, init=True,
            log_config={"Type": "json-file", "Config": {"max-size": "10m", "max-file": "2"}}, **limits, **options,
        )  # fmt: skip

    def _network(self) -> str:
        """Make the network of all services, whose containers do not reach each other."""
        import docker

        with contextlib.suppress(docker.errors.NotFound):
            return str(self._engine.networks.get(NETWORK).name)
        with contextlib.suppress(docker.errors.APIError):  # another runner was quicker
            self._engine.networks.create(
                NETWORK, driver="bridge", check_duplicate=True, options={"com.docker.network.bridge.enable_icc": "false"},
                labels={"dbml.network": "services"},
            )  # fmt: skip
        return NETWORK

    def _files(self, *, keyed: bool) -> dict[str, bytes | None]:
        """Return what is in a container's own volume."""
        return {"peer.json": self._peer(), **({"keys": self._lines_of_keys()} if keyed else {})}

    def _lines_of_keys(self) -> bytes:
        return "".join(f"{key}\n" for key in self._keys).encode()

    def _peer(self) -> bytes:
        return b"" if self._said is None else json.dumps(dict(self._said)).encode()

    def take_keys(self, keys: Sequence[str]) -> None:
        """Write them into the volumes of what runs."""
        self._keys = list(keys)
        self._rewrite("keys", self._lines_of_keys(), keyed=True)

    def _rewrite(self, name: str, content: bytes, *, keyed: bool = False) -> None:
        """Write a file into the volumes of what serves; keyed: of what asks for keys."""
        import docker

        for one in self._live:
            if not one.is_beside and (one.is_keyed or not keyed) and one.ended() is None:
                try:
                    _put(one.container, OWN, {name: content})
                except docker.errors.DockerException as error:
                    self._service.say(f"the file {name} of container {one.identity} cannot be written: {_said(error)}")

    def direct(self, instance: Instance) -> None:
        """Let the relay hand new connections to this container."""
        assert isinstance(instance, Running)
        self._relay.point(lambda: instance.address)

    @property
    def probed(self) -> Address | None:
        """Return the published port of the one that serves."""
        ready = [one for one in self._live if one.is_ready and not one.is_beside and one.ended() is None]
        return ready[-1].address if ready else None

    def close(self, *, deleted: bool) -> None:
        """Let go of the port and of the candidates' volume; the images stay."""
        import docker

        if hasattr(self, "_relay"):
            self._relay.close()
        with contextlib.suppress(docker.errors.DockerException, OSError):
            self._engine.volumes.get(self._beside).remove(force=True)
        self._engine.close()


class Running(Instance):
    """One container, which is looked at twice a second, and whose prints are read.

    beside: it is a candidate, which nobody can ask from here: what it prints says when it is ready.  left: a runner before this
    one has started it, and heard what it said.
    """

    kind = "docker"

    def __init__(
        self, container: Container, serving: Serving, service: Service, *, beside: bool = False, left: bool = False
    ) -> None:  # fmt: skip
        self.container = container
        self.generation = serving.generation
        self.is_keyed = serving.keyed
        self.is_beside = beside
        self._heard_until = datetime.now(UTC).isoformat() if left else ""
        self.is_closed = False
        self.address: Address | None = None
        self._never = serving.config.get("restart") == "never"
        self._service = service
        self._ended: str | None = None
        self._ready = threading.Event()
        self._draining = threading.Event()
        self._done = threading.Event()
        self._kill_at: float | None = None
        container.reload()
        self._started_at = container.attrs["State"]["StartedAt"]
        threading.Thread(target=self._look, daemon=True).start()
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def identity(self) -> str:
        """Return the container's short id, as docker ps has it."""
        return str(self.container.id)[:12]

    @property
    def is_ready(self) -> bool:
        """Tell whether it has answered that it is ready."""
        return self._ready.is_set()

    @property
    def is_draining(self) -> bool:
        """Tell whether it was asked to end: the relay gives it no new connections."""
        return self._draining.is_set()

    def ended(self) -> str | None:
        """Return how it ended; None while it runs."""
        if self._ended is None and self._kill_at is not None and time.monotonic() > self._kill_at:
            self.kill()
            if time.monotonic() > self._kill_at + REMOVE_S:
                self._ended = "the engine has not ended it"
        return self._ended

    def _look(self) -> None:
        import docker

        while not self._done.is_set():
            try:
                self.container.reload()
                self._ended = self._ended or self._how(self.container.attrs["State"])
                self.address = _published(self.container)
            except docker.errors.NotFound:
                self._ended = "the container was removed"
            except (docker.errors.DockerException, OSError):
                pass  # the engine comes back, and tells then
            if self._ended is not None:
                return
            if not self._ready.is_set():
                if not self.is_beside and self.address is not None and answers(*self.address, READY, PROBE_TIMEOUT_S):
                    self._ready.set()
                self._done.wait(PROBE_S)
            else:
                self._done.wait(LOOK_S)

    def _how(self, state: Mapping[str, Any]) -> str | None:
        """Return how a container ended that has, or that the engine has started again."""
        if state["Status"] in ("exited", "dead", "removing"):
            code = int(state["ExitCode"])
            memory = ", its memory was used up" if state.get("OOMKilled") else ""
            return (f"killed by signal {code - 128}" if code > 128 else f"exit code {code}") + memory
        if state["Status"] == "restarting" or state["StartedAt"] != self._started_at:
            return f"exit code {state['ExitCode']}, and the engine starts it again"
        return None

    def _read(self) -> None:
        import docker

        with contextlib.suppress(docker.errors.DockerException, OSError, ValueError):
            for line in _lines(self.container.logs(stream=True, follow=True)):
                if is_comparison(line):  # not for the tail
                    if moment(line) > self._heard_until:
                        self._service.hear(self.generation, line)
                    continue
                self._service.tail.add(line)
                if self.is_beside and is_ready(line):
                    self._ready.set()

    def stop(self, drain_s: float) -> None:
        """Ask it to end."""
        if self._kill_at is None:
            self._kill_at = time.monotonic() + drain_s + STOP_S
            self._draining.set()
            self._signal("SIGTERM")

    def kill(self) -> None:
        """Kill it."""
        self._signal("SIGKILL")

    def _signal(self, name: str) -> None:
        import docker

        with contextlib.suppress(docker.errors.DockerException, OSError):
            if self.container.attrs["State"].get("Paused"):
                self.container.unpause()
            self.container.kill(signal=name)

    def close(self) -> None:
        """Remove it, and its own volume."""
        self._done.set()
        self.is_closed = True
        _remove(self.container)


def _published(container: Container) -> Address | None:
    """Return where the app's port is published, None where it is not yet."""
    found = (container.attrs["NetworkSettings"]["Ports"] or {}).get(f"{PORT}/tcp")
    return (found[0]["HostIp"], int(found[0]["HostPort"])) if found else None


def _remove(container: Container) -> None:
    import docker

    until = time.monotonic() + REMOVE_S
    while time.monotonic() < until:
        try:
            container.remove(force=True, v=True)
        except docker.errors.NotFound:
            break
        except docker.errors.APIError:  # being removed at this moment, or being started again
            time.sleep(0.2)
            continue
        except (docker.errors.DockerException, OSError):
            return
        break
    for mount in container.attrs["Mounts"]:
        if str(mount.get("Name", "")).startswith(f"{container.name}-"):
            with contextlib.suppress(docker.errors.DockerException, OSError):
                container.client.volumes.get(mount["Name"]).remove(force=True)


def _started(container: Container, folder: str, files: Mapping[str, bytes | None]) -> Container:
    """Start a container with files in one of its volumes; nothing is left of one that does not start."""
    try:
        _put(container, folder, files)
        container.start()
    except BaseException:
        _remove(container)
        raise
    return container


def _put(container: Container, folder: str, files: Mapping[str, bytes | None]) -> None:
    """Write files for the app's user alone into a volume of a container; None: a folder."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as opened:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            # To the nanosecond: the app sees by it that the file has changed.
            member.uid, member.gid, member.mtime = USER, USER, time.time()
            if content is None:
                member.type, member.mode = tarfile.DIRTYPE, 0o700
            else:
                member.size, member.mode = len(content), 0o400
            opened.addfile(member, io.BytesIO(content or b""))
    container.put_archive(folder, archive.getvalue())


def _lines(parts: Iterator[bytes]) -> Iterator[str]:
    rest = b""
    for part in parts:
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            yield line.decode(errors="replace")
    if rest:
        yield rest.decode(errors="replace")


def _filters(labels: Mapping[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in labels.items()]


def _said(error: BaseException) -> str:
    """Return what the engine said, on one line."""
    return " ".join(str(getattr(error, "explanation", None) or error).split())[:500]


def _hint(base: str) -> str:
    return f"docker pull {base}; DBML_PYTHON_IMAGE names another one, DBML_FIND_LINKS a folder of wheels"
