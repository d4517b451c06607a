"""A path in a datastore, as a value: what datasets are made of, and what parameters of pipelines hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbml.data import paths

if TYPE_CHECKING:
    from dbml.data.abstract_datastore import AbstractDatastore


class DataPath:
    """A file, folder or pattern in a datastore."""

    def __init__(self, datastore: AbstractDatastore, path_on_datastore: str | None = None, name: str | None = None) -> None:
        self.datastore = datastore
        self.path_on_datastore = paths.plain(path_on_datastore)
        self.name = name

    def __repr__(self) -> str:
        return f"DataPath({self.datastore.name!r}, {self.path_on_datastore!r})"


class DataPathComputeBinding:
    """How a script shall have a DataPath: mode mount, download or upload."""

    def __init__(self, mode: str = "mount", path_on_compute: str | None = None, overwrite: bool = False) -> None:
        self.mode = mode
        self.path_on_compute = path_on_compute
        self.overwrite = overwrite
