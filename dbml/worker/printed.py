"""Printed: what a script prints, on its way to become notices.

What goes through sys.stdout and sys.stderr is sent at once, line by line, before the script goes on.  What goes
through descriptors 1 and 2 (os.system, C libraries) comes through a pipe, which a thread drains: so nothing that
a script prints, however much, ever blocks it or is kept.
"""

from __future__ import annotations

import _thread
import codecs
import contextlib
import ctypes
import io
import os
import select
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

LONGEST_NOTICE = 1 << 16  # bytes
PRINTED_AT_MOST = 1 << 20  # bytes a call
MORE = b"\n(more was printed: what a script prints is cut at %d MB)\n"

Send = Callable[[bytes], None]

_SIGNALS = signal.valid_signals()


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Keep signals away: a handler of the script's that raises in the middle would leave half a frame, or a lock held."""
    former = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


class Notices:
    """Cuts printed text into notices and sends them, up to a limit a call; safe for threads."""

    def __init__(self, send: Send, most: int = PRINTED_AT_MOST) -> None:
        self._send = send
        self._lock = threading.RLock()
        self._left = most
        self._more = MORE % (most >> 20)
        self.over = False  # more was printed than the limit, and it was said: the rest is dropped

    @property
    def left(self) -> int:
        """Return how many bytes may still be printed."""
        return self._left

    def notify(self, text: str) -> None:
        """Send whole lines."""
        with self._lock:
            if self.over:
                return
            content = text.encode("utf-8", "replace")
            if len(content) > self._left:
                content = content[: _boundary(content, self._left)] + self._more
                self.over = True
            self._left -= len(content)
            start = 0
            while start < len(content):
                end = start + LONGEST_NOTICE
                if end < len(content):
                    newline = content.rfind(b"\n", start, end)
                    end = newline + 1 if newline >= 0 else _boundary(content, end)
                self._send(content[start:end])
                start = end


class Lines:
    """Gathers what one source prints until its line ends; safe for threads."""

    def __init__(self, notices: Notices) -> None:
        self._notices = notices
        self._lock = threading.RLock()
        self._pending = ""

    @property
    def dropped(self) -> bool:
        """Tell whether what is printed is dropped from now on."""
        return self._notices.over

    def write(self, text: str) -> None:
        """Take text, and send it when it ends a line: so one print is one notice."""
        with self._lock:
            if not self._notices.over:
                self._pending += text[: self._notices.left + 1]
                if text.endswith("\n") or len(self._pending) > LONGEST_NOTICE:
                    self.finish()

    def finish(self) -> None:
        """Send what is pending, whether its line has an end or not."""
        with self._lock:
            text, self._pending = self._pending, ""
            if text:
                self._notices.notify(text)


def _boundary(content: bytes, position: int) -> int:
    """Return where the character at a position of UTF-8 text begins."""
    while position > 0 and position < len(content) and content[position] & 0xC0 == 0x80:
        position -= 1
    return position


class Stream(io.TextIOBase):
    """sys.stdout or sys.stderr of a script."""

    encoding = "utf-8"
    errors = "replace"
    line_buffering = True

    def __init__(self, lines: Lines, descriptor: int, before: Callable[[], object]) -> None:
        self._lines = lines
        self._descriptor = descriptor
        self._before = before  # takes what came through the pipe, so that lines keep their order
        self.name = {1: "<stdout>", 2: "<stderr>"}[descriptor]
        self.mode = "w"
        self.buffer: Any = _Bytes(self)

    def writable(self) -> bool:
        """Tell that it can be written."""
        return True

    def fileno(self) -> int:
        """Return the descriptor that a subprocess may print to."""
        return self._descriptor

    def write(self, text: str) -> int:
        """Print text."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if not self._lines.dropped:
            with uninterrupted():
                if text.endswith("\n"):
                    self._before()
                self._lines.write(text)
        return len(text)

    def reconfigure(self, **options: Any) -> None:
        """Do nothing: the encoding is UTF-8, and lines are sent at once."""


class _Bytes(io.BufferedIOBase):
    """sys.stdout.buffer of a script."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._stream.fileno()

    def write(self, content: Any) -> int:
        view = memoryview(content)
        self._stream.write(self._decoder.decode(view.tobytes()))
        return view.nbytes


class Pipe:
    """Descriptors 1 and 2 of a script, and the thread that drains them."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._lock = threading.Lock()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._open = True
        self._read_end, write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        for number in (1, 2):
            os.dup2(write_end, number)
        os.close(write_end)

    def start(self) -> None:
        """Start the thread; it needs no end, the process' is its own."""
        # From Python 3.12 on every fork of the script's would warn of this thread, which its child does not need.
        warnings.filterwarnings("ignore", r"This process \(pid=\d+\) is multi-threaded", DeprecationWarning)
        _thread.start_new_thread(self._drain, ())

    def take(self, most: int = PRINTED_AT_MOST) -> None:
        """Take what has come, without waiting; does nothing while the thread is at it."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            while self._open and most > 0:
                try:
                    content = os.read(self._read_end, LONGEST_NOTICE)
                except BlockingIOError:
                    return
                if not content:
                    return
                most -= len(content)
                self._lines.write(self._decoder.decode(content))
        finally:
            self._lock.release()

    def close(self) -> None:
        """Take the last of it; what processes left behind print from now on goes nowhere."""
        ctypes.CDLL(None).fflush(None)
        null = os.open(os.devnull, os.O_WRONLY)
        for number in (1, 2):
            os.dup2(null, number)
        os.close(null)
        while self._lock.locked():  # the thread is about to send what it has read
            select.select([], [], [], 0.001)
        self.take()
        with self._lock:
            self._open = False
        self._lines.finish()

    def _drain(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # signals are for the script's own thread
        poll = select.poll()
        poll.register(self._read_end, select.POLLIN)
        while self._open:
            poll.poll()
            self.take()


@contextlib.contextmanager
def capture(send: Send, most: int = PRINTED_AT_MOST) -> Iterator[None]:
    """Turn what is printed inside into notices, so many bytes at the most."""
    notices = Notices(send, most)
    lines = Lines(notices)
    pipe = Pipe(Lines(notices))
    pipe.start()
    os.register_at_fork(after_in_child=_print_plainly)
    sys.stdout = Stream(lines, 1, pipe.take)
    sys.stderr = Stream(lines, 2, pipe.take)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # the script is over, and so are its handlers
        pipe.close()
        lines.finish()
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__


def _print_plainly() -> None:
    """Let a process that a script has forked print through the pipe: the socket is its parent's."""
    for name, number in (("stdout", 1), ("stderr", 2)):
        raw = io.BufferedWriter(io.FileIO(number, "w", closefd=False))
        setattr(sys, name, io.TextIOWrapper(raw, encoding="utf-8", errors="replace", line_buffering=True))
