"""Files up and down: in parts of 1 MiB, several a round trip, never more than two windows of them in memory.

Digests are made of what is read from disk, and checked of what is written to it, while the database deals with the window
before or after; a file appears under its name only when it is whole and right.  Which bytes are whose is the database's to say.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from uuid import UUID

import psycopg

from dbml import errors
from dbml.store.client import uploads

if TYPE_CHECKING:
    from dbml.core.connection import Connection

WINDOW_BYTES = 8 << 20
WINDOW_FILES = 128
SHOWN_BYTES = 16 << 20  # from here on progress is shown, on a terminal
ATTEMPTS = 3

Progress = Callable[[int], object]


@dataclass(frozen=True)
class Stored:
    """What became of a file: its SHA-256 and size."""

    digest: bytes
    size: int


@dataclass(frozen=True)
class Wanted:
    """A stored file that is to be written: where, how long, its SHA-256 in hex, and how to ask for its parts."""

    target: Path
    size: int
    digest: str
    key: tuple[object, ...]


def upload(connection: Connection, sources: Sequence[Path | IO[bytes]], *, show: bool = True) -> list[Stored]:
    """Upload files or open binary streams, each for one use; returns digests and sizes in their order.

    Raises: OSError; psycopg.Error; ModelLoadError where what arrived is not what was sent.
    """
    stored: dict[int, Stored] = {}
    waiting: list[tuple[int, bytes]] = []
    held = 0

    def send() -> None:
        contents = [content for _, content in waiting]
        connection.do_again(uploads.send_whole, contents)
        for number, content in waiting:
            stored[number] = Stored(hashlib.sha256(content).digest(), len(content))
        waiting.clear()

    total = sum(source.stat().st_size for source in sources if isinstance(source, Path))
    with progress("uploading", total, show) as advance:
        for number, source in enumerate(sources):
            with _opened(source) as stream:
                first = _read(stream)
                if len(first) == uploads.PART_BYTES:
                    stored[number] = _upload_large(connection, first, stream, advance)
                    continue
                waiting.append((number, first))
                held += len(first)
            advance(len(first))
            if held >= WINDOW_BYTES or len(waiting) >= WINDOW_FILES:
                send()
                held = 0
        if waiting:
            send()
    return [stored[number] for number in range(len(sources))]


def _upload_large(connection: Connection, first: bytes, stream: IO[bytes], advance: Progress) -> Stored:
    upload_id: UUID = connection.do(uploads.begin)
    whole = hashlib.sha256()
    size = 0
    window: list[tuple[int, bytes, bytes]] = []
    try:
        with _Behind(connection) as behind:

            def send() -> None:
                behind.wait()  # for the window before
                behind.begin(lambda sent=tuple(window): _send_window(connection, upload_id, sent))  # type: ignore[misc]
                advance(sum(len(part) for _, part, _ in window))
                window.clear()

            for ordinal, part in enumerate(_parts(first, stream)):
                whole.update(part)
                size += len(part)
                window.append((ordinal, part, hashlib.sha256(part).digest()))
                if len(window) * uploads.PART_BYTES >= WINDOW_BYTES:
                    send()
            if window:
                send()
            behind.wait()
        digest = connection.do(uploads.finish, upload_id, whole.digest(), size)
    except BaseException:
        _abandon(connection, upload_id)
        raise
    return Stored(digest, size)


class _Behind:
    """One piece of work that goes on while the next is made ready, in a thread of its own; at the end it is waited for.

    connection: with which it works; where this thread holds its session, another thread cannot, and nothing goes on meanwhile.
    """

    def __init__(self, connection: Connection) -> None:
        self._thread = None if connection.is_held else ThreadPoolExecutor(1, thread_name_prefix="dbml transfer")
        self._work: Future[Any] | None = None

    def __enter__(self) -> _Behind:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._thread is not None:
            self._thread.shutdown(wait=True)

    def begin(self, work: Callable[[], object]) -> None:
        """Begin a piece of work; the one before must have been waited for."""
        if self._thread is not None:
            self._work = self._thread.submit(work)
            return
        self._work = Future()
        try:
            self._work.set_result(work())
        except Exception as error:  # as of a thread: told to who waits for it
            self._work.set_exception(error)

    def wait(self) -> Any:
        """Wait for the work, and return what came of it; None where there is none.  Raises: what it raised."""
        work, self._work = self._work, None
        return None if work is None else work.result()


def _send_window(connection: Connection, upload_id: UUID, window: Sequence[tuple[int, bytes, bytes]]) -> None:
    """Send parts; twice or three times where the connection broke, or another upload of the same bytes was in the way."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            connection.do(uploads.send_parts, upload_id, window)
            return
        except psycopg.OperationalError:
            if attempt == ATTEMPTS:
                raise


def _abandon(connection: Connection, upload_id: UUID) -> None:
    try:
        connection.do(uploads.abandon, upload_id)
    except psycopg.Error:
        return  # it goes by itself within a day


def _parts(first: bytes, stream: IO[bytes]) -> Iterator[bytes]:
    part = first
    while part:
        yield part
        part = _read(stream)


def _read(stream: IO[bytes]) -> bytes:
    """Read one part, whole also where a stream gives less at a time."""
    part = stream.read(uploads.PART_BYTES)
    while part and len(part) < uploads.PART_BYTES:
        more = stream.read(uploads.PART_BYTES - len(part))
        if not more:
            break
        part += more
    return part


@contextmanager
def _opened(source: Path | IO[bytes]) -> Iterator[IO[bytes]]:
    if isinstance(source, Path):
        with source.open("rb") as stream:
            yield stream
    else:
        if isinstance(source.read(0), str):
            raise errors.InvalidArgument("a stream must be binary to be uploaded, got text", hint="open(path, 'rb')")
        yield source


def download_artifacts(connection: Connection, wanted: Iterable[Wanted], *, show: bool = True) -> None:
    """Write artifacts of runs to files: the key of each is the run's id and the artifact's name.

    Raises: ModelLoadError where bytes do not have their digest; OSError.
    """

    def fetch(asked: Sequence[tuple[Wanted, int]]) -> list[bytes | None]:
        keys = [(*one.key, part) for one, part in asked]
        return connection.do_again(uploads.artifact_parts, keys)

    download_parts(connection, wanted, fetch, show=show)


def download_model(connection: Connection, wanted: Iterable[Wanted], *, show: bool = True) -> None:
    """Write files of models: the key of each is the model's reference, the path in it (or None), and the workspace.

    Raises: as `download_artifacts`.
    """

    def fetch(asked: Sequence[tuple[Wanted, int]]) -> list[bytes | None]:
        keys = [(one.key[0], part, one.key[1], one.key[2]) for one, part in asked]
        return connection.do_again(uploads.model_parts, keys)

    download_parts(connection, wanted, fetch, show=show)


def download_parts(
    connection: Connection, wanted: Iterable[Wanted], fetch: Callable[[Sequence[tuple[Wanted, int]]], list[bytes | None]], *,
    show: bool = True,
) -> None:  # fmt: skip
    """Write files of whatever kind: fetch answers parts, each asked for as a file and the part's number.

    Raises: as `download_artifacts`.
    """
    files = list(wanted)
    asked: list[tuple[Wanted, int]] = []
    held = 0
    with (
        progress("downloading", sum(file.size for file in files), show) as advance,
        _Writer(advance) as writer,
        _Behind(connection) as behind,
    ):
        former: list[tuple[Wanted, int]] = []

        def ask() -> None:
            """Ask for the next parts, and write those that were asked for before while they come."""
            nonlocal former
            parts = behind.wait()
            now, before, former = list(asked), former, list(asked)
            if now:
                behind.begin(lambda: fetch(now))
            if parts is not None:
                writer.write(before, parts)
            asked.clear()

        for file in files:
            for part in range(_count_of_parts(file)):
                asked.append((file, part))
                held += min(uploads.PART_BYTES, file.size)
                if held >= WINDOW_BYTES or len(asked) >= WINDOW_FILES:
                    ask()
                    held = 0
        if asked:
            ask()
        ask()


def _count_of_parts(file: Wanted) -> int:
    return max(1, -(-file.size // uploads.PART_BYTES))


class _Writer:
    """Writes parts in order, a file after the other; what is not whole when it ends is removed."""

    def __init__(self, advance: Progress) -> None:
        self._advance = advance
        self._file: Wanted | None = None
        self._stream: IO[bytes] | None = None
        self._partial = Path()
        self._whole = hashlib.sha256()

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._stream is not None:
            self._stream.close()
            self._partial.unlink(missing_ok=True)

    def write(self, asked: Sequence[tuple[Wanted, int]], parts: Sequence[bytes | None]) -> None:
        """Write parts, and give those files their names that are whole by them."""
        for (file, number), part in zip(asked, parts, strict=True):
            if file is not self._file:
                self._begin(file)
            assert self._stream is not None
            content = part or b""
            self._stream.write(content)
            self._whole.update(content)
            self._advance(len(content))
            if number + 1 == _count_of_parts(file):
                self._end(file)

    def _begin(self, file: Wanted) -> None:
        file.target.parent.mkdir(parents=True, exist_ok=True)
        self._partial = file.target.with_name(f".{file.target.name}.{os.getpid()}.partial")
        self._stream = self._partial.open("wb")
        self._file, self._whole = file, hashlib.sha256()

    def _end(self, file: Wanted) -> None:
        assert self._stream is not None
        self._stream.close()
        self._stream = None
        if self._whole.hexdigest() != file.digest:
            self._partial.unlink(missing_ok=True)
            raise errors.ModelLoadError(
                f"the bytes of {file.target.name!r} do not match their digest",
                detail={"digest": file.digest, "read": self._whole.hexdigest()},
                hint="download it again; where that does not help, what is stored was damaged",
            )
        self._partial.replace(file.target)


@contextmanager
def progress(label: str, total: int, show: bool) -> Iterator[Progress]:
    """Yield what to tell of bytes that have passed; drawn on a terminal, where there are many."""
    if not show or total < SHOWN_BYTES or not sys.stderr.isatty():
        yield lambda n: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total)
        yield lambda n: bar.advance(task, n)
