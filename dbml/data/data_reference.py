"""A place in a datastore, as it is handed to scripts: what `datastore.path` and `upload_files` return."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbml.data import paths

if TYPE_CHECKING:
    from dbml.data.abstract_datastore import AbstractDatastore


class DataReference:
    """A file or folder of a datastore, and how a script shall have it.

    mode: mount, download or upload.  path_on_compute: where the script finds it.
    """

    def __init__(
        self, datastore: AbstractDatastore, data_reference_name: str | None = None, path_on_datastore: str | None = None,
        mode: str = "mount", path_on_compute: str | None = None, overwrite: bool = False,
    ) -> None:  # fmt: skip
        self.datastore = datastore
        self.path_on_datastore = paths.plain(path_on_datastore)
        self.data_reference_name = data_reference_name or datastore.name
        self.mode = mode
        self.path_on_compute = path_on_compute
        self.overwrite = overwrite

    def _with(self, mode: str, path_on_compute: str | None, overwrite: bool) -> DataReference:
        return DataReference(
            self.datastore,
            self.data_reference_name,
            self.path_on_datastore,
            mode,
            path_on_compute or self.path_on_compute,
            overwrite,
        )

    def as_mount(self) -> DataReference:
        """Return the reference, to be had as a folder; here that is a download."""
        return self._with("mount", None, self.overwrite)

    def as_download(self, path_on_compute: str | None = None, overwrite: bool = False) -> DataReference:
        """Return the reference, to be had as a copy."""
        return self._with("download", path_on_compute, overwrite)

    def as_upload(self, path_on_compute: str | None = None, overwrite: bool = False) -> DataReference:
        """Return the reference, to be written to when the script ends."""
        return self._with("upload", path_on_compute, overwrite)

    def path(self, path: str | None = None, data_reference_name: str | None = None) -> DataReference:
        """Return a place within this one."""
        within = "/".join(part for part in (self.path_on_datastore, paths.plain(path)) if part)
        return DataReference(self.datastore, data_reference_name or self.data_reference_name, within)

    def __str__(self) -> str:
        return f"$AZUREML_DATAREFERENCE_{self.data_reference_name}"

    def __repr__(self) -> str:
        return f"DataReference({self.datastore.name!r}, {self.path_on_datastore!r}, mode={self.mode!r})"
