"""Files of runs: uploaded and downloaded in bounded memory, listed, and the logs among them."""

from __future__ import annotations

import io
import mimetypes
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from dbml import errors
from dbml.core import transfer
from dbml.store.client import runs
from dbml.store.client.rows import Row

if TYPE_CHECKING:
    from dbml.core.run import Run

BINARY = "application/octet-stream"
SCRIPT_LOG = "logs/script.log"  # what a script printed, which dbml.runs has


def upload(run: Run, names: Sequence[str], sources: Sequence[str | os.PathLike[str] | IO[bytes]], *, kind: str = "file") -> None:
    """Keep files or binary streams with a run, each under its name.

    Raises: InvalidArgument where the lengths differ, or a name is taken; FileNotFoundError.
    """
    if len(names) != len(sources):
        raise errors.InvalidArgument(f"each file must have a name, got {len(names)} names and {len(sources)} files")
    opened = [Path(source) if isinstance(source, str | os.PathLike) else source for source in sources]
    for source in opened:
        if isinstance(source, Path) and not source.is_file():
            raise FileNotFoundError(f"a file must be there to be uploaded: {source}")
    taken = set(names_of(run)) & set(names)
    if taken or len(set(names)) < len(names):
        raise errors.InvalidArgument(
            f"a run must have one file of a name, and {run.id} has {sorted(taken) or 'one given twice'}",
            hint="choose other names",
        )
    for name, stored in zip(names, transfer.upload(run._connection, opened), strict=True):
        run._connection.do(runs.add_artifact, run._id, name, stored.digest, kind, _type(name))


def replace(run: Run, files: Mapping[str, Path]) -> None:
    """Keep files with a run by name; they take the place of those of the same names."""
    for name, stored in zip(files, transfer.upload(run._connection, list(files.values())), strict=True):
        run._connection.do(runs.add_artifact, run._id, name, stored.digest, "file", _type(name), replace=True)


def upload_folder(run: Run, name: str, folder: Path) -> list[str]:
    """Keep every file under a folder, as name/path; returns the names.

    Raises: NotADirectoryError.
    """
    if not folder.is_dir():
        raise NotADirectoryError(f"a folder must be there to be uploaded: {folder}")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    names = [f"{name.rstrip('/')}/{path.relative_to(folder).as_posix()}" for path in files]
    upload(run, names, files)
    return names


def keep_image(run: Run, name: str, path: str | None, plot: Any) -> str:
    """Keep a picture with a run; returns the artifact's name, which is the picture's, numbered where that is taken."""
    if (path is None) == (plot is None):
        raise errors.InvalidArgument("either path or plot must be given")
    if path is not None:
        suffix, content = Path(path).suffix or ".png", Path(path).read_bytes()
    else:
        stream = io.BytesIO()
        plot.savefig(stream, format="png")
        suffix, content = ".png", stream.getvalue()
    taken = set(names_of(run))
    artifact = f"{name}{suffix}"
    number = 0
    while artifact in taken:
        number += 1
        artifact = f"{name}_{number}{suffix}"
    upload(run, [artifact], [io.BytesIO(content)], kind="image")
    return artifact


def names_of(run: Run) -> list[str]:
    """Return the names of what a run keeps."""
    return [str(row["name"]) for row in run._connection.do_again(runs.artifacts, run._id)]


def names(run: Run) -> list[str]:
    """Return the names of what a run keeps, and of the log that a script printed."""
    return sorted({*names_of(run), *log_names(run)})


def download(run: Run, name: str, target: Path | None) -> None:
    """Write one file.

    Raises: RunNotFound where the run keeps no such file.
    """
    place = Path(Path(name).name) if target is None else target / Path(name).name if target.is_dir() else target
    found = run._connection.do_again(runs.artifacts, run._id, name)
    if not found and name == SCRIPT_LOG and run._row["log"]:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(run._row["log"], encoding="utf-8")
        return
    if not found:
        raise errors.RunNotFound(
            f"run {run.id} keeps no file {name!r}", hint="run.get_file_names(), or SELECT name FROM dbml.artifacts"
        )
    transfer.download_artifacts(run._connection, [_wanted(run, found[0], place)])


def download_all(
    run: Run, prefix: str | None, folder: str | os.PathLike[str] | None, paths: Sequence[str] | None, keep_prefix: bool
) -> None:
    """Write the files whose names begin with a prefix."""
    start = "" if prefix is None else prefix
    rows = [row for row in run._connection.do_again(runs.artifacts, run._id) if row["name"].startswith(start)]
    if paths is not None and len(paths) != len(rows):
        raise errors.InvalidArgument(f"output_paths must name a path for each of {len(rows)} files, got {len(paths)}")
    base = Path(folder) if folder is not None else Path.cwd()
    wanted = []
    for number, row in enumerate(rows):
        inside = row["name"] if keep_prefix else row["name"].removeprefix(start).lstrip("/") or Path(row["name"]).name
        wanted.append(_wanted(run, row, base / (paths[number] if paths is not None else safe(inside))))
    transfer.download_artifacts(run._connection, wanted)


def safe(name: str) -> str:
    """Return a name of an artifact as a relative path that stays in its folder.

    Raises: InvalidArgument for one that would leave it.
    """
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise errors.InvalidArgument(f"a file's name must stay in the folder it is written to, got {name!r}")
    return name


def log_names(run: Run) -> list[str]:
    """Return the names of the logs."""
    kept = [name for name in names_of(run) if name.startswith(("logs/", "user_logs/", "azureml-logs/"))]
    return [*kept, SCRIPT_LOG] if run._row["log"] and SCRIPT_LOG not in kept else kept


def logs(run: Run) -> dict[str, str]:
    """Return the text of each log by its name."""
    found = {}
    with tempfile.TemporaryDirectory(prefix="dbml-logs-") as folder:
        for path in write_logs(run, folder):
            file = Path(path)
            found[file.relative_to(folder).as_posix()] = file.read_text("utf-8", errors="replace")
    return found


def write_logs(run: Run, destination: str | os.PathLike[str] | None) -> list[str]:
    """Write the logs into a folder; returns their paths."""
    base = Path(destination) if destination is not None else Path(tempfile.mkdtemp(prefix="dbml-logs-"))
    written = []
    for name in log_names(run):
        place = base / safe(name)
        place.parent.mkdir(parents=True, exist_ok=True)
        download(run, name, place)
        written.append(str(place))
    return written


def _wanted(run: Run, row: Row, target: Path) -> transfer.Wanted:
    return transfer.Wanted(target, int(row["size_bytes"]), str(row["digest"]), (run._id, row["name"]))


def _type(name: str) -> str:
    return mimetypes.guess_type(name)[0] or BINARY
