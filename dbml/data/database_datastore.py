"""The default datastore: the database itself, with files in content-addressed parts."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from dbml.core import transfer
from dbml.data import paths
from dbml.data.abstract_datastore import AbstractDatastore
from dbml.store.client import files
from dbml.store.client.uploads import PART_BYTES

if TYPE_CHECKING:
    from dbml.core.connection import Connection

NAME = "workspaceblobstore"
_BATCH_FILES = 500
_BATCH_BYTES = 32 << 20
_AHEAD = 8  # parts that are read at once


class DatabaseDatastore(AbstractDatastore):
    """The database itself; SHA-256 is checked both ways, and equal bytes are kept once."""

    def _list(self, pattern: str, dataset_id: int | None = None) -> list[paths.StoredFile]:
        connection = self._workspace._connection
        if dataset_id is None:
            rows = connection.do_again(files.list_files, self._workspace.name, paths.fixed_part(pattern))
        else:
            rows = connection.do_again(files.dataset_files, dataset_id)
        found = (paths.StoredFile(row["path"], row["size_bytes"], row["digest"]) for row in rows)
        return [file for file in found if paths.matches(pattern, file.path)]

    def _open(self, file: paths.StoredFile, dataset: str | None = None) -> BinaryIO:
        raw = _DatabaseFile(self._workspace._connection, self._workspace.name, file, dataset)
        return io.BufferedReader(raw, PART_BYTES)

    def _store(self, pairs: dict[str, Path], overwrite: bool, show: bool) -> None:
        connection = self._workspace._connection
        there: dict[str, str] = {}
        listed = list(pairs)
        for start in range(0, len(listed), 10_000):
            part = listed[start : start + 10_000]
            there |= connection.do_again(files.find_files, self._workspace.name, part)
        wanted = [
            (path, file) for path, file in pairs.items()
            if path not in there or (overwrite and digest_of(file) != there[path])
        ]  # fmt: skip
        small = [(path, file) for path, file in wanted if file.stat().st_size < _BATCH_BYTES]
        with transfer.progress("uploading", sum(file.stat().st_size for _, file in small), show) as advance:
            for batch in _batches(small):
                advance(self._send(batch, overwrite, False))
        for path, file in wanted:
            if file.stat().st_size >= _BATCH_BYTES:
                self._send([(path, file)], overwrite, show)

    def _send(self, batch: Sequence[tuple[str, Path]], overwrite: bool, show: bool) -> int:
        """Upload some files and name them, so that what has arrived stays when the next batch fails."""
        connection = self._workspace._connection
        stored = transfer.upload(connection, [file for _, file in batch], show=show)
        written = [(path, one.digest) for (path, _), one in zip(batch, stored, strict=True)]
        connection.do(files.write_uploads, self._workspace.name, written, overwrite)
        return sum(one.size for one in stored)

    def _fetch(
        self, wanted: Iterable[paths.StoredFile], target: Path, overwrite: bool, show: bool, dataset: str | None = None
    ) -> int:
        asked = []
        for file in wanted:
            place = target / file.path
            if place.exists() and (not overwrite or (place.is_file() and digest_of(place) == file.digest)):
                continue
            assert file.digest is not None
            asked.append(transfer.Wanted(place, file.size, file.digest, (file.path, self._workspace.name, dataset)))
        connection = self._workspace._connection

        def fetch(parts: Sequence[tuple[transfer.Wanted, int]]) -> list[bytes | None]:
            keys = [(one.key[0], part, *one.key[1:]) for one, part in parts]
            return connection.do_again(files.read_parts, keys, checked=False)

        transfer.download_parts(connection, asked, fetch, show=show)
        return len(asked)

    def delete_files(self, prefix: str) -> int:
        """Delete a file, or all that is in a folder; returns how many went.  What versions of datasets keep stays theirs."""
        connection = self._workspace._connection
        return sum(connection.do(files.delete, self._workspace.name, file.path) for file in self._list(paths.plain(prefix)))


def digest_of(file: Path) -> str:
    """Return a file's SHA-256 in hex."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _batches(pairs: Sequence[tuple[str, Path]]) -> Iterator[list[tuple[str, Path]]]:
    batch: list[tuple[str, Path]] = []
    held = 0
    for path, file in pairs:
        batch.append((path, file))
        held += file.stat().st_size
        if len(batch) >= _BATCH_FILES or held >= _BATCH_BYTES:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


class _DatabaseFile(io.RawIOBase):
    """A file of the database, read part by part, in any order; a few parts are held."""

    def __init__(self, connection: Connection, workspace: str, file: paths.StoredFile, dataset: str | None) -> None:
        self._connection = connection
        self._key = (workspace, dataset)
        self._file = file
        self._place = 0
        self._held: dict[int, bytes] = {}

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._file.size}[whence]
        self._place = max(0, start + offset)
        return self._place

    def readinto(self, buffer: Any) -> int:
        count = min(len(buffer), self._file.size - self._place)
        if count <= 0:
            return 0
        number, within = divmod(self._place, PART_BYTES)
        content = self._part(number)[within : within + count]
        buffer[: len(content)] = content
        self._place += len(content)
        return len(content)

    def _part(self, number: int) -> bytes:
        if number not in self._held:
            last = -(-self._file.size // PART_BYTES)
            # What is read one part after the other is read ahead; a jump, such as to the footer of Parquet, is not.
            ahead = _AHEAD if number - 1 in self._held or number == 0 else 1
            asked = [(self._file.path, n, *self._key) for n in range(number, min(number + ahead, last))]
            found = self._connection.do_again(files.read_parts, asked)
            self._held = {number + n: bytes(part) for n, part in enumerate(found) if part is not None}
        return self._held[number]
