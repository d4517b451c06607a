"""What every datastore can do: files up, files down, and places in it.

Which bytes go where is said here; how they get there by the subclasses, dbml.data.database_datastore and
dbml.data.file_system_datastore.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from dbml.data import paths
from dbml.data.data_reference import DataReference
from dbml.exceptions import UserErrorException
from dbml.store.client import files

if TYPE_CHECKING:
    from dbml.core.workspace import Workspace
    from dbml.store.client.rows import Row


class AbstractDatastore(ABC):
    """A place for files that belongs to a workspace; `Datastore.get` and its kind return one."""

    def __init__(self, workspace: Workspace, row: Row) -> None:
        self._workspace = workspace
        self._row = row

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, workspace={self._workspace.name!r})"

    @property
    def name(self) -> str:
        """Return the name."""
        return str(self._row["name"])

    @property
    def workspace(self) -> Workspace:
        """Return the workspace it belongs to."""
        return self._workspace

    @property
    def datastore_type(self) -> str:
        """Return its kind: database, local, s3, azure_blob or gcs."""
        return str(self._row["kind"])

    @property
    def account_name(self) -> str:
        """Return the account of a store in a cloud; empty for any other, so that programs may print it."""
        return str(self._row["options"].get("account_name", ""))

    @property
    def container_name(self) -> str:
        """Return the container, bucket or folder; of the database, the workspace."""
        return str(self._row["url"]).rpartition("://")[2] or self._workspace.name

    @property
    def description(self) -> str | None:
        """Return the sentence for people."""
        found: str | None = self._row["description"]
        return found

    @property
    def tags(self) -> dict[str, str]:
        """Return the tags."""
        return dict(self._row["tags"])

    @property
    def is_default(self) -> bool:
        """Tell whether it is the one that is taken where none is named."""
        return bool(self._row["is_default"])

    def path(self, path: str | None = None, data_reference_name: str | None = None) -> DataReference:
        """Return a file or folder in it, to be handed to a script."""
        return DataReference(self, data_reference_name, path)

    def as_mount(self) -> DataReference:
        """Return the whole of it, to be handed to a script."""
        return DataReference(self)

    def as_download(self, path_on_compute: str | None = None) -> DataReference:
        """Return the whole of it, to be handed to a script as a copy."""
        return DataReference(self, mode="download", path_on_compute=path_on_compute)

    def upload_files(
        self, files: Sequence[str | os.PathLike[str]], relative_root: str | os.PathLike[str] | None = None,
        target_path: str | None = None, overwrite: bool = False, show_progress: bool = True,
    ) -> DataReference:  # fmt: skip
        """Upload files and return the place where they are.

        A file's path there is target_path and its path from relative_root, which is the folder that all files have in
        common unless given: ['./data/a.csv', './data/b.csv'] become a.csv and b.csv.
        overwrite: False keeps a file that is there; True sends what differs: a file that is there with the same SHA-256 is
        not sent again, so that an upload that was cut off goes on where it was.
        Raises: UserErrorException for what is no file, or not under relative_root.
        """
        given = [Path(file) for file in ([files] if isinstance(files, (str, os.PathLike)) else files)]
        for file in given:
            if not file.is_file():
                raise UserErrorException(f"what is uploaded must be a file, got {str(file)!r}")
        if relative_root is None:
            root = os.path.commonpath([file.absolute().parent for file in given]) if given else ""
        else:
            root = str(Path(relative_root).absolute())
        self._upload(given, root, target_path, overwrite, show_progress)
        return DataReference(self, path_on_datastore=target_path)

    def upload(
        self, src_dir: str | os.PathLike[str], target_path: str | None = None, overwrite: bool = False,
        show_progress: bool = True,
    ) -> DataReference:  # fmt: skip
        """Upload a folder with all that is in it, and return the place where it is.

        overwrite: as for `upload_files`.  Raises: UserErrorException for what is no folder.
        """
        folder = Path(src_dir)
        if not folder.is_dir():
            raise UserErrorException(f"src_dir must be a folder, got {str(src_dir)!r}")
        found = sorted(path for path in folder.rglob("*") if path.is_file())
        self._upload(found, str(folder.absolute()), target_path, overwrite, show_progress)
        return DataReference(self, path_on_datastore=target_path)

    def _upload(self, given: Sequence[Path], root: str, target_path: str | None, overwrite: bool, show: bool) -> None:
        target = paths.plain(target_path)
        pairs: dict[str, Path] = {}
        for file in given:
            relative = os.path.relpath(file.absolute(), root or "/").replace(os.sep, "/")
            if relative.startswith("../"):
                raise UserErrorException(f"relative_root must be a folder of all files, got {root!r} for {str(file)!r}")
            stored = paths.plain("/".join(part for part in (target, relative) if part))
            if stored in pairs and pairs[stored].absolute() != file.absolute():
                raise UserErrorException(f"two files would have the path {stored!r}: {pairs[stored]} and {file}")
            pairs[stored] = file
        self._store(pairs, overwrite, show)

    def download(
        self, target_path: str | os.PathLike[str], prefix: str | None = None, overwrite: bool = False,
        show_progress: bool = True,
    ) -> int:  # fmt: skip
        """Download files into a folder, each under its path in the datastore; returns how many were written.

        prefix: the file or folder, all where it is None.  overwrite: False keeps a file that is there; True fetches what
        differs.  A file appears under its name when it is whole and has the right digest.
        """
        wanted = self._list(paths.plain(prefix))
        return self._fetch(wanted, Path(target_path), overwrite, show_progress)

    def unregister(self) -> None:
        """Forget it; the files stay where they are.

        Raises: InvalidArgument for the database itself.
        """
        self._workspace._connection.do(files.delete_datastore, self._workspace.name, self.name)

    def set_as_default(self) -> None:
        """Let it be the one that is taken where none is named."""
        self._workspace._connection.do(files.set_default, self._workspace.name, self.name)
        self._row = {**self._row, "is_default": True}

    # What a kind of datastore says for itself.

    @abstractmethod
    def _list(self, pattern: str, dataset_id: int | None = None) -> list[paths.StoredFile]:
        """Return the files that a path, folder or pattern means, by path.

        dataset_id: as that version of a dataset keeps them, where the datastore keeps versions.
        """

    @abstractmethod
    def _open(self, file: paths.StoredFile, dataset: str | None = None) -> BinaryIO:
        """Open a file for reading."""

    @abstractmethod
    def _store(self, pairs: dict[str, Path], overwrite: bool, show: bool) -> None:
        """Write files by their path in the datastore."""

    @abstractmethod
    def _fetch(
        self, wanted: Iterable[paths.StoredFile], target: Path, overwrite: bool, show: bool, dataset: str | None = None
    ) -> int:
        """Write files into a folder; returns how many were written."""
