"""What makes datasets: `Dataset.Tabular` and `Dataset.File`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from dbml import errors
from dbml.data import evaluation, paths, text_files
from dbml.data.abstract_datastore import AbstractDatastore
from dbml.data.data_reference import DataReference
from dbml.data.data_type import DataType, column_types
from dbml.data.datapath import DataPath
from dbml.data.dataset_type_definitions import FileEncoding, PromoteHeadersBehavior
from dbml.data.definition import Definition, places, sources
from dbml.data.file_dataset import FileDataset
from dbml.data.tabular_dataset import TabularDataset
from dbml.exceptions import UserErrorException

if TYPE_CHECKING:
    import pandas as pd

    from dbml.core.workspace import Workspace


class TabularDatasetFactory:
    """Makes datasets of rows; every method is static.

    path is a path of this machine, a (datastore, path), a DataPath, or a list of these; a path is a file, a folder, or a
    pattern with * and **.
    """

    @staticmethod
    def from_delimited_files(
        path: Any, validate: bool = True, include_path: bool = False, infer_column_types: bool = True,
        set_column_types: Mapping[str, DataType] | None = None, separator: str = ",",
        header: bool | PromoteHeadersBehavior = True, partition_format: str | None = None, support_multi_line: bool = False,
        empty_as_string: bool = False, encoding: str | FileEncoding = "utf8",
    ) -> TabularDataset:  # fmt: skip
        """Return the rows of delimited text files.

        The first line of each file is taken as the names of its columns, also where it is a row of numbers: that warns, and
        header=False keeps it as a row and calls the columns Column1, Column2, …
        Types are inferred from the whole of each file (int64, bool, dates and times as ISO 8601, float64, else text) unless
        set_column_types or infer_column_types=False says otherwise.  Only an empty field is missing; with empty_as_string a
        text is empty then.  include_path adds the column Path; partition_format, as '{region}/{day:yyyy/MM/dd}/*.csv', makes
        columns of a path's parts.  support_multi_line: quoted fields may have line ends.
        validate: read the files now, so that what is wrong is said at once.
        Raises: UserErrorException for a place without files; InvalidArgument for a file that cannot be read.
        """
        options = delimited_options(
            include_path=include_path, infer_column_types=infer_column_types, set_column_types=set_column_types,
            separator=separator, header=header, partition_format=partition_format, support_multi_line=support_multi_line,
            empty_as_string=empty_as_string, encoding=encoding,
        )  # fmt: skip
        return _tabular("delimited", path, validate, **options)

    @staticmethod
    def from_parquet_files(
        path: Any, validate: bool = True, include_path: bool = False, set_column_types: Mapping[str, DataType] | None = None,
        partition_format: str | None = None,
    ) -> TabularDataset:  # fmt: skip
        """Return the rows of Parquet files, with the types that they have.

        Raises: NotSupportedYet for set_column_types; else as `from_delimited_files`.
        """
        options = parquet_options(
            include_path=include_path, set_column_types=set_column_types, partition_format=partition_format
        )  # fmt: skip
        return _tabular("parquet", path, validate, **options)

    @staticmethod
    def from_json_lines_files(
        path: Any, validate: bool = True, include_path: bool = False, set_column_types: Mapping[str, DataType] | None = None,
        partition_format: str | None = None, invalid_lines: str = "error", encoding: str | FileEncoding = "utf8",
    ) -> TabularDataset:  # fmt: skip
        """Return the rows of files with a JSON object a line; objects and arrays within are structures and lists.

        invalid_lines: error, or drop.  Raises: as `from_delimited_files`.
        """
        if set_column_types:
            raise errors.NotSupportedYet("set_column_types is for delimited text, JSON has types", hint="leave it out")
        if invalid_lines not in ("error", "drop"):
            raise errors.InvalidArgument(f"invalid_lines must be error or drop, got {invalid_lines!r}")
        return _tabular(
            "json_lines", path, validate, invalid_lines=invalid_lines, encoding=_encoding(encoding),
            include_path=bool(include_path), partition_format=partition_format,
        )  # fmt: skip

    @staticmethod
    def from_sql_query(
        query: Any, validate: bool = True, set_column_types: Mapping[str, DataType] | None = None, query_timeout: int = 30,
        *, workspace: Workspace | None = None,
    ) -> TabularDataset:  # fmt: skip
        """Return the rows of a query, or of a table where it is a table's name; it runs as whoever reads it.

        query: a (datastore, query), whose datastore is the database, or the query and workspace.  query_timeout: accepted;
        `statement_timeout` holds.  validate: plan it now.
        """
        if set_column_types:
            raise errors.NotSupportedYet("set_column_types is for text, a query has types", hint="cast in the query")
        if isinstance(query, DataPath):
            query = (query.datastore, query.path_on_datastore)
        if isinstance(query, tuple):
            datastore, query = query
            if datastore.datastore_type != "database":
                raise UserErrorException(
                    f"a query must go to the database, got the datastore {datastore.name!r}", hint="ws.get_default_datastore()"
                )
            workspace = datastore.workspace
        if workspace is None:
            raise UserErrorException("a query must have a workspace", hint="from_sql_query(query, workspace=ws)")
        text = str(query).strip().rstrip("; \n\t")
        if not text:
            raise errors.InvalidArgument("a query must be given, got none")
        is_name = (len(text.split()) == 1 and "(" not in text) or text.startswith('"')
        definition = Definition("table", {"table": text}) if is_name else Definition("query", {"query": text})
        dataset = TabularDataset(definition, workspace)
        if validate:
            dataset._columns()
        return dataset

    @staticmethod
    def from_table(table: str, *, workspace: Workspace, validate: bool = True) -> TabularDataset:
        """Return the rows of a table or view, named as in SQL, in the order of its primary key where it has one."""
        dataset = TabularDataset(Definition("table", {"table": table}), workspace)
        if validate:
            dataset._columns()
        return dataset

    @staticmethod
    def register_pandas_dataframe(
        dataframe: pd.DataFrame, target: Any, name: str, description: str | None = None,
        tags: Mapping[str, str] | None = None, show_progress: bool = True, row_group_size: int | None = None,
        make_target_path_unique: bool = True,
    ) -> TabularDataset:  # fmt: skip
        """Upload a DataFrame as a Parquet file and register it, as the next version of a dataset; returns that.

        target: a datastore, a (datastore, folder), or a DataPath.  The index is left out.
        """
        dataset = TabularDatasetFactory.from_pandas_dataframe(
            dataframe, target, show_progress=show_progress, row_group_size=row_group_size,
            make_target_path_unique=make_target_path_unique,
        )  # fmt: skip
        return dataset.register(dataset._workspace, name, description=description, tags=tags, create_new_version=True)

    @staticmethod
    def from_pandas_dataframe(
        dataframe: pd.DataFrame, target: Any, *, show_progress: bool = True, row_group_size: int | None = None,
        make_target_path_unique: bool = True,
    ) -> TabularDataset:  # fmt: skip
        """Upload a DataFrame as a Parquet file, and return its rows as a dataset.

        target: as for `register_pandas_dataframe`.  Raises: UnsupportedType for a column that Parquet does not hold.
        """
        import tempfile
        from pathlib import Path

        import pyarrow as pa
        import pyarrow.parquet

        datastore, folder = _target(target)
        try:
            table = pa.Table.from_pandas(dataframe, preserve_index=False).replace_schema_metadata(None)
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
            raise errors.UnsupportedType(f"a column cannot be kept: {' '.join(str(error).split())[:300]}") from None
        within = "/".join(part for part in (folder, str(uuid4()) if make_target_path_unique else "") if part)
        with tempfile.TemporaryDirectory(prefix="dbml-frame-") as beside:
            file = Path(beside) / "part-00000.parquet"
            pa.parquet.write_table(table, file, row_group_size=row_group_size)
            datastore.upload_files([file], target_path=within, overwrite=True, show_progress=show_progress)
        return TabularDatasetFactory.from_parquet_files(
            (datastore, f"{within}/part-00000.parquet" if within else "part-00000.parquet")
        )


class FileDatasetFactory:
    """Makes datasets of files; every method is static."""

    @staticmethod
    def from_files(path: Any, validate: bool = True, partition_format: str | None = None, is_file: bool = False) -> FileDataset:
        """Return files as a dataset.

        path: as for `Dataset.Tabular`.  validate: look now whether there are any.
        Raises: UserErrorException for a place without files, and for an address of the network.
        """
        if partition_format is not None:
            raise errors.NotSupportedYet("partition_format is for rows, files have no columns", hint="Dataset.Tabular has it")
        listed, workspace = places(path)
        definition = Definition("file", {"paths": listed})
        if validate:
            sources(definition, workspace, None)
        return FileDataset(definition, workspace)

    @staticmethod
    def upload_directory(
        src_dir: str, target: Any, pattern: str | None = None, overwrite: bool = False, show_progress: bool = True
    ) -> FileDataset:
        """Upload a folder, and return its files as a dataset.

        target: a datastore, a (datastore, folder), or a DataPath.  pattern: of paths within src_dir, all where it is None.
        """
        from pathlib import Path

        datastore, folder = _target(target)
        if pattern is None:
            datastore.upload(src_dir, folder, overwrite=overwrite, show_progress=show_progress)
        else:
            root = Path(src_dir)
            found = sorted(f for f in root.rglob("*") if f.is_file() and paths.matches(pattern, f.relative_to(root).as_posix()))
            if not found:
                raise UserErrorException(f"{src_dir} has no file that fits {pattern!r}")
            datastore.upload_files(found, src_dir, folder, overwrite=overwrite, show_progress=show_progress)
        return FileDatasetFactory.from_files((datastore, folder))


def delimited_options(
    *, include_path: bool = False, infer_column_types: bool = True, set_column_types: Mapping[str, DataType] | None = None,
    separator: str = ",", header: bool | PromoteHeadersBehavior = True, partition_format: str | None = None,
    support_multi_line: bool = False, empty_as_string: bool = False, encoding: str | FileEncoding = "utf8",
) -> dict[str, Any]:  # fmt: skip
    """Return the options of delimited text as a definition keeps them; `from_delimited_files` explains them.

    Raises: InvalidArgument.
    """
    if len(separator) != 1:
        raise errors.InvalidArgument(f"separator must be one letter, got {separator!r}", hint="separator='\\t' is a tabulator")
    if isinstance(header, bool):
        header = PromoteHeadersBehavior.ALL_FILES_HAVE_SAME_HEADERS if header else PromoteHeadersBehavior.NO_HEADERS
    return {
        "separator": separator, "header": PromoteHeadersBehavior(header).name, "support_multi_line": bool(support_multi_line),
        "infer_column_types": bool(infer_column_types), "column_types": column_types(set_column_types),
        "empty_as_string": bool(empty_as_string), "encoding": _encoding(encoding), "include_path": bool(include_path),
        "partition_format": partition_format,
    }  # fmt: skip


def parquet_options(
    *, include_path: bool = False, set_column_types: Mapping[str, DataType] | None = None, partition_format: str | None = None
) -> dict[str, Any]:
    """Return the options of Parquet files as a definition keeps them.

    Raises: NotSupportedYet for set_column_types.
    """
    if set_column_types:
        raise errors.NotSupportedYet("set_column_types is for text, a Parquet file has types", hint="leave it out")
    return {"include_path": bool(include_path), "partition_format": partition_format}


def _tabular(format_: str, path: Any, validate: bool, **options: Any) -> TabularDataset:
    listed, workspace = places(path)
    definition = Definition("tabular", {"format": format_, "paths": listed, "options": options})
    dataset = TabularDataset(definition, workspace)
    found = sources(definition, workspace, None)
    if validate:
        evaluation.read_files(definition, found)
    if format_ == "delimited":
        text_files.warn_of_numbers(found[0], options, stacklevel=4)
    return dataset


def _target(target: Any) -> tuple[AbstractDatastore, str]:
    if isinstance(target, AbstractDatastore):
        return target, ""
    if isinstance(target, (DataPath, DataReference)):
        return target.datastore, target.path_on_datastore
    if isinstance(target, Sequence) and len(target) == 2 and isinstance(target[0], AbstractDatastore):
        return target[0], paths.plain(str(target[1]))
    raise UserErrorException(f"target must be a datastore or (datastore, folder), got {target!r}")


def _encoding(given: str | FileEncoding) -> str:
    name = given.name if isinstance(given, FileEncoding) else str(given).replace("-", "").replace("_", "").upper()
    if name not in FileEncoding.__members__:
        raise errors.InvalidArgument(
            f"encoding must be one of {', '.join(e.lower() for e in FileEncoding.__members__)}, got {given!r}"
        )
    return name.lower()
