"""Datasets: rows and files by name and version.

`Dataset.Tabular` and `Dataset.File` make them, `register` names them, `Dataset.get_by_name` finds them again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from dbml import errors
from dbml.data.dataset_factory import FileDatasetFactory, TabularDatasetFactory
from dbml.data.file_dataset import FileDataset
from dbml.data.tabular_dataset import TabularDataset
from dbml.exceptions import UserErrorException
from dbml.store.client import datasets

if TYPE_CHECKING:
    from dbml.core.workspace import Workspace
    from dbml.store.client.rows import Row


class Dataset:
    """Registered datasets, and what makes new ones.

    Tabular: from_delimited_files, from_parquet_files, from_json_lines_files, from_sql_query, from_table,
    register_pandas_dataframe.  File: from_files, upload_directory.
    """

    Tabular = TabularDatasetFactory
    File = FileDatasetFactory

    @staticmethod
    def get_by_name(workspace: Workspace, name: str, version: int | str = "latest") -> TabularDataset | FileDataset:
        """Return a version of a registered dataset, the newest unless one is named.

        Raises: DatasetNotFound.
        """
        if given := getattr(workspace, "_given_dataset", None):  # of a script in the worker
            return given(name if version == "latest" else f"{name}:{version}")  # type: ignore[no-any-return]
        if version != "latest" and not str(version).isdecimal():
            raise errors.InvalidArgument(f"version must be a number or 'latest', got {version!r}")
        wanted = None if version == "latest" else int(version)
        rows = workspace._connection.do_again(datasets.list_all, workspace.name, name=name, version=wanted)
        if not rows:
            said = name if wanted is None else f"{name}:{wanted}"
            raise errors.DatasetNotFound(
                f"dataset {said!r} is not in workspace {workspace.name!r}", hint="workspace.datasets lists them",
                detail={"dataset": said, "workspace": workspace.name},
            )  # fmt: skip
        return of_row(workspace, rows[0])

    @staticmethod
    def get_by_id(workspace: Workspace, id: str | int) -> TabularDataset | FileDataset:  # noqa: A002 - the SDK's name
        """Return a registered version by its id.

        Raises: DatasetNotFound.
        """
        if given := getattr(workspace, "_given_dataset", None):
            return given(str(id))  # type: ignore[no-any-return]
        rows = []
        if str(id).isdecimal():
            rows = workspace._connection.do_again(datasets.list_all, workspace.name, dataset_id=int(id))
        if not rows:
            raise errors.DatasetNotFound(
                f"dataset {id!r} is not in workspace {workspace.name!r}", hint="workspace.datasets lists them"
            )
        return of_row(workspace, rows[0])

    @staticmethod
    def get_all(workspace: Workspace) -> dict[str, TabularDataset | FileDataset]:
        """Return the newest version of every registered dataset by name."""
        rows = workspace._connection.do_again(datasets.list_all, workspace.name, is_latest=True)
        return {row["name"]: of_row(workspace, row) for row in rows}

    @staticmethod
    def get(workspace: Workspace, name: str | None = None, id: str | None = None) -> TabularDataset | FileDataset:  # noqa: A002
        """Return a registered dataset by its name or id."""
        if (name is None) == (id is None):
            raise UserErrorException("one of name and id must be given")
        return Dataset.get_by_name(workspace, name) if name is not None else Dataset.get_by_id(workspace, str(id))


def of_row(workspace: Workspace, row: Row) -> TabularDataset | FileDataset:
    """Return the dataset of a row of dbml.datasets."""
    return (FileDataset if row["kind"] == "file" else TabularDataset)._of(workspace, row)


def of_run(workspace: Workspace, run_id: UUID, direction: str = "input") -> dict[str, TabularDataset | FileDataset]:
    """Return what a run is recorded to use, or to have written (output), by its names for it; without what was deleted since."""
    found = {}
    for link in workspace._connection.do_again(datasets.of_run, run_id, direction):
        rows = workspace._connection.do_again(datasets.list_all, workspace.name, dataset_id=link["dataset_id"])
        if rows:
            found[link["name_in_run"]] = of_row(workspace, rows[0])
    return found


def link(workspace: Workspace, run_id: UUID, name: str, dataset: TabularDataset | FileDataset) -> None:
    """Record that a run uses a registered dataset, under the name that the run has for it.

    Raises: UserErrorException for one that is not registered.
    """
    workspace._connection.do(datasets.link, workspace.name, run_id, dataset._reference, name)


__all__ = ["Dataset", "FileDatasetFactory", "TabularDatasetFactory"]
