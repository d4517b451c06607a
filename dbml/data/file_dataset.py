"""Datasets of files, whatever is in them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from dbml.data.abstract_dataset import AbstractDataset
from dbml.data.dataset_consumption_config import DatasetConsumptionConfig
from dbml.data.definition import Source, sources
from dbml.data.rows import chosen
from dbml.exceptions import UserErrorException


class FileDataset(AbstractDataset):
    """Files of datastores, or of this machine; made by `Dataset.File.from_files`.

    The registered version keeps the bytes that files of the default datastore had when it was registered.
    """

    def _sources(self) -> list[Source]:
        found = sources(self._definition, self._workspace_or_none, self._pinned)
        for step in self._definition.steps:
            keep = chosen(step, 0, len(found))
            assert keep is not None
            found = [source for source, kept in zip(found, keep, strict=True) if kept]
        return found

    def _names(self, found: Iterable[Source]) -> dict[str, Source]:
        """Return the files by their paths below the folder that all have in common."""
        listed = list(found)
        if len(self._definition.body["paths"]) == 1 and len(listed) == 1:
            return {Path(listed[0].path).name: listed[0]}
        root = os.path.commonpath([Path("/" + one.path.lstrip("/")).parent for one in listed]) if listed else "/"
        return {os.path.relpath("/" + one.path.lstrip("/"), root): one for one in listed}

    def _only_file(self) -> str | None:
        """Return the name of its file where it is of one place and that is a file; None where it is a folder's, or several."""
        found = self._sources()
        placed = self._definition.body["paths"]
        if len(placed) != 1 or len(found) != 1:
            return None
        place = str(placed[0].get("path") or placed[0].get("local"))
        return Path(place).name if found[0].path.lstrip("/") == place.lstrip("/") else None

    def to_path(self) -> list[str]:
        """Return the paths of its files, below the folder that all have in common, each with a slash in front."""
        return ["/" + name for name in self._names(self._sources())]

    def download(self, target_path: str | os.PathLike[str] | None = None, overwrite: bool = False) -> list[str]:
        """Write its files into a folder, and return their paths there.

        target_path: a folder, a new temporary one where it is None.  overwrite: False refuses a file that is there.
        A file appears under its name when it is whole; of the default datastore, when it has the right digest too.
        """
        target = Path(target_path) if target_path is not None else Path(tempfile.mkdtemp(prefix="dbml-dataset-"))
        named = self._names(self._sources())
        for name in named:
            if (target / name).exists() and not overwrite:
                raise UserErrorException(f"{target / name} is there", hint="overwrite=True takes its place")
        for name, source in named.items():
            place = target / name
            place.parent.mkdir(parents=True, exist_ok=True)
            if source.local is not None:
                shutil.copyfile(source.local, place)
        self._fetch_stored(named, target)
        return [str(target / name) for name in named]

    def _fetch_stored(self, named: dict[str, Source], target: Path) -> None:
        """Download what is in datastores into a folder beside, and move each file to its name."""
        stored = {name: source for name, source in named.items() if source.datastore is not None and source.stored is not None}
        groups: dict[tuple[str, str | None], list[tuple[str, Source]]] = {}
        for name, source in stored.items():
            assert source.datastore is not None
            groups.setdefault((source.datastore.name, source.dataset), []).append((name, source))
        target.mkdir(parents=True, exist_ok=True)
        for (_, dataset), items in groups.items():
            with tempfile.TemporaryDirectory(prefix=".dbml-", dir=target) as beside:
                datastore = items[0][1].datastore
                assert datastore is not None
                datastore._fetch([s.stored for _, s in items if s.stored], Path(beside), True, False, dataset)
                for name, source in items:
                    assert source.stored is not None
                    (target / name).parent.mkdir(parents=True, exist_ok=True)
                    (Path(beside) / source.stored.path).replace(target / name)

    def mount(self, mount_point: str | os.PathLike[str] | None = None) -> MountContext:
        """Return a context in which its files are in a folder; here they are downloaded, and removed at the end."""
        return MountContext(self, mount_point)

    def as_mount(self, path_on_compute: str | None = None) -> DatasetConsumptionConfig:
        """Return it as a run's input, as a folder, or as its file where it is of one; here that is a download."""
        return DatasetConsumptionConfig(self._input_name(), self, "mount", path_on_compute)

    def as_download(self, path_on_compute: str | None = None) -> DatasetConsumptionConfig:
        """Return it as a run's input, as a folder with copies of its files."""
        return DatasetConsumptionConfig(self._input_name(), self, "download", path_on_compute)

    def _input_name(self) -> str:
        name = "".join(letter if letter.isalnum() else "_" for letter in self.name or "input")
        return name if name.isidentifier() else "input_" + name

    def _columns(self) -> None:
        return None


class MountContext:
    """The files of a dataset in a folder, for as long as the context lasts; `start` and `stop` do the same."""

    def __init__(self, dataset: FileDataset, mount_point: str | os.PathLike[str] | None) -> None:
        self._dataset = dataset
        self._given = Path(mount_point) if mount_point is not None else None
        self._folder: Path | None = None
        self._written: list[str] = []

    @property
    def mount_point(self) -> str:
        """Return the folder.  Raises: UserErrorException before the start."""
        if self._folder is None:
            raise UserErrorException("the dataset must be mounted for that", hint="with dataset.mount() as context: …")
        return str(self._folder)

    def start(self) -> None:
        """Write the files into the folder."""
        self._folder = self._given or Path(tempfile.mkdtemp(prefix="dbml-mount-"))
        self._written = self._dataset.download(self._folder)

    def stop(self) -> None:
        """Remove what was written."""
        if self._folder is not None and self._given is None:
            shutil.rmtree(self._folder, ignore_errors=True)
        else:
            for path in self._written:
                Path(path).unlink(missing_ok=True)
        self._folder, self._written = None, []

    def __enter__(self) -> MountContext:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()
