"""Azure Blob containers, under the module path that notebooks import."""

from __future__ import annotations

from dbml.data.abstract_datastore import AbstractDatastore as AbstractDatastore
from dbml.data.file_system_datastore import FileSystemDatastore


class AzureBlobDatastore(FileSystemDatastore):
    """A container of Azure Blob Storage, or a folder in one."""

    @property
    def container_name(self) -> str:
        """Return the container's name."""
        return self.url.split("://", 1)[1].split("/")[0]

    @property
    def account_name(self) -> str:
        """Return the storage account's name."""
        return str(self._row["options"].get("account_name", ""))
