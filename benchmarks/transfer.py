"""A large model and a folder of many files, up and down, against cp and pg_dump: `python -m benchmarks.transfer`.

The same bytes are copied with cp, and dumped and restored as the bytea column of a plain table, in rows of 1 MiB, since one
value holds no gigabyte.  Digests of what comes down are compared with what went up.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.bench import Report, arguments, connect, served, timed
from dbml.core import Model, Workspace
from dbml.database import binaries
from dbml.dsn import libpq_environment

MIB = 1 << 20


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, or of a folder's files in order."""
    whole = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            with file.open("rb") as stream:
                while part := stream.read(MIB):
                    whole.update(part)
    return whole.hexdigest()


def peak_mb(pid: int | None = None) -> float:
    """Return the largest resident size so far: of this process, or of a backend on this machine."""
    lines = Path(f"/proc/{pid or os.getpid()}/status").read_text().splitlines()
    high = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    shared = next(int(line.split()[1]) for line in lines if line.startswith("RssShmem"))
    return (high - shared) / 1024


def make(folder: Path, megabytes: int, files: int) -> tuple[Path, Path]:
    """Make a file and a folder of small ones, of random bytes."""
    large, many = folder / "large.bin", folder / "many"
    with large.open("wb") as stream:
        for _ in range(megabytes):
            stream.write(os.urandom(MIB))
    for number in range(files):
        path = many / str(number % 100) / f"{number}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(10_000))
    return large, many


def dump_and_restore(
    connection: psycopg.Connection[Any], dsn: str, source: Path, folder: Path, major: int | None
) -> tuple[float, float]:
    """Return the seconds of pg_dump of a bytea column with the file's bytes, and of the way back with psql."""
    connection.execute("create table plain (ordinal integer primary key, part bytea)")
    connection.execute("alter table plain alter column part set storage external")
    with source.open("rb") as stream, connection.cursor() as cursor, cursor.copy("copy plain from stdin (format binary)") as copy:
        copy.set_types(["int4", "bytea"])
        ordinal = 0
        while part := stream.read(MIB):
            copy.write_row((ordinal, part))
            ordinal += 1
    variables, _ = libpq_environment(dsn)
    environment = {**os.environ, **variables}
    found, dump = binaries.find(major), folder / "dump.sql"
    down = timed(
        lambda: subprocess.run(
            [found.program("pg_dump"), "--data-only", "--table=plain", "--file", dump], env=environment, check=True
        )
    )
    connection.execute("truncate plain")
    psql = [found.program("psql"), "-q", "-X", "-v", "ON_ERROR_STOP=1", "-f", dump]
    up = timed(lambda: subprocess.run(psql, env=environment, check=True, stdout=subprocess.DEVNULL))
    connection.execute("drop table plain")
    dump.unlink()
    return up, down


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__ or "")
    megabytes, files = (16, 200) if options.quick else (1024, 10_000)
    folder = Path(tempfile.mkdtemp(prefix="dbml-transfer-"))
    report = Report(f"{megabytes:,} MB and {files:,} files of 10 kB; load of the machine {os.getloadavg()[0]:.1f}")
    try:
        large, many = make(folder, megabytes, files)
        with served(options.major) as (dsn, _), connect(dsn) as connection:
            workspace = Workspace.create("transfer", dsn=dsn, show_output=False)
            with workspace._connection.session() as session:
                backend = session.info.backend_pid
            for source in (large, many):
                before, behind = peak_mb(), peak_mb(backend)
                models: list[Model] = []
                up = timed(lambda: models.append(Model.register(workspace, str(source), source.stem)))  # noqa: B023 - called at once
                down = timed(lambda: models[0].download(folder / "down"))  # noqa: B023
                client, server = peak_mb() - before, peak_mb(backend) - behind
                same = digest(folder / "down" / source.name if source is large else folder / "down") == digest(source)
                copied = timed(lambda: subprocess.run(["cp", "-r", source, folder / "copy"], check=True))  # noqa: B023
                what = "file" if source is large else "folder"
                report.times(f"{what} up", [up])
                report.times(f"{what} down", [down])
                report.times(f"{what}, cp", [copied])
                report.note(f"{what}, digests", "equal" if same else "DIFFERENT")
                report.note(f"{what}, memory grown", f"client {client:.0f} MB, backend {server:.0f} MB")
                for left in ("down", "copy"):
                    gone = folder / left
                    gone.unlink() if gone.is_file() else shutil.rmtree(gone)
                if source is large:
                    dumped_up, dumped_down = dump_and_restore(connection, dsn, large, folder, options.major)
                    report.times("file, bytea with psql, up", [dumped_up])
                    report.times("file, bytea with pg_dump, down", [dumped_down])
                    report.ratio("up, against psql", up / dumped_up, at_most=1.5)
                    report.ratio("down, against pg_dump", down / dumped_down, at_most=1.5)
            workspace._connection.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    report.show()


if __name__ == "__main__":
    main()
