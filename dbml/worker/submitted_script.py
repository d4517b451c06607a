"""Submitted scripts: a file of a snapshot, run as `python script arguments…` would.

A language of a satellite, for calls that name a snapshot.  The files are unpacked into a directory of their own, which
is the working directory; what the script leaves in outputs/ and logs/ becomes artifacts of the run, also when it fails.
"""

from __future__ import annotations

import importlib
import os
import sys
import tarfile
import traceback
import types
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from dbml import archives, errors
from dbml.columns import Column
from dbml.worker import script
from dbml.worker.run import Run
from dbml.worker.sandbox import Limits, use_reserve

KEPT = ("outputs", "logs")  # folders whose files become artifacts
IMPORT = "DBML_IMPORT"  # the variable that names a module to be imported before the script runs
MOST_FILES = 10_000
MOST_PRINTED = 16 << 20  # bytes a run


class SubmittedScript:
    """One script of a snapshot."""

    def __init__(self, limits: Limits, params: Mapping[str, Any], run: Run) -> None:
        self._limits = limits
        self._arguments = [_argument(value) for value in params["arguments"]]
        self._variables = {name: _argument(value) for name, value in params["environment_variables"].items()}
        self._outputs: Mapping[str, Any] = params.get("outputs") or {}
        self._run = run
        self._python = script.PythonScript(limits)
        self._root = Path.cwd() / "snapshot"
        self._script = ""
        self._archive: IO[bytes] | None = None

    def add(self, part: bytes) -> None:
        """Take a part of the snapshot's archive."""
        if self._archive is None:
            self._archive = (Path.cwd() / "snapshot.tar").open("w+b")
        self._archive.write(part)

    def check_name(self, name: str, what: str) -> None:
        """Accept any name: it is no variable of this script."""

    def load(self, text: str) -> None:
        """Unpack the snapshot; text is the path of the script in it.

        Raises: InvalidArgument where there is no such file, or the archive is none.
        """
        self._script = text
        self._root.mkdir()
        self._unpack()
        if not (self._root / text).is_file():
            found = sorted(str(path.relative_to(self._root)) for path in self._root.rglob("*") if path.is_file())
            raise errors.InvalidArgument(
                f"the snapshot must have the script {text!r}, it has {', '.join(found[:10]) or 'no files'}",
                detail={"script": text, "files": found[:1000]}, hint="script is a path relative to the source directory",
            )  # fmt: skip
        for folder in KEPT:
            (self._root / folder).mkdir(exist_ok=True)
        for name, about in self._outputs.items():
            self._run.output_folders[name] = self._root / about["folder"]
            self._run.output_folders[name].mkdir(parents=True, exist_ok=True)

    def _unpack(self) -> None:
        if self._archive is None:
            return
        try:
            self._archive.seek(0)
            with tarfile.open(fileobj=self._archive, mode="r:*") as archive:
                archives.unpack(archive, self._root)
        except (tarfile.TarError, EOFError, zlib.error) as error:
            raise errors.InvalidArgument(f"the snapshot's archive cannot be unpacked: {error}") from None
        except OSError as error:
            raise script.explain(error, self._limits) from None
        finally:
            self._archive.close()
            Path(str(self._archive.name)).unlink()

    def run(self, variables: Mapping[str, Any], columns: Mapping[str, Sequence[Column]]) -> None:
        """Run the script, then keep what it left.

        Raises: as PythonScript.run; a call of sys.exit without a code, or with 0, is no error.
        """
        self._run.inputs = {name: variables[name] for name in columns}
        path = self._root / self._script
        own = os.getpid()
        os.chdir(self._root)
        os.environ.update({"MLFLOW_TRACKING_URI": "dbml:", "MLFLOW_RUN_ID": self._run.id} | self._variables)
        sys.argv = [self._script, *self._arguments]
        sys.path.insert(0, str(path.parent))
        sys.dont_write_bytecode = True
        module = types.ModuleType("__main__")
        vars(module).update(__file__=str(path), __cached__=None)
        sys.modules["__main__"] = module
        try:
            try:
                if wanted := os.environ.get(IMPORT):
                    importlib.import_module(wanted)
                exec(compile(path.read_bytes(), str(path), "exec", dont_inherit=True), vars(module))
            except SystemExit as left:
                if left.code not in (None, 0):
                    raise
        except BaseException as error:  # a script may raise anything; this is where it ends
            if isinstance(error, MemoryError):
                use_reserve()
            elif os.getpid() == own:
                self._print(error)
                self._keep_files()
            raise self._explain(error) from None
        if os.getpid() == own:
            self._keep_files()
            self._keep_outputs()

    def result(self, name: str) -> Any:
        """Return nothing: a submitted script has no result but what it keeps."""
        return None

    def parameter(self, name: str) -> Any:
        """Return nothing."""
        return None

    def figures(self) -> Iterator[tuple[str, bytes]]:
        """Yield matplotlib's open figures, as of any script."""
        return self._python.figures()

    def close(self) -> None:
        """Do nothing: the process ends with its script."""

    # -- what it left ----------------------------------------------------------------------------------------------

    def _keep_files(self) -> None:
        """Keep the files in outputs/ and logs/ with the run, except those that it has kept itself."""
        sys.stdout.flush()
        kept = 0
        for folder in KEPT:
            for directory, folders, files in os.walk(self._root / folder):
                folders.sort()
                for name in sorted(files):
                    path = Path(directory, name)
                    known_as = path.relative_to(self._root).as_posix()
                    if not path.is_file() or path.is_symlink() or known_as in self._run.kept:
                        continue
                    if kept == MOST_FILES:
                        print(f"more than {MOST_FILES} files were left: {known_as} and later ones are not kept")
                        return
                    try:
                        self._run.upload_file(known_as, path)
                        kept += 1
                    except errors.InvalidArgument as error:
                        print(f"{known_as!r} is not kept: {error.message}")

    def _keep_outputs(self) -> None:
        """Keep what a script that has completed left for a datastore; a replay keeps nothing."""
        if not self._run.is_submitted:
            return
        for name in self._outputs:
            made = self._run.keep_output(name)
            dataset = f", dataset {made['dataset']}" if made["dataset"] else ""
            print(f"output {name}: {made['files']} files in {made['path']}{dataset}")

    # -- errors ----------------------------------------------------------------------------------------------------

    def _frames(self, error: BaseException) -> list[traceback.FrameSummary]:
        frames = list(traceback.extract_tb(error.__traceback__))
        while frames and not self._is_own(frames[0].filename):
            frames.pop(0)
        return frames

    def _is_own(self, filename: str) -> bool:
        return Path(filename).is_relative_to(self._root)

    def _place(self, filename: str) -> str:
        if self._is_own(filename):
            return str(Path(filename).relative_to(self._root))
        return filename.rpartition("site-packages/")[2]

    def _print(self, error: BaseException) -> None:
        """Print the traceback as Python would, from the script on."""
        if isinstance(error, SystemExit):
            if isinstance(error.code, str):
                print(error.code, file=sys.stderr)
            return
        shown = error.__traceback__
        while shown is not None and not self._is_own(shown.tb_frame.f_code.co_filename):
            shown = shown.tb_next
        lines = "".join(traceback.format_exception(type(error), error, shown))
        print(lines.replace(f"{self._root}/", "").rstrip("\n"), file=sys.stderr)

    def _explain(self, error: BaseException) -> errors.DbmlError:
        if isinstance(error, SyntaxError):
            place = self._place(error.filename or "")
            text = f"{place} line {error.lineno}: {(error.text or '').strip()}"
            return errors.ScriptSyntaxError(
                error.msg or "invalid syntax", detail={"file": place, "line": error.lineno}, context=text
            )
        fields = script.explain(error, self._limits).fields()
        frames = self._frames(error)
        own = [frame for frame in frames if self._is_own(frame.filename)]
        lines = [f"{self._place(frame.filename)} line {frame.lineno}, in {frame.name}: {frame.line}" for frame in own]
        if len(lines) > script.MOST_LINES:
            half = script.MOST_LINES // 2
            lines[half:-half] = [f"… {len(lines) - script.MOST_LINES} more …"]
        if frames and not self._is_own(frames[-1].filename) and not isinstance(error, errors.DbmlError):
            last = frames[-1]
            lines.append(f"{self._place(last.filename)} line {last.lineno}, in {last.name}: {last.line}")
        return errors.from_fields(fields | {"context": "\n".join(lines) or fields["context"]})


def _argument(value: Any) -> str:
    """Return a value as it stands on a command line."""
    return value if isinstance(value, str) else str(value)
