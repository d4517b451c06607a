"""A Docker engine, base images made from Debian's packages, and the wheels that a build without an index needs.

Where no engine answers, root's own `dockerd` is started for the session, in a folder of its own.  It makes no
bridge on the host, and no firewall rule unless an engine before it has left the host closed.  POSTGRES_IMAGE and PYTHON_IMAGE name base images to use instead.
What takes long to fetch is kept in the user's cache, so that a second run needs no network.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .stack import Checkout

ROOT = Path(__file__).parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dbml-tests"
PACKAGES = ("python3", "python3-venv", "postgresql")
# What the images have no use for, a third of their size: the cluster that Debian makes, manuals, downloads, the JIT.
SUPERFLUOUS = (
    "var/lib/postgresql/*", "var/cache/apt/*", "var/lib/apt/lists/*", "usr/share/doc/*", "usr/share/man/*",
    "usr/share/locale/*", "usr/lib/postgresql/*/lib/bitcode", "usr/lib/postgresql/*/lib/llvmjit*", "usr/lib/*/libLLVM*", "usr/lib/llvm-*",
)  # fmt: skip


def unavailable(reason: str) -> None:
    """Skip for a reason, or fail with it in CI."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason}: see .ci/run")
    pytest.skip(reason)


def command(*words: str | Path, environment: Mapping[str, str] | None = None, **options: object) -> str:
    """Run a command and return what it printed; raises AssertionError with its complaints."""
    answer = subprocess.run(words, capture_output=True, text=True, env={**os.environ, **(environment or {})}, **options)
    assert answer.returncode == 0, f"{' '.join(map(str, words))}\n{answer.stdout}\n{answer.stderr}"
    return answer.stdout.strip()


@contextmanager
def cached(name: str) -> Iterator[tuple[Path, bool]]:
    """Give a path in the cache, and whether it is there; what is not, is made beside it and moved by whoever asks."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        path = CACHE / name
        yield path, path.exists()


@dataclass(frozen=True)
class Engine:
    """A Docker engine, by its command line. own: it ends with the session, and what it holds with it."""

    environment: Mapping[str, str]
    own: bool = False

    def docker(self, *words: str | Path, **options: object) -> str:
        return command("docker", *words, environment=self.environment, **options)

    def answers(self) -> bool:
        answer = subprocess.run(["docker", "info"], capture_output=True, env={**os.environ, **self.environment})
        return answer.returncode == 0


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """The engine of this machine, else one started for the session."""
    if not shutil.which("docker"):
        unavailable("there is no docker on this machine")
    # The plain builder: what an engine without further packages has.
    found = Engine({"DOCKER_BUILDKIT": "0", "COMPOSE_DOCKER_CLI_BUILD": "0"})
    if found.answers():
        yield found
        return
    if os.getuid() != 0 or not shutil.which("dockerd"):
        unavailable("no Docker engine answers, and only root with dockerd can start one")
    folder = Path(tempfile.mkdtemp(prefix="dbml-dockerd-"))
    log, settings = folder / "log", folder / "daemon.json"
    settings.write_text("{}")  # not the machine's own
    network = ["--bridge=none"]
    if not forwarding_is_closed():
        network += ["--iptables=false", "--ip6tables=false", "--ip-forward=false"]
    found = Engine({**found.environment, "DOCKER_HOST": f"unix://{folder}/docker.sock"}, own=True)
    with log.open("w") as stream:
        process = subprocess.Popen(
            [
                "setpriv", "--pdeathsig", "TERM", "dockerd", "--host", found.environment["DOCKER_HOST"], "--data-root", folder / "data",
                "--exec-root", folder / "exec", "--pidfile", folder / "pid", "--config-file", settings, *network,
            ],
            stdout=stream, stderr=stream,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while not found.answers():
            if process.poll() is not None or time.monotonic() > deadline:
                unavailable(f"dockerd must start: {log.read_text().strip().splitlines()[-1]}")
            time.sleep(0.2)
        yield found
    finally:
        process.terminate()
        process.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


def forwarding_is_closed() -> bool:
    """Tell whether an engine that ran here before has closed the host's forwarding, so that only rules open it."""
    if not shutil.which("iptables"):
        return False
    rules = subprocess.run(["iptables", "--wait", "-S", "FORWARD"], capture_output=True, text=True)
    return "-P FORWARD DROP" in rules.stdout


@pytest.fixture(scope="session")
def debian(engine: Engine) -> Iterator[str]:
    """An image with Python and PostgreSQL, of this machine's release and from the mirror that its apt uses."""
    if os.getuid() != 0 or not shutil.which("debootstrap"):
        unavailable("only root with debootstrap can make base images")
    mirror, suite = apt_source()
    key = hashlib.sha256(repr((suite, os.uname().machine, PACKAGES, SUPERFLUOUS)).encode()).hexdigest()[:12]
    with cached(f"debian-{suite}-{key}.tar") as (archive, there):
        if not there:
            bootstrap(mirror, suite, archive)
        label = f"dbml-test={os.getpid()}"  # inherited by what is built on it
        image = engine.docker("import", "--change", f"LABEL {label}", archive, f"dbml-test-debian:{os.getpid()}").split()[-1]
    yield image
    if not engine.own:
        engine.docker("image", "prune", "--all", "--force", "--filter", f"label={label}")
        assert engine.docker("image", "ls", "--all", "--quiet", "--filter", f"label={label}") == ""


def apt_source() -> tuple[str, str]:
    """Return the mirror and the release that apt is configured with."""
    release = dict(line.partition("=")[::2] for line in Path("/etc/os-release").read_text().splitlines())
    suite = release.get("VERSION_CODENAME", "").strip('"')
    targets = command("apt-get", "indextargets", "--format", "$(SITE) $(RELEASE) $(COMPONENT)", "Created-By: Packages")
    for line in targets.splitlines():
        site, *rest = line.split()
        if rest == [suite, "main"]:
            return site, suite
    unavailable("apt must be configured with a mirror of Debian")
    raise AssertionError


def bootstrap(mirror: str, suite: str, archive: Path) -> None:
    """Make the archive of a root directory."""
    proxy = command("sh", "-c", "eval $(apt-config shell PROXY Acquire::http::Proxy); echo $PROXY")
    environment = {"http_proxy": proxy} if proxy else {}
    with tempfile.TemporaryDirectory(prefix="dbml-debian-") as folder:
        command(
            "debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", suite, folder, mirror, environment=environment
        )
        excluded = [f"--exclude=./{pattern}" for pattern in SUPERFLUOUS]
        partial = archive.with_suffix(".partial")
        command("tar", "-C", folder, "--numeric-owner", "--one-file-system", *excluded, "-cf", partial, ".")
    partial.rename(archive)


@pytest.fixture(scope="session")
def python_image(engine: Engine, request: pytest.FixtureRequest) -> str:
    """The image that the worker's is built on."""
    return os.environ.get("PYTHON_IMAGE") or request.getfixturevalue("debian")


@pytest.fixture(scope="session")
def postgres_image(engine: Engine, request: pytest.FixtureRequest) -> Iterator[str]:
    """The image of the server."""
    if given := os.environ.get("POSTGRES_IMAGE"):
        yield given
        return
    base = request.getfixturevalue("debian")
    name = f"dbml-test-postgres:{os.getpid()}"
    engine.docker("build", "--build-arg", f"BASE={base}", "--tag", name, Path(__file__).parent / "postgres")
    yield name


@pytest.fixture(scope="session")
def wheels(engine: Engine, python_image: str) -> Path:
    """Everything that the image installs, for the Python that its base has: as docs/how-to/run-with-docker.md says."""
    version = engine.docker(
        "run", "--rm", "--network", "none", python_image, "python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"
    )
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = (version, project["build-system"], project["project"]["dependencies"], project["project"]["optional-dependencies"])
    key = hashlib.sha256(repr(wanted).encode()).hexdigest()[:12]
    with cached(f"wheels-{version}-{key}") as (folder, there):
        if not there:
            partial = folder.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            pip = (sys.executable, "-m", "pip", "download", "--quiet", "--dest", partial)
            command(
                *pip,
                "--only-binary=:all:",
                "--python-version",
                version,
                ".[worker]",
                *project["build-system"]["requires"],
                cwd=ROOT,
            )
            partial.rename(folder)
    return folder


@pytest.fixture(scope="session")
def checkout(
    engine: Engine, python_image: str, postgres_image: str, wheels: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Checkout]:
    """A checkout whose image is built, without a network."""
    from .stack import CONTEXT, Checkout, find_compose

    folder = tmp_path_factory.mktemp("compose") / "dbml"
    folder.mkdir()
    for name in CONTEXT:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    shutil.copytree(wheels, folder / "wheels")
    image = f"dbml_test_{os.getpid()}"
    engine.docker("build", "--build-arg", f"PYTHON_IMAGE={python_image}", "--tag", image, folder)
    settings = {"POSTGRES_IMAGE": postgres_image, "PYTHON_IMAGE": python_image, "DBML_IMAGE": image}
    yield Checkout(engine, folder, find_compose(engine), image, settings)
    if not engine.own:
        engine.docker("image", "rm", "--force", image)
