"""uv, the program that resolves and installs, as a process of its own.

It runs beside the worker's own processes, not in the sandbox, so it never builds a source distribution: that would
run the distribution's code.  Indexes come from uv's own configuration or from pip's; the worker names none.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dbml import errors
from dbml.worker.spawn import spawn

log = logging.getLogger("dbml.environments")

LONGEST_LINE = 1 << 20
_PROGRESS = re.compile(r"^\s*(Resolved|Downloading|Downloaded|Prepared|Installed|warning:)")
_PASSED = re.compile(r"^(UV_.*|.*_PROXY|.*_proxy|SSL_CERT_(FILE|DIR)|NETRC|HOME|PATH|LANG|LC_.*|XDG_CONFIG_.*|XDG_DATA_.*)$")
_INDEXES = re.compile(r"^UV_(DEFAULT_INDEX|INDEX|INDEX_URL|EXTRA_INDEX_URL|FIND_LINKS|NO_INDEX|CONFIG_FILE)$")
# pip's settings, and what uv calls them.
_OF_PIP = {
    "index-url": "UV_DEFAULT_INDEX", "extra-index-url": "UV_INDEX", "find-links": "UV_FIND_LINKS", "cert": "SSL_CERT_FILE",
}  # fmt: skip
_PIP_LINE = re.compile(r"^(?:global|install|download|:env:)\.(?P<key>[a-z-]+)='(?P<value>.*)'$")


class UvFailed(Exception):
    """uv ended with an error; the text is all that it said."""


@dataclass(frozen=True)
class Uv:
    """How uv is run.

    directory: of the caches, the environments' own; files are shared between them by hard links.
    find_links: directories of wheels; no_index: look nowhere else.
    """

    directory: Path
    find_links: tuple[str, ...] = ()
    no_index: bool = False

    def sources(self) -> list[str]:
        """Return the arguments that say where packages come from."""
        given = [part for link in self.find_links for part in ("--find-links", link)]
        return given + (["--no-index"] if self.no_index else []) + ["--only-binary", ":all:"]

    async def run(
        self, arguments: Sequence[str], cwd: str | Path, say: Callable[[str], None] | None = None, *, sources: bool = False
    ) -> str:
        """Run uv to its end and return its standard output; say is called with what it tells of its progress.

        Cancelled, it is killed with all that it started.
        Raises: UvFailed; errors.EnvironmentBuildFailed where there is no uv.
        """
        given = [*arguments, *(self.sources() if sources else [])]
        environment = await self._environment(sources)
        process = await spawn(
            _binary(), *given, "--no-python-downloads", "--color", "never",
            cwd=cwd, env=environment, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE, start_new_session=True, limit=LONGEST_LINE, tied=True,
        )  # fmt: skip
        assert process.stdout is not None and process.stderr is not None
        lines: list[str] = []
        try:
            output, _ = await asyncio.gather(process.stdout.read(), _listen(process.stderr, lines, say))
            status = await process.wait()
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await asyncio.shield(process.wait())
        if status != 0:
            log.info("uv %s: %s", arguments[0], " / ".join(lines))
            ended = f"uv was killed by signal {-status}" if status < 0 else f"uv ended with exit code {status}"
            raise UvFailed(ended if status < 0 or not lines else "\n".join(lines))
        return output.decode()

    async def _environment(self, sources: bool) -> dict[str, str]:
        """Return uv's environment: its own settings and how to reach the network, nothing of the database's."""
        passed = {key: value for key, value in os.environ.items() if _PASSED.match(key)}
        if sources and not self.no_index and not _configured():
            passed = {**await _settings_of_pip(), **passed}
        return {**passed, "UV_CACHE_DIR": str(self.directory / "uv"), "UV_NO_PROGRESS": "1", "TMPDIR": tempfile.gettempdir()}


async def _listen(stream: asyncio.StreamReader, lines: list[str], say: Callable[[str], None] | None) -> None:
    async for raw in stream:
        line = raw.decode("utf-8", "replace").rstrip()
        lines.append(line)
        if say is not None and _PROGRESS.match(line):
            say(line.strip())


def _binary() -> str:
    try:
        import uv
    except ModuleNotFoundError:
        raise errors.EnvironmentBuildFailed("environments need uv", hint="pip install 'dbml[worker]' on the worker") from None
    return os.fspath(uv.find_uv_bin())


def _configured() -> bool:
    """Tell whether uv has a configuration of its own."""
    home = Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser()
    files = (home / "uv" / "uv.toml", Path("/etc/uv/uv.toml"))
    return any(_INDEXES.match(key) for key in os.environ) or any(file.is_file() for file in files)


async def _settings_of_pip() -> dict[str, str]:
    """Return pip's indexes as uv's variables: who has told pip where packages are has told enough."""
    process = await spawn(
        sys.executable, "-m", "pip", "config", "list",
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    return read_pip_settings(output.decode("utf-8", "replace"))


def read_pip_settings(listed: str) -> dict[str, str]:
    """Return what `pip config list` printed, as uv's variables; pip's own environment variables come first."""
    found: dict[str, str] = {}
    lines = listed.splitlines()
    for line in sorted(lines, key=lambda line: line.startswith(":env:")):
        match = _PIP_LINE.match(line)
        if match and match["key"] in _OF_PIP:
            several = match["value"].replace("\\n", " ").split()
            found[_OF_PIP[match["key"]]] = ("," if match["key"] == "find-links" else " ").join(several)
        elif match and match["key"] == "no-index" and match["value"].lower() in ("1", "true", "yes"):
            found["UV_NO_INDEX"] = "1"
    if "UV_INDEX" in found:
        found["UV_INDEX_STRATEGY"] = "unsafe-best-match"  # who configured pip expects what pip does: the best of all indexes
    return found
