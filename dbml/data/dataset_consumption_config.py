"""How a run has a dataset: under which name, and whether its files are downloaded for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dbml import errors

if TYPE_CHECKING:
    from dbml.data.abstract_dataset import AbstractDataset


class DatasetConsumptionConfig:
    """A dataset as a run's input.

    name: as which the run finds it.  mode: direct (the dataset itself), mount or download (a folder with its files).
    """

    def __init__(self, name: str, dataset: AbstractDataset, mode: str = "direct", path_on_compute: str | None = None) -> None:
        if not name.isidentifier():
            raise errors.InvalidArgument(f"the name of an input must be a name as of a variable, got {name!r}")
        if mode not in ("direct", "mount", "download"):
            raise errors.InvalidArgument(f"mode must be direct, mount or download, got {mode!r}")
        self.name = name
        self.dataset = dataset
        self.mode = mode
        self.path_on_compute = path_on_compute

    def as_mount(self, path_on_compute: str | None = None) -> DatasetConsumptionConfig:
        """Return it as a folder; here that is a download."""
        return DatasetConsumptionConfig(self.name, self.dataset, "mount", path_on_compute)

    def as_download(self, path_on_compute: str | None = None) -> DatasetConsumptionConfig:
        """Return it as a folder with copies of its files."""
        return DatasetConsumptionConfig(self.name, self.dataset, "download", path_on_compute)

    def as_hdfs(self) -> Any:
        """Refuse: there is no Spark."""
        raise NotImplementedError("there is no HDFS here; as_download gives the files")

    def __repr__(self) -> str:
        return f"DatasetConsumptionConfig({self.name!r}, {self.dataset!r}, mode={self.mode!r})"
