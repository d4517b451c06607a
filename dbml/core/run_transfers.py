"""The methods of a run that keep files and give them back; `dbml.core.run_files` does it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from dbml.core import run_files

if TYPE_CHECKING:
    from dbml.core.run import Run


class RunFiles:
    """Files of a run, by names that may hold slashes."""

    @property
    def _run(self) -> Run:
        return cast("Run", self)

    def upload_file(
        self, name: str, path_or_stream: str | os.PathLike[str] | IO[bytes], datastore_name: str | None = None
    ) -> str:
        """Keep a file or a binary stream with the run, under a name that may hold slashes; returns the name.

        Raises: InvalidArgument where the run has one of that name; FileNotFoundError.
        """
        run_files.upload(self._run, [name], [path_or_stream])
        return name

    def upload_files(
        self, names: Sequence[str], paths: Sequence[str | os.PathLike[str]], return_artifacts: bool = False,
        timeout_seconds: float | None = None, datastore_name: str | None = None,
    ) -> list[str]:  # fmt: skip
        """Keep files with the run, each path under its name; returns the names."""
        run_files.upload(self._run, names, paths)
        return [*names]

    def upload_folder(self, name: str, path: str | os.PathLike[str], datastore_name: str | None = None) -> list[str]:
        """Keep all files under a folder with the run, under name/…; returns their names."""
        return run_files.upload_folder(self._run, name, Path(path))

    def get_file_names(self) -> list[str]:
        """Return the names of the files, images and tables that the run keeps."""
        return run_files.names(self._run)

    def download_file(
        self, name: str, output_file_path: str | os.PathLike[str] | None = None, _validate_checksum: bool = True
    ) -> None:
        """Write a file of the run to a path, or into a folder; by default to its own last name in the current folder.

        Raises: RunNotFound where the run has no such file.
        """
        run_files.download(self._run, name, None if output_file_path is None else Path(output_file_path))

    def download_files(
        self, prefix: str | None = None, output_directory: str | os.PathLike[str] | None = None,
        output_paths: Sequence[str] | None = None, batch_size: int = 100, append_prefix: bool = True,
        timeout_seconds: float | None = None,
    ) -> None:  # fmt: skip
        """Write the files whose names begin with prefix into a folder, the current one by default.

        output_paths: where each goes, in the order of their names.  append_prefix False: names without the prefix.
        """
        run_files.download_all(self._run, prefix, output_directory, output_paths, append_prefix)

    def get_all_logs(self, destination: str | os.PathLike[str] | None = None) -> list[str]:
        """Write the logs into a folder, by default a new temporary one; returns their paths."""
        return run_files.write_logs(self._run, destination)
