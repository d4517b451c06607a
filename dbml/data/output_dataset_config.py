"""What a submitted script writes for a datastore: a folder for its argument, files of the datastore when it has completed.

The worker keeps the files, and registers them as a dataset where that is asked for; its run is the dataset's origin.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from dbml import errors
from dbml.core.snapshot import OUTPUTS
from dbml.data import paths
from dbml.data.definition import DATABASE, columns, require_seed, require_share
from dbml.exceptions import UserErrorException

if TYPE_CHECKING:
    from dbml.data.abstract_datastore import AbstractDatastore

PATH = "dataset/{run-id}/{output-name}"  # in the default datastore, where none is named


class OutputDatasetConfig:
    """An output of a submitted script.

    name: as which the script finds it in `Run.get_context().output_datasets`; output_0 and so on by default.
    destination: (datastore, path), where {run-id} and {output-name} stand for these; the datastore must be the workspace's
    own, workspaceblobstore.  source: the folder, relative to the script's working directory, in which the files will be;
    by default one of its own, which the script gets as its argument.
    """

    def __init__(
        self, name: str | None = None, destination: tuple[AbstractDatastore, str | None] | None = None, source: str | None = None,
    ) -> None:  # fmt: skip
        self.name = name
        self.destination = destination
        self.source = source
        self.mode = "mount"
        self._overwrite = True
        self._kind = "file"
        self._definition: dict[str, Any] = {}
        self._glob: str | None = None
        self._registration: dict[str, Any] | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r}, destination={self.destination!r}, mode={self.mode!r})"

    def _changed(self, **changes: Any) -> Self:
        changed = copy(self)
        for name, value in changes.items():
            setattr(changed, name, value)
        return changed

    def register_on_complete(
        self, name: str, description: str | None = None, tags: Mapping[str, str] | None = None
    ) -> Self:  # fmt: skip
        """Return it with a dataset: the next version of that name, registered when the script has completed."""
        return self._changed(_registration={"name": name, "description": description, "tags": dict(tags or {})})

    def as_input(self, name: str | None = None) -> Any:
        """Refuse: it is a step of a pipeline that takes another's output."""
        raise NotImplementedError(
            "there are no pipelines; output.register_on_complete(name), and Dataset.get_by_name(ws, name) is an input of the next"
        )

    def as_hdfs(self) -> Any:
        """Refuse: there is no Spark."""
        raise NotImplementedError("there is no HDFS here; as_upload keeps the files")

    def _place(self) -> str:
        """Return the path in the default datastore.

        Raises: NotImplementedError for another datastore, to which the worker has no key.
        """
        given: Any = self.destination
        if given is None:
            return PATH
        datastore, path = given if isinstance(given, tuple) else (given, None)
        if getattr(datastore, "name", None) != DATABASE:
            raise NotImplementedError(
                f"a script's output can go to the datastore {DATABASE} alone, for the worker has no key to others,"
                f" got {datastore!r};"
                " download it from there, and datastore.upload sends it on"
            )
        return paths.plain(path) or PATH

    def _asked(self, name: str) -> dict[str, Any]:
        """Return the output as dbml.submit_run has it."""
        folder = f"{OUTPUTS}/{name}" if self.source is None else os.path.normpath(self.source)
        if Path(folder).is_absolute() or folder.split("/")[0] in ("..", "."):
            raise UserErrorException(f"source must be a folder below the script's working directory, got {self.source!r}")
        dataset = None
        if self._registration is not None:
            dataset = {**self._registration, "kind": self._kind, "definition": self._definition, "glob": self._glob}
        return {"path": self._place(), "folder": folder, "overwrite": self._overwrite, "dataset": dataset}


class OutputFileDatasetConfig(OutputDatasetConfig):
    """An output whose files become files of a datastore and, where that is asked for, a dataset of files."""

    def __init__(
        self, name: str | None = None, destination: tuple[AbstractDatastore, str | None] | None = None, source: str | None = None,
        partition_format: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(name, destination, source)
        if partition_format is not None:
            raise NotImplementedError("partition_format of files is not there; read_delimited_files has it for rows")

    def as_upload(self, overwrite: bool = False, source_globs: Sequence[str] | None = None) -> Self:
        """Return it to be uploaded when the script has completed.

        overwrite: False fails the run where a file would take the place of another.
        """
        if source_globs is not None:
            raise NotImplementedError("source_globs are not there: every file of the folder is uploaded")
        return self._changed(mode="upload", _overwrite=bool(overwrite))

    def as_mount(self, disable_metadata_cache: bool = False) -> Self:
        """Return it as a folder of the datastore; here it is uploaded when the script has completed, over what is there."""
        return self._changed(mode="mount", _overwrite=True)

    def read_delimited_files(
        self, include_path: bool = False, separator: str = ",", header: Any = True, partition_format: str | None = None,
        path_glob: str | None = None, set_column_types: Mapping[str, Any] | None = None,
    ) -> OutputTabularDatasetConfig:  # fmt: skip
        """Return it as rows: the dataset that is registered reads its files as text; parameters as of from_delimited_files.

        path_glob: those of its files that have rows, as a pattern; all by default.
        """
        from dbml.data.dataset_factory import delimited_options

        options = delimited_options(
            include_path=include_path, separator=separator, header=header, partition_format=partition_format,
            set_column_types=set_column_types,
        )  # fmt: skip
        return self._as_rows({"format": "delimited", "options": options}, path_glob)

    def read_parquet_files(
        self, include_path: bool = False, partition_format: str | None = None, path_glob: str | None = None,
        set_column_types: Mapping[str, Any] | None = None,
    ) -> OutputTabularDatasetConfig:  # fmt: skip
        """Return it as rows: the dataset that is registered reads its files as Parquet."""
        from dbml.data.dataset_factory import parquet_options

        options = parquet_options(
            include_path=include_path, partition_format=partition_format, set_column_types=set_column_types
        )  # fmt: skip
        return self._as_rows({"format": "parquet", "options": options}, path_glob)

    def _as_rows(self, body: Mapping[str, Any], path_glob: str | None) -> OutputTabularDatasetConfig:
        rows = OutputTabularDatasetConfig(name=self.name, destination=self.destination, source=self.source)
        return rows._changed(
            mode=self.mode, _overwrite=self._overwrite, _kind="tabular", _definition=dict(body), _glob=path_glob,
            _registration=self._registration,
        )  # fmt: skip


class OutputTabularDatasetConfig(OutputDatasetConfig):
    """An output whose files have rows; made by `OutputFileDatasetConfig.read_delimited_files` and `read_parquet_files`."""

    def _then(self, **step: Any) -> Self:
        steps = [*self._definition.get("steps", ()), step]
        return self._changed(_definition={**self._definition, "steps": steps})

    def keep_columns(self, columns: str | Sequence[str]) -> Self:
        """Return it with these columns alone."""
        return self._then(step="keep_columns", columns=_listed(columns))

    def drop_columns(self, columns: str | Sequence[str]) -> Self:
        """Return it without these columns."""
        return self._then(step="drop_columns", columns=_listed(columns))

    def random_split(self, percentage: float, seed: int | None = None) -> tuple[Self, Self]:
        """Return two outputs: about that share (0 to 1) of the rows, and all others; one output has one of them registered."""
        seed, share = require_seed(seed), require_share("percentage", percentage)
        first, rest = (self._then(step="split", percentage=share, seed=seed, part=part) for part in ("first", "rest"))
        return first, rest


def _listed(given: str | Sequence[str]) -> list[str]:
    listed = columns(given)
    if not listed:
        raise errors.InvalidArgument("columns must be named, got none")
    return listed
