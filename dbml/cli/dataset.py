"""`dbml dataset`."""

from __future__ import annotations

import json as jsons
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import uuid4

import typer

from dbml import errors
from dbml.cli import records
from dbml.cli.records import (
    DsnOption,
    JsonOption,
    OverwriteOption,
    RemoveOption,
    TagOption,
    TagsArgument,
    ToOption,
    WorkspaceOption,
)

if TYPE_CHECKING:
    from dbml.core.workspace import Workspace
    from dbml.data.file_dataset import FileDataset
    from dbml.data.tabular_dataset import TabularDataset

dataset = typer.Typer(
    no_args_is_help=True,
    help="Datasets, rows and files by name and version: list, show, register, tag, download, delete and compare them.\n\n"
    "A dataset is name (its newest version) or name:3.\n\n"
    "Example: dbml dataset register churn churn.csv --tag source=crm",
)
DatasetArgument = Annotated[str, typer.Argument(help="name or name:3.")]
SHOWN = ("name", "version", "kind", "files", "tags", "description", "created_at", "created_by")
KINDS = {".csv": "csv", ".tsv": "csv", ".txt": "csv", ".parquet": "parquet", ".jsonl": "json", ".ndjson": "json"}
FORMATS = ("csv", "parquet", "json")


def _find(ws: Workspace, reference: str) -> TabularDataset | FileDataset:
    from dbml.core.dataset import Dataset

    name, _, version = reference.rpartition(":")
    return Dataset.get_by_name(ws, name, version) if name else Dataset.get_by_name(ws, reference)


def _record(row: Any) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "dataset_id"}


@dataset.command("list")
def list_(
    name: Annotated[str | None, typer.Argument(help="The versions of this dataset alone.")] = None,
    latest: Annotated[bool, typer.Option("--latest", help="Of each dataset the newest version alone.")] = False,
    dsn: DsnOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """List the versions of datasets.

    Example: dbml dataset list --latest
    """
    from dbml.store.client import datasets

    ws = records.open_workspace(dsn, workspace)
    rows = ws._connection.do_again(datasets.list_all, ws.name, name=name, is_latest=True if latest else None)
    records.show_list(SHOWN, map(_record, rows), json=json)


@dataset.command()
def show(
    name: DatasetArgument,
    profile: Annotated[bool, typer.Option("--profile", help="Count, missing, minimum, mean … of each column too.")] = False,
    dsn: DsnOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Show all that is known of a version: its columns, where its rows come from, its tags.

    Example: dbml dataset show churn:2 --profile
    """
    found = _find(records.open_workspace(dsn, workspace), name)
    assert found._row is not None
    known = _record(found._row)
    if not json:
        known["schema"] = [f"{column['name']} {column['type']}" for column in known["schema"] or ()]
    columns = _tabular(found).profile().to_dict("records") if profile else []
    if json:
        records.show_record(known | ({"profile": columns} if profile else {}), json=True)
        return
    records.show_record(known, json=False)
    if profile:
        records.show_list([*dict.fromkeys(key for column in columns for key in column)], columns, json=False)


def _tabular(found: TabularDataset | FileDataset) -> TabularDataset:
    from dbml.data.tabular_dataset import TabularDataset

    if not isinstance(found, TabularDataset):
        raise errors.InvalidArgument(
            f"a dataset must have columns for that, {found._reference!r} is of files",
            hint=f"dbml dataset download {found._reference}",
        )
    return found


@dataset.command()
def register(
    name: Annotated[str, typer.Argument(help="The dataset.")],
    files: Annotated[list[Path] | None, typer.Argument(help="Files and folders of this machine; they are uploaded.")] = None,
    query: Annotated[str | None, typer.Option(help="A query or a table instead; it runs as whoever reads it.")] = None,
    format_: Annotated[
        str | None,
        typer.Option("--format", help="csv, parquet, json (an object a line) or files; by default what the names say."),
    ] = None,
    separator: Annotated[str, typer.Option(help="Between the columns of csv.")] = ",",
    header: Annotated[bool, typer.Option(help="Whether the first line of csv has the names of the columns.")] = True,
    tag: TagOption = None,
    description: Annotated[str | None, typer.Option(help="A sentence for people.")] = None,
    dsn: DsnOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Register files, or a query, as the next version of a dataset; prints name and version.

    A version of files keeps their bytes in the database; one of a query has the rows that there are when it is read.

    Example: dbml dataset register churn churn.csv --tag source=crm
    """
    if (query is None) == (not files):
        raise errors.InvalidArgument(
            "either files or --query must be given", hint='dbml dataset register NAME --query "SELECT …"'
        )
    ws = records.open_workspace(dsn, workspace)
    with records.quiet():
        made = _of_query(ws, query) if query is not None else _of_files(ws, files or [], format_, separator, header)
        kept = made.register(ws, name, description=description, tags=_texts(tag), create_new_version=True)
    assert kept._row is not None
    records.show_record(_record(kept._row), json=json) if json else typer.echo(kept._reference)


def _texts(tags: list[str] | None) -> dict[str, str]:
    return {name: value or "" for name, value in records.read_tags(tags).items()}


def _of_query(ws: Workspace, query: str) -> TabularDataset:
    from dbml.core.dataset import Dataset

    return Dataset.Tabular.from_sql_query(query, workspace=ws)


def _of_files(ws: Workspace, given: list[Path], wanted: str | None, separator: str, header: bool) -> TabularDataset | FileDataset:
    """Upload files into a folder of their own in the default datastore, and return them as a dataset."""
    from dbml.core.dataset import Dataset

    if missing := [path for path in given if not path.exists()]:
        raise errors.InvalidArgument(f"a file must be there to be registered, {missing[0]} is not")
    found = [file for path in given for file in (sorted(path.rglob("*")) if path.is_dir() else [path]) if file.is_file()]
    if not found:
        raise errors.InvalidArgument(f"a folder must have files to be registered, {given[0]} has none")
    kinds = {KINDS.get(file.suffix.lower(), "files") for file in found}
    kind = wanted or (kinds.pop() if len(kinds) == 1 else "files")
    if kind not in (*FORMATS, "files"):
        raise errors.InvalidArgument(f"--format must be csv, parquet, json or files, got {kind!r}")
    place = (ws.get_default_datastore(), f"datasets/{uuid4()}")
    place[0].upload_files(found, target_path=place[1], show_progress=True)
    match kind:
        case "csv":
            between = "\t" if separator == "," and all(file.suffix.lower() == ".tsv" for file in found) else separator
            return Dataset.Tabular.from_delimited_files(place, separator=between, header=header)
        case "parquet":
            return Dataset.Tabular.from_parquet_files(place)
        case "json":
            return Dataset.Tabular.from_json_lines_files(place)
    return Dataset.File.from_files(place)


@dataset.command()
def tag(
    name: DatasetArgument,
    tags: TagsArgument = None,
    remove: RemoveOption = None,
    dsn: DsnOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Set tags of a version, or remove some; prints them.

    Example: dbml dataset tag churn:2 checked=yes --remove draft
    """
    records.require_change(tags, remove)
    found = _find(records.open_workspace(dsn, workspace), name)
    kept = {key: value for key, value in found.tags.items() if key not in (remove or ())}
    records.show_tags(found.update(tags=kept | _texts(tags)).tags, json=json)


@dataset.command()
def download(
    name: DatasetArgument,
    to: ToOption = Path(),
    format_: Annotated[str, typer.Option("--format", help="Of rows: csv, parquet or json.")] = "csv",
    overwrite: OverwriteOption = False,
    dsn: DsnOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Write the files of a version, or its rows as one file, into a folder; prints their paths.

    Example: dbml dataset download churn:2 --format parquet --to data
    """
    from dbml.data.tabular_dataset import TabularDataset

    if format_ not in FORMATS:
        raise errors.InvalidArgument(f"--format must be csv, parquet or json, got {format_!r}")
    found = _find(records.open_workspace(dsn, workspace), name)
    if not isinstance(found, TabularDataset):
        records.show_paths(found.download(to, overwrite), json=json)
        return
    path = to / f"{found.name}.{'jsonl' if format_ == 'json' else format_}"
    if path.exists() and not overwrite:
        raise errors.InvalidArgument(f"a file must not be there to be written, {path} is", hint="--overwrite replaces it")
    rows = found.to_arrow()
    to.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.partial")
    try:
        _write(rows, beside, format_)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    records.show_paths([path], json=json)


def _write(rows: Any, path: Path, format_: str) -> None:
    if format_ == "parquet":
        from pyarrow import parquet

        parquet.write_table(rows, path)
    elif format_ == "csv":
        from pyarrow import csv

        csv.write_csv(rows, path)
    else:
        with path.open("w", encoding="utf-8") as file:
            for batch in rows.to_batches(max_chunksize=10_000):
                for row in batch.to_pylist():
                    file.write(jsons.dumps(row, ensure_ascii=False, default=str) + "\n")


@dataset.command()
def delete(
    name: Annotated[str, typer.Argument(help="name (its newest version) or name:3.")],
    every: Annotated[bool, typer.Option("--all", help="Every version of the name.")] = False,
    dsn: DsnOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Delete a version; the table or the query that it is of stays.

    Example: dbml dataset delete churn:1
    """
    from dbml.store.client import datasets

    found = _find(records.open_workspace(dsn, workspace), name)
    connection, place = found._workspace._connection, found._workspace.name
    if not every:
        connection.do(datasets.delete, place, found._reference)
        records.show_paths([found._reference], json=json)
        return
    gone = connection.do_again(datasets.list_all, place, name=found.name)
    found.unregister_all_versions()
    records.show_paths((f"{row['name']}:{row['version']}" for row in gone), json=json)


@dataset.command()
def compare(
    name: DatasetArgument,
    reference: Annotated[
        str | None,
        typer.Argument(help="What it is compared with: name:1, or a version of the same name; by default the one before."),
    ] = None,
    bins: Annotated[int, typer.Option(help="Bins of the population stability index.", min=2)] = 10,
    dsn: DsnOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Show how the columns of a dataset differ from an earlier one's: types, drift (psi, ks), categories.

    Example: dbml dataset compare churn:3 churn:1
    """
    ws = records.open_workspace(dsn, workspace)
    found = _tabular(_find(ws, name))
    if reference is None:
        before = int(found.version or 0) - 1
        if before < 1:
            raise errors.InvalidArgument(
                f"an earlier version must be there to be compared with, {found._reference} is the first", hint="dbml dataset list"
            )
        reference = str(before)
    other = _tabular(_find(ws, f"{found.name}:{reference}" if reference.isdecimal() else reference))
    columns = found.compare(other, bins).to_dict("records")
    records.show_list([*dict.fromkeys(key for column in columns for key in column)], columns, json=json)
