"""`dbml run`."""

from __future__ import annotations

import json
import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import psycopg
import typer
from psycopg import sql
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from dbml import errors
from dbml.cli.output import DsnOption, console, print_table, stderr
from dbml.dsn import find_dsn

if TYPE_CHECKING:
    import pyarrow as pa

Columns = list[dict[str, str]]

LANGUAGES = {".py": "python", ".r": "r"}
POLL_S = 0.5
ROWS_AT_ONCE = 10_000
NAMED = re.compile(r"\s*([^\W\d]\w*)\s*=\s*(.+)", re.DOTALL)


def run(
    script: Annotated[Path, typer.Argument(help="The script: .py or .R; - reads it from standard input.", allow_dash=True)],
    dsn: DsnOption = None,
    input_: Annotated[
        list[str] | None,
        typer.Option(
            "--input", "-i", help="A query whose rows the script gets as InputDataSet, or name=query; may be given again."
        ),
    ] = None,
    param: Annotated[
        list[str] | None,
        typer.Option("--param", "-p", help="name=value, a variable of the script: JSON, else text; may be given again."),
    ] = None,
    param_file: Annotated[
        Path | None,
        typer.Option(help="A JSON file with an object of parameters; - reads it from standard input.", allow_dash=True),
    ] = None,
    secret: Annotated[
        list[str] | None,
        typer.Option(
            help="name=value or, out of the process list, name=@VARIABLE of the environment: a parameter that is neither"
            " recorded nor logged; may be given again."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write the result to a file: .csv, .parquet, or .json with a row a line."),
    ] = None,
    format_: Annotated[
        str | None,
        typer.Option(
            "--format",
            "-f",
            help="table, csv, parquet or json; by default what the name of --output says, else table.  Without --output it is"
            " printed, all of it but for a table.",
        ),
    ] = None,
    limit: Annotated[int, typer.Option(help="Rows that are printed.", min=0)] = 50,
    language: Annotated[str | None, typer.Option(help="python or r; by default what the file's name says.")] = None,
    partition_by: Annotated[
        list[str] | None, typer.Option(help="Run it once a group of this column; may be given again.")
    ] = None,
    order_by: Annotated[list[str] | None, typer.Option(help="Order the rows: column, or 'column desc'.")] = None,
    rows_per_read: Annotated[int | None, typer.Option(help="Run it once for each so many rows.")] = None,
    parallel: Annotated[int, typer.Option(help="Processes that share the work.")] = 1,
    environment: Annotated[str | None, typer.Option(help="The environment that it runs in.")] = None,
    pool: Annotated[str | None, typer.Option(help="The resource pool that it runs in.")] = None,
    timeout: Annotated[str | None, typer.Option(help="Stop it after so long: '30 s', '5 min'.")] = None,
    workspace: Annotated[str | None, typer.Option(help="The workspace that keeps the run.")] = None,
    experiment: Annotated[str | None, typer.Option(help="The experiment that the run belongs to.")] = None,
) -> None:
    """Run a script file next to the data, with its prints as they come and its result as a table or a file.

    The result is kept with the run too: dbml.run_output(run_id, 'OutputDataSet') reads it again.

    Example: dbml run train.py --input "SELECT * FROM measurements" --param alpha=0.5 --output scores.parquet
    """
    if str(script) == "-" and str(param_file) == "-":
        raise errors.InvalidArgument("the script and its parameters must not both come from standard input")
    wanted = _format(format_, output)
    text, spoken = _read(script, language)
    given = {
        "script": text, "input_query": None, "inputs": json.dumps(_inputs(input_ or [])),
        "params": json.dumps(_all_params(param or [], param_file, secret or [])), "language": spoken,
        "input_name": "InputDataSet", "output_name": "OutputDataSet", "partition_by": partition_by, "order_by": order_by,
        "rows_per_read": rows_per_read, "parallel": parallel, "environment": environment, "pool": pool,
        "timeout": timeout, "workspace": workspace, "experiment": experiment,
    }  # fmt: skip
    found = find_dsn(dsn)
    with psycopg.connect(found, autocommit=True, client_encoding="utf8", application_name="dbml run") as connection:
        with _watched(found, connection) as progress:
            connection.add_notice_handler(lambda diag: _print(progress, diag.message_primary or ""))
            run_id = _call(connection, given)
        shown = _show(connection, run_id, wanted, output, limit)
    stderr.print(f"run {run_id}: {shown}", style="dim", markup=False)


def _format(given: str | None, output: Path | None) -> str:
    if given is not None and given not in ("table", *WRITERS):
        raise errors.InvalidArgument(f"--format must be table, {', '.join(WRITERS)}, got {given!r}")
    if output is None:
        return given or "table"
    if not output.parent.is_dir():
        raise errors.InvalidArgument(f"--output must be in a folder that is there, got {output}")
    wanted = given or output.suffix.lower().removeprefix(".")
    if wanted not in WRITERS:
        raise errors.InvalidArgument(
            f"--output must end in {', '.join(f'.{name}' for name in WRITERS)}, got {output.name!r}",
            hint="--format csv writes a file of any name",
        )
    return wanted


def _read(script: Path, language: str | None) -> tuple[str, str]:
    if str(script) == "-":
        return sys.stdin.read(), language or "python"
    spoken = language or LANGUAGES.get(script.suffix.lower())
    if spoken is None:
        raise errors.InvalidArgument(
            f"a script must end in .py or .R, got {script.name!r}",
            hint=f"--language says what it is; a command comes first: dbml run {script.name} …, and dbml run --help lists them",
        )
    try:
        return script.read_text("utf-8"), spoken
    except OSError as error:
        raise errors.InvalidArgument(f"a script must be a file that can be read, got {script}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise errors.InvalidArgument(f"a script must be text in UTF-8, {script} is not") from None


def _inputs(given: list[str]) -> dict[str, str]:
    inputs: dict[str, str] = {}
    for text in given:
        named = NAMED.fullmatch(text)
        name, query = (named[1], named[2]) if named else ("InputDataSet", text)
        if name in inputs:
            raise errors.InvalidArgument(f"the input {name!r} is given twice", hint="--input name=query names a second one")
        inputs[name] = query
    return inputs


def _params(given: list[str]) -> dict[str, Any]:
    params = {}
    for text in given:
        named = NAMED.fullmatch(text)
        if named is None:
            raise errors.InvalidArgument(f"--param must be name=value, got {text!r}")
        try:
            params[named[1]] = json.loads(named[2])
        except ValueError:
            params[named[1]] = named[2]
    return params


def _all_params(given: list[str], file: Path | None, secrets: list[str]) -> dict[str, Any]:
    """Return the parameters of a file, of the command line, and those that are secret, marked as such."""
    params = {} if file is None else _read_params(file)
    named = _params(given)
    hidden: dict[str, Any] = {}
    for text in secrets:
        found = NAMED.fullmatch(text)
        if found is None:
            raise errors.InvalidArgument(
                "--secret must be name=value or name=@VARIABLE",
                hint='PASSWORD=... dbml run script.py --secret "password=@PASSWORD"',
            )
        name, value = found[1], found[2]
        if value.startswith("@"):
            variable = value[1:]
            if variable not in os.environ:
                raise errors.InvalidArgument(f"the environment has no variable {variable}, which --secret {name} names")
            value = os.environ[variable]
        hidden[name] = {"$secret": value}
    for first, second in ((params, named), (params, hidden), (named, hidden)):
        if twice := sorted(first.keys() & second.keys()):
            raise errors.InvalidArgument(f"the parameter {twice[0]!r} is given twice")
    return params | named | hidden


def _read_params(file: Path) -> dict[str, Any]:
    text = sys.stdin.read() if str(file) == "-" else file.read_text("utf-8")
    try:
        params = json.loads(text)
    except ValueError as error:
        raise errors.InvalidArgument(f"--param-file must be JSON, {file} is not: {error}") from None
    if not isinstance(params, dict):
        raise errors.InvalidArgument(f"--param-file must be a JSON object, got {type(params).__name__}")
    return params


def _call(connection: psycopg.Connection[Any], given: dict[str, Any]) -> Any:
    row = connection.execute(
        "select dbml_channel.keep_script(%(script)s, %(input_query)s, %(inputs)s::jsonb, %(params)s::jsonb, %(language)s,"
        " %(input_name)s, %(output_name)s, %(partition_by)s::text[], %(order_by)s::text[], %(rows_per_read)s::integer,"
        " %(parallel)s::integer, %(environment)s, %(pool)s, %(timeout)s::interval, %(workspace)s, %(experiment)s)",
        given,
    ).fetchone()
    assert row is not None
    return row[0]


@contextmanager
def _watched(dsn: str, connection: psycopg.Connection[Any]) -> Iterator[Progress]:
    """Show how far the script is, on a terminal, as another connection sees it."""
    progress = Progress(
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=stderr, transient=True,
        disable=not stderr.is_terminal,
    )  # fmt: skip
    task = progress.add_task("starting", total=None)
    over = threading.Event()
    backend = connection.info.backend_pid

    def watch() -> None:
        try:
            with psycopg.connect(dsn, autocommit=True, application_name="dbml run progress") as watching:
                while not over.wait(POLL_S):
                    row = watching.execute(
                        "select status, rows_in, rows_out, progress_done, progress_total, memory_mb"
                        " from dbml.active_scripts where backend_pid = %s",
                        (backend,),
                    ).fetchone()
                    if row is not None:
                        status, rows_in, rows_out, done, total, memory = row
                        text = f"{status}, {rows_in:,} rows in, {rows_out:,} out" + (f", {memory:.0f} MB" if memory else "")
                        progress.update(task, description=text, completed=done or 0, total=total)
        except psycopg.Error:
            return  # a bar is worth no error

    watcher = threading.Thread(target=watch, daemon=True)
    if stderr.is_terminal:
        watcher.start()
    try:
        with progress:
            yield progress
    finally:
        over.set()
        if watcher.is_alive():
            watcher.join(5)


def _print(progress: Progress, text: str) -> None:
    progress.console.print(text, markup=False, highlight=False)


def _show(connection: psycopg.Connection[Any], run_id: Any, wanted: str, output: Path | None, limit: int) -> str:
    row = connection.execute(
        "select columns, rows from dbml.outputs where run_id = %s and name = 'OutputDataSet'", (run_id,)
    ).fetchone()
    metrics = connection.execute(
        "select name, (array_agg(value order by logged_at desc))[1] from dbml.metrics where run_id = %s"
        " group by name order by name",
        (run_id,),
    ).fetchall()
    for name, value in metrics:
        stderr.print(f"{name} = {value:g}", markup=False)
    if row is None:
        return "the script left no OutputDataSet"
    columns, rows = row
    listed = sql.SQL(", ").join(
        sql.SQL("{} {}").format(sql.Identifier(column["name"]), sql.SQL(column["type"])) for column in columns
    )
    query = sql.SQL("select * from dbml.run_output({}, 'OutputDataSet') as t({})").format(run_id, listed)
    if output is not None:
        with output.open("wb") as file:
            WRITERS[wanted](connection, query, columns, file)
        return f"{rows:,} rows written to {output}"
    if wanted != "table":
        WRITERS[wanted](connection, query, columns, sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return f"{rows:,} rows"
    first = connection.execute(sql.SQL("{} limit {}").format(query, limit)).fetchall()
    print_table([column["name"] for column in columns], first)
    if rows > limit:
        console.print(f"{limit:,} of {rows:,} rows; --output and --format csv write them all", style="dim")
    return f"{rows:,} rows"


def _write_csv(connection: psycopg.Connection[Any], query: sql.Composed, columns: Columns, file: BinaryIO) -> None:
    copied = sql.SQL("copy ({}) to stdout (format csv, header)").format(query)
    with connection.cursor() as cursor, cursor.copy(copied) as copy:
        for part in copy:
            file.write(part)


def _write_json(connection: psycopg.Connection[Any], query: sql.Composed, columns: Columns, file: BinaryIO) -> None:
    with connection.cursor() as cursor:
        for (line,) in cursor.stream(sql.SQL("select to_jsonb(r)::text from ({}) r").format(query)):
            file.write(f"{line}\n".encode())


def _write_parquet(connection: psycopg.Connection[Any], query: sql.Composed, columns: Columns, file: BinaryIO) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    kinds = _arrow_types()
    fields = [pa.field(column["name"], kinds.get(column["type"], pa.string())) for column in columns]
    # What Parquet has no type for goes as PostgreSQL's text.
    chosen = sql.SQL(", ").join(
        sql.SQL("{}" if column["type"] in kinds else "{}::text").format(sql.Identifier(column["name"])) for column in columns
    )
    schema = pa.schema(fields)
    with (
        parquet.ParquetWriter(pa.PythonFile(file, "w"), schema) as writer,
        connection.transaction(),
        connection.cursor("rows") as cursor,
    ):
        cursor.execute(sql.SQL("select {} from ({}) r").format(chosen, query))
        while rows := cursor.fetchmany(ROWS_AT_ONCE):
            arrays = [pa.array(cells, field.type) for cells, field in zip(zip(*rows, strict=True), fields, strict=True)]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def _arrow_types() -> dict[str, pa.DataType]:
    import pyarrow as pa

    return {
        "boolean": pa.bool_(), "smallint": pa.int16(), "integer": pa.int32(), "bigint": pa.int64(), "real": pa.float32(),
        "double precision": pa.float64(), "text": pa.string(), "bytea": pa.binary(), "date": pa.date32(),
        "timestamp without time zone": pa.timestamp("us"), "timestamp with time zone": pa.timestamp("us", "UTC"),
        "bigint[]": pa.list_(pa.int64()), "double precision[]": pa.list_(pa.float64()), "text[]": pa.list_(pa.string()),
    }  # fmt: skip


WRITERS = {"csv": _write_csv, "parquet": _write_parquet, "json": _write_json}
