"""What a dataset is made of: a table, a query or files, and the steps that its rows or files go through.

A definition is JSON, kept with a registered version, and nothing is read until rows are asked for.  Places of files are
`{"datastore": name, "path": path or pattern}`, or `{"local": path}` on the machine where it was defined.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from dbml import errors
from dbml.data import paths
from dbml.data.abstract_datastore import AbstractDatastore
from dbml.data.data_reference import DataReference
from dbml.data.datapath import DataPath
from dbml.exceptions import UserErrorException

if TYPE_CHECKING:
    from dbml.core.workspace import Workspace

DATABASE = "workspaceblobstore"


@dataclass(frozen=True)
class Definition:
    """kind: table, query, tabular or file, as in dbml.datasets.  body: what is kept, without the steps."""

    kind: str
    body: Mapping[str, Any]
    steps: tuple[Mapping[str, Any], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return it as the database keeps it."""
        return {**self.body, **({"steps": [dict(step) for step in self.steps]} if self.steps else {})}

    @classmethod
    def from_json(cls, kind: str, kept: Mapping[str, Any]) -> Definition:
        """Read what the database keeps."""
        return cls(kind, {key: value for key, value in kept.items() if key != "steps"}, tuple(kept.get("steps", ())))

    def then(self, step: Mapping[str, Any]) -> Definition:
        """Return it with one more step."""
        return replace(self, steps=(*self.steps, step))


@dataclass(frozen=True)
class Source:
    """A file to read.  dataset: the version, name:3, whose bytes are meant, or None for those that are there now."""

    path: str
    size: int
    stored: paths.StoredFile | None = None
    datastore: AbstractDatastore | None = None
    dataset: str | None = None
    local: Path | None = None

    def open(self) -> BinaryIO:
        """Open it for reading."""
        if self.local is not None:
            return self.local.open("rb")
        assert self.datastore is not None and self.stored is not None
        return self.datastore._open(self.stored, self.dataset)


def places(given: Any) -> tuple[list[dict[str, str]], Workspace | None]:
    """Return places as a definition keeps them, and the workspace of their datastores.

    given: a path, a (datastore, path), a DataPath or DataReference, or a list of these.
    Raises: UserErrorException for an address of the network, and for datastores of several workspaces.
    """
    listed = [given] if isinstance(given, (str, os.PathLike, tuple, DataPath, DataReference)) else list(given)
    if not listed:
        raise UserErrorException("a dataset must have a path at least, got none")
    found: list[dict[str, str]] = []
    workspace: Workspace | None = None
    for one in listed:
        if isinstance(one, (DataPath, DataReference)):
            one = (one.datastore, one.path_on_datastore)
        if isinstance(one, tuple):
            datastore, path = _pair(one)
            if workspace is not None and workspace != datastore.workspace:
                raise UserErrorException("the datastores of a dataset must be of one workspace")
            workspace = datastore.workspace
            found += [{"datastore": datastore.name, "path": paths.plain(str(p))} for p in path]
        else:
            found.append({"local": _local(os.fspath(one))})
    return found, workspace


def _pair(given: tuple[Any, ...]) -> tuple[AbstractDatastore, list[Any]]:
    if len(given) != 2 or not isinstance(given[0], AbstractDatastore):
        raise UserErrorException(f"a path must be a text or (datastore, path), got {given!r}")
    path = given[1]
    return given[0], list(path) if isinstance(path, (list, tuple)) else [path]


def _local(path: str) -> str:
    if path.startswith("file://"):
        path = path.removeprefix("file://")
    elif "://" in path:
        raise UserErrorException(
            f"a dataset must be of files in a datastore or of this machine, got the address {path}",
            hint="download it, then datastore.upload_files([file], target_path='data')",
        )
    return str(Path(path).expanduser().absolute())


def sources(definition: Definition, workspace: Workspace | None, pinned: tuple[int, str] | None) -> list[Source]:
    """Return the files that a definition means, in the order of its places and then by path.

    pinned: id and name:version of a registered version, which keeps the files of the default datastore.
    Raises: UserErrorException for a place without a file, or of a machine that is not this.
    """
    found: dict[tuple[str, str], Source] = {}
    for place in definition.body["paths"]:
        if "local" in place:
            these = [Source(path=str(f), size=f.stat().st_size, local=f) for f in _local_files(place["local"])]
            about = f"{place['local']}, a path of the machine where the dataset was defined"
        else:
            assert workspace is not None
            from dbml.core.datastore import Datastore

            datastore = Datastore.get(workspace, place["datastore"])
            kept = pinned if place["datastore"] == DATABASE else None
            these = [
                Source(f.path, f.size, f, datastore, kept[1] if kept else None)
                for f in datastore._list(place["path"], kept[0] if kept else None)
            ]
            about = f"{place['path']!r} in the datastore {place['datastore']}"
        if not these:
            raise UserErrorException(f"a dataset must have files, there is none at {about}")
        for source in these:
            found.setdefault((place.get("datastore", ""), source.path), source)
    return list(found.values())


def _local_files(pattern: str) -> list[Path]:
    if not paths.has_pattern(pattern):
        place = Path(pattern)
        if place.is_dir():
            return sorted(path for path in place.rglob("*") if path.is_file())
        return [place] if place.is_file() else []
    start = (
        Path(paths.fixed_part(pattern)).parent if not paths.fixed_part(pattern).endswith("/") else Path(paths.fixed_part(pattern))
    )
    return sorted(path for path in start.rglob("*") if path.is_file() and paths.matches(pattern, str(path)))


def require_seed(seed: object) -> int:
    """Return the seed, or one that is drawn now and kept with the step.

    Raises: InvalidArgument for what is no whole number.
    """
    import secrets

    if seed is None:
        return secrets.randbits(31)
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise errors.InvalidArgument(f"seed must be a whole number, got {seed!r}")
    return seed


def require_share(name: str, share: object) -> float:
    """Return a share of 0 to 1.

    Raises: InvalidArgument.
    """
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share <= 1:
        raise errors.InvalidArgument(f"{name} must be 0 to 1, got {share!r}")
    return float(share)


def require_count(count: object) -> int:
    """Return a number of rows or files.

    Raises: InvalidArgument.
    """
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise errors.InvalidArgument(f"count must be 0 or more, got {count!r}")
    return count


def columns(given: str | Sequence[str]) -> list[str]:
    """Return a list of column names, of one or several."""
    return [given] if isinstance(given, str) else [str(name) for name in given]
