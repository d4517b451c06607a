"""Snapshots: the files of a source directory as one archive, the same bytes for the same files.

What a file .amlignore in the directory names, or a .gitignore where there is none, is left out.  This module reads and
writes files; what is kept in the database is told by `dbml.core.submission`.
"""

from __future__ import annotations

import gzip
import os
import re
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO

from dbml import archives
from dbml.exceptions import SnapshotException

IGNORE_FILES = (".amlignore", ".gitignore")  # the first that is there counts
INPUTS = ".dbml-inputs"  # the folder of datasets that go along, and what tells of them
OUTPUTS = ".dbml-outputs"  # the folder of what goes to a datastore when the script has completed
MANIFEST = f"{INPUTS}/inputs.json"
ALWAYS = (".git/", "__pycache__/", ".ipynb_checkpoints/", ".azureml/", ".dbml/", f"{INPUTS}/", f"{OUTPUTS}/")
MOST_BYTES = 300 << 20  # of the files, before they are compressed
MOST_FILES = 10_000
SPOOLED = 16 << 20


class IgnoreRules:
    """Patterns as git has them: the last that fits decides, and nothing below an ignored folder comes back.

    Source: gitignore(5), "PATTERN FORMAT".
    """

    def __init__(self, lines: Iterable[str]) -> None:
        self._rules = [rule for line in lines if (rule := _rule(line)) is not None]

    @classmethod
    def of(cls, directory: Path) -> IgnoreRules:
        """Read the rules of a directory."""
        for name in IGNORE_FILES:
            if (directory / name).is_file():
                return cls([*ALWAYS, *(directory / name).read_text("utf-8", "replace").splitlines()])
        return cls(ALWAYS)

    def leave_out(self, path: str, *, is_folder: bool) -> bool:
        """Tell whether a path, relative and with /, is ignored."""
        ignored = False
        for pattern, negated, folders_only in self._rules:
            if (is_folder or not folders_only) and pattern.fullmatch(path):
                ignored = not negated
        return ignored


def _rule(line: str) -> tuple[re.Pattern[str], bool, bool] | None:
    text = re.sub(r"(?<!\\)\s+$", "", line)
    if not text or text.startswith("#"):
        return None
    negated = text.startswith("!")
    text = text.removeprefix("!")
    folders_only = text.endswith("/")
    text = text.rstrip("/")
    if not text:
        return None
    anchored = "/" in text
    body = _translate(text.lstrip("/"))
    try:
        return re.compile(body if anchored else f"(?:.*/)?{body}"), negated, folders_only
    except re.error:  # a bracket that is none matches nothing
        return None


def _translate(pattern: str) -> str:
    """Return a pattern as a regular expression."""
    parts = []
    position = 0
    while position < len(pattern):
        rest = pattern[position:]
        if rest.startswith("**/") and (position == 0 or pattern[position - 1] == "/"):
            parts.append("(?:.*/)?")
            position += 3
        elif rest == "**" and (position == 0 or pattern[position - 1] == "/"):
            parts.append(".+")
            position += 2
        elif rest[0] == "*":
            parts.append("[^/]*")
            position += len(rest) - len(rest.lstrip("*"))
        elif rest[0] == "?":
            parts.append("[^/]")
            position += 1
        elif rest[0] == "[" and (end := rest.find("]", 2)) > 0:
            inner = rest[1:end].replace("\\", "\\\\")
            parts.append(f"[{'^' + inner[1:] if inner[0] in '!^' else inner}]")
            position += end + 1
        elif rest[0] == "\\" and len(rest) > 1:
            parts.append(re.escape(rest[1]))
            position += 2
        else:
            parts.append(re.escape(rest[0]))
            position += 1
    return "".join(parts)


def files_of(directory: Path) -> Iterator[tuple[str, Path]]:
    """Yield the files of a source directory that belong to its snapshot: path in it, and where it is; sorted.

    A link to a file is that file; folders behind links are left out.
    """
    rules = IgnoreRules.of(directory)
    found = []
    for place, folders, names in os.walk(directory):
        here = Path(place)
        folders[:] = [
            name
            for name in folders
            if not (here / name).is_symlink()
            and not rules.leave_out((here / name).relative_to(directory).as_posix(), is_folder=True)
        ]
        for name in names:
            path = (here / name).relative_to(directory).as_posix()
            if (here / name).is_file() and not rules.leave_out(path, is_folder=False):
                found.append((path, here / name))
    return iter(sorted(found))


def pack(directory: str | os.PathLike[str], *, only: str | None = None, along: Mapping[str, Path] | None = None) -> IO[bytes]:
    """Return the archive of a source directory, opened at its beginning.

    only: the one file that is taken.  along: more files, by their paths in the archive.

    Raises: SnapshotException where there is no such directory, or too much in it.
    """
    root = Path(directory)
    if not root.is_dir():
        raise SnapshotException(f"source_directory must be a directory, got {str(directory)!r}")
    files = [(only, root / only)] if only is not None else list(files_of(root))
    files += (along or {}).items()
    sizes = {path: place.stat().st_size for path, place in files}
    if len(files) > MOST_FILES or sum(sizes.values()) > MOST_BYTES:
        largest = ", ".join(
            f"{path} ({size / (1 << 20):.1f} MB)" for path, size in sorted(sizes.items(), key=lambda s: -s[1])[:3]
        )
        raise SnapshotException(
            f"a snapshot can have {MOST_FILES} files of {MOST_BYTES >> 20} MB in all, {str(directory)!r} has {len(files)} of"
            f" {sum(sizes.values()) >> 20} MB",
            hint=f"name what the script does not need in {root / '.amlignore'}; the largest are {largest}",
        )
    archive: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=SPOOLED)  # noqa: SIM115 - the caller's
    # No times, owners and names of this machine: the same files are the same bytes.
    with (
        gzip.GzipFile(filename="", mode="wb", fileobj=archive, mtime=0, compresslevel=6) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for path, place in files:
            member = tarfile.TarInfo(path)
            with place.open("rb") as file:
                state = os.fstat(file.fileno())
                member.size = state.st_size
                member.mode = 0o755 if state.st_mode & 0o100 else 0o644
                tar.addfile(member, file)
    archive.seek(0)
    return archive


def unpack(archive: IO[bytes], directory: str | os.PathLike[str]) -> list[str]:
    """Unpack an archive into a directory, which is made where it is not; returns the paths of its files."""
    target = Path(directory)
    target.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=archive, mode="r:*") as tar:
        names = [member.name for member in tar if member.isfile()]
        archives.unpack(tar, target)
    return names


def copy(parts: Iterable[bytes]) -> IO[bytes]:
    """Return a file of parts, opened at its beginning."""
    copied: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=SPOOLED)  # noqa: SIM115 - the caller's
    for part in parts:
        copied.write(part)
    copied.seek(0)
    return copied
