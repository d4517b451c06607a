"""Delimited text and JSON lines into rows, by pyarrow's readers.

Types are inferred from the whole of a file, not from its first lines: whole numbers (int64), booleans (true, false), dates
and times as ISO 8601, floating point, else text.  Only an empty field is missing: NA, NULL and the like are text, because a
country code may be NA.  Files whose types differ are read with the type that holds both, at last as text.
"""

from __future__ import annotations

import csv
import datetime
import io
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO, Protocol

import pyarrow as pa
import pyarrow.csv
import pyarrow.json

from dbml import errors
from dbml.data import rows
from dbml.data.dataset_type_definitions import FileEncoding

_TYPES = {
    "string": pa.string(), "long": pa.int64(), "float": pa.float64(), "bool": pa.bool_(), "datetime": pa.timestamp("us"),
}  # fmt: skip


class HeaderWarning(UserWarning):
    """The line that was taken for column names looks like data."""


class Source(Protocol):
    """A file to read: its path, for messages and for columns made of it, and its bytes."""

    @property
    def path(self) -> str:
        """Return its path."""
        ...

    def open(self) -> BinaryIO:
        """Open it for reading."""
        ...


def _content(source: Source, encoding: str) -> BinaryIO:
    """Open a file as UTF-8, without a byte order mark in front."""
    opened = source.open()
    codec = FileEncoding[encoding.upper()].value
    if codec != "utf8" or not opened.seekable():
        with opened:
            opened = io.BytesIO(opened.read().decode(codec).encode())
    if opened.read(3) != b"\xef\xbb\xbf":
        opened.seek(0)
    return opened


def read_delimited(sources: Sequence[Source], options: Mapping[str, Any]) -> rows.Rows:
    """Read delimited files one after the other.

    options: as from_delimited_files keeps them.
    Raises: InvalidArgument for a file that is empty, broken or does not fit the others.
    """
    tables: list[Any] = []
    names: list[str] | None = None
    texts: set[str] = set()
    for position, source in enumerate(sources):
        own_names = _takes_names(options["header"], position)
        table = _one(source, options, None if own_names else names, own_names, texts)
        if options["header"] == "ALL_FILES_HAVE_SAME_HEADERS" and tables and table.column_names != tables[0].column_names:
            raise errors.InvalidArgument(
                f"all files must have the same column names, {source.path} has {table.column_names} and the first"
                f" {tables[0].column_names}",
                hint="header=PromoteHeadersBehavior.COMBINE_ALL_FILES_HEADERS takes the names of all",
            )
        if names is None:
            names = table.column_names
        tables.append(table)
    clash = _clashing(tables) - texts
    if clash:  # read again, now as text
        tables = [
            _one(s, options, None if _takes_names(options["header"], n) else names, _takes_names(options["header"], n), clash)
            for n, s in enumerate(sources)
        ]
    return rows.of_table(pa.concat_tables(tables, promote_options="permissive"))


def _takes_names(header: str, position: int) -> bool:
    return header in ("ALL_FILES_HAVE_SAME_HEADERS", "COMBINE_ALL_FILES_HEADERS") or (
        header == "ONLY_FIRST_FILE_HAS_HEADERS" and position == 0
    )


def _one(source: Source, options: Mapping[str, Any], names: list[str] | None, own_names: bool, texts: set[str]) -> Any:
    """Read one file.  names: of its columns where it has none of its own, Column1 and so on where that is None."""
    lines = options["separator"] == "\n"  # a line is a value
    parse = pyarrow.csv.ParseOptions(
        delimiter=_delimiter(options),
        quote_char=False if lines else '"',
        newlines_in_values=options["support_multi_line"],
        ignore_empty_lines=True,
    )
    first = _names(source, options, own_names)
    names = first if own_names or names is None else names
    if len(names) != len(first):
        raise errors.InvalidArgument(f"{source.path} must have {len(names)} columns as the first file, got {len(first)}")
    types = {name: _TYPES[type_["type"]] for name, type_ in options["column_types"].items()}
    rows.require_columns(names, types)
    if not options["infer_column_types"]:
        types = {**dict.fromkeys(names, pa.string()), **types}
    types = {**types, **{name: pa.string() for name in texts if name in names and name not in options["column_types"]}}
    formats = [f for type_ in options["column_types"].values() for f in type_.get("formats", ())]
    try:
        table = pyarrow.csv.read_csv(
            _content(source, options["encoding"]),
            read_options=pyarrow.csv.ReadOptions(
                column_names=list(names), skip_rows_after_names=1 if own_names else 0, block_size=4 << 20
            ),
            parse_options=parse,
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=types, null_values=[""], strings_can_be_null=not options["empty_as_string"],
                quoted_strings_can_be_null=True, true_values=["true", "True", "TRUE"],
                false_values=["false", "False", "FALSE"],
                timestamp_parsers=[*formats, pyarrow.csv.ISO8601] if formats else [],
            ),
        )  # fmt: skip
    except (pa.ArrowInvalid, UnicodeError) as error:
        if own_names and ("Empty CSV file" in str(error) or _has_names_alone(source, options)):
            table = pa.table({name: pa.array([], types.get(name, pa.null())) for name in names})
        else:
            raise _bad(source, error) from None
    return with_path(table, source.path, options)


def _has_names_alone(source: Source, options: Mapping[str, Any]) -> bool:
    """Tell whether a file is one line that no line end follows, which pyarrow takes for one that is cut off."""
    with _content(source, options["encoding"]) as opened:
        return bool(opened.readline().rstrip(b"\r\n")) and not opened.read().strip()


def _delimiter(options: Mapping[str, Any]) -> str:
    """Return what stands between columns; where that is a line end, a letter that no text has: each line is one value."""
    return "\x1f" if options["separator"] == "\n" else str(options["separator"])


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:500]


def _names(source: Source, options: Mapping[str, Any], own_names: bool) -> list[str]:
    """Return the names of a file's columns: of its first line, or Column1 and so on."""
    head = ""
    try:
        with _content(source, options["encoding"]) as opened:
            for line in iter(opened.readline, b""):
                head += line.decode()
                if head.strip() and head.count('"') % 2 == 0:  # a record, which may have line ends in quotes
                    break
    except UnicodeError as error:
        raise _bad(source, error) from None
    found = next(csv.reader([head.strip("\r\n")], delimiter=_delimiter(options)), [])
    if not found:
        raise errors.InvalidArgument(f"{source.path} must have a line, got none")
    return _distinct([name.strip() for name in found]) if own_names else [f"Column{n + 1}" for n in range(len(found))]


def _bad(source: Source, error: Exception) -> errors.InvalidArgument:
    advice = None
    if "Expected" in str(error) or "straddling" in str(error):
        advice = "support_multi_line=True, where quoted fields have line ends; separator= for another than ','"
    elif isinstance(error, UnicodeError) or "UTF8" in str(error):
        advice = "encoding='iso88591', or what it is"
    return errors.InvalidArgument(f"{source.path}: {_said(error)}", hint=advice)


def _distinct(names: Sequence[str]) -> list[str]:
    """Return names of which none is empty or there twice: Column3 for an empty one, x_1 for the second x."""
    found: list[str] = []
    for position, name in enumerate(names):
        plain = wanted = name or f"Column{position + 1}"
        number = 0
        while wanted in found or (number and wanted in names):
            number += 1
            wanted = f"{plain}_{number}"
        found.append(wanted)
    return found


def warn_of_numbers(source: Source, options: Mapping[str, Any], stacklevel: int) -> None:
    """Warn (HeaderWarning) where the first line of a file is taken as column names and looks like a row of numbers."""
    if not _takes_names(options["header"], 0):
        return
    names = _names(source, options, True)
    if all(re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?(_\d+)?", name) for name in names):
        warnings.warn(
            f"the first line of {source.path} was taken as column names and looks like a row of numbers: {', '.join(names[:5])};"
            " header=False keeps it as a row",
            HeaderWarning,
            stacklevel=stacklevel,
        )


def _clashing(tables: Sequence[Any]) -> set[str]:
    """Return the columns whose types in several files have none in common."""
    found: set[str] = set()
    types: dict[str, Any] = {}
    for table in tables:
        for field in table.schema:
            if field.name not in types:
                types[field.name] = field.type
                continue
            try:
                unified = pa.unify_schemas(
                    [pa.schema([(field.name, types[field.name])]), pa.schema([field])], promote_options="permissive"
                )
                types[field.name] = unified.field(0).type
            except (pa.ArrowTypeError, pa.ArrowInvalid):
                found.add(field.name)
    return found


def read_json_lines(sources: Sequence[Source], options: Mapping[str, Any]) -> rows.Rows:
    """Read files that have a JSON object a line.

    options: invalid_lines is error or drop.  Objects and arrays within become structs and lists.
    Raises: InvalidArgument, naming the file, for what is no JSON object or does not fit together.
    """
    tables = []
    for source in sources:
        try:
            with _content(source, options["encoding"]) as opened:
                content = opened.read().decode()
        except UnicodeError as error:
            raise _bad(source, error) from None
        drop = options["invalid_lines"] == "drop"
        kept = [line for line in content.split("\n") if line.strip() and (not drop or _is_object(line))]
        try:
            table = (
                pyarrow.json.read_json(
                    io.BytesIO("\n".join(kept).encode()), parse_options=pyarrow.json.ParseOptions(newlines_in_values=False)
                )
                if kept
                else pa.table({})
            )
        except pa.ArrowInvalid as error:
            advice = "invalid_lines='drop' leaves such lines out"
            raise errors.InvalidArgument(f"{source.path}: {_said(error)}", hint=advice) from None
        tables.append(with_path(table, source.path, options))
    try:
        return rows.of_table(pa.concat_tables(tables, promote_options="permissive"))
    except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
        raise errors.InvalidArgument(f"the files must have columns of one type each: {_said(error)}") from None


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def with_path(table: Any, path: str, options: Mapping[str, Any]) -> Any:
    """Return the table with what its path says in front: the columns of partition_format, and the path itself."""
    for name, value in reversed(list(partitions(path, options.get("partition_format")).items())):
        table = table.add_column(0, name, pa.repeat(value, table.num_rows))
    if options.get("include_path"):
        table = table.add_column(0, "Path", pa.repeat(pa.scalar("/" + path.lstrip("/")), table.num_rows))
    return table


_CLOCK = {"yyyy": r"\d{4}", "MM": r"\d{2}", "dd": r"\d{2}", "HH": r"\d{2}", "mm": r"\d{2}", "ss": r"\d{2}"}


def partitions(path: str, partition_format: str | None) -> dict[str, Any]:
    """Return the columns that partition_format finds in a path, as pyarrow scalars.

    partition_format: '{region}/{day:yyyy/MM/dd}/data.csv'; it fits the end of the path.  A column with letters of a
    clock is a timestamp, another one text.
    Raises: InvalidArgument where the path does not fit.
    """
    if not partition_format:
        return {}
    pattern, kinds = "", {}
    for plain, name, clock in re.findall(r"([^{]*)(?:\{(\w+)(?::([^}]*))?\})?", partition_format):
        pattern += re.escape(plain).replace(r"\*", "[^/]*")
        if name and clock:
            kinds[name] = re.findall("|".join(_CLOCK), clock)
            pattern += f"(?P<{name}>" + re.sub("|".join(_CLOCK), lambda found: _CLOCK[found[0]], re.escape(clock)) + ")"
        elif name:
            kinds[name] = []
            pattern += f"(?P<{name}>[^/]+?)"
    found = re.search(f"(?:^|/){pattern.lstrip('/')}$", path)
    if not found:
        raise errors.InvalidArgument(f"partition_format must fit every path, got {path!r} for {partition_format!r}")
    values = {}
    for name, parts in kinds.items():
        if parts:
            digits = dict(zip(parts, re.findall(r"\d+", found[name]), strict=True))
            year, month, day, hour, minute, second = (
                int(digits.get(p, d)) for p, d in zip(_CLOCK, (1970, 1, 1, 0, 0, 0), strict=True)
            )
            values[name] = pa.scalar(datetime.datetime(year, month, day, hour, minute, second), pa.timestamp("us"))
        else:
            values[name] = pa.scalar(found[name])
    return values
