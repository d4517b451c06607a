"""The end of what a service has printed, for the database: a few lines, each once."""

from __future__ import annotations

import threading
from collections import deque

LONGEST_LINE = 4000
LONGEST = 64_000  # characters in all


class Tail:
    """The last lines that came from any thread."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque()
        self._size = 0
        self._lock = threading.Lock()
        self.count = 0  # of all lines: another number means that there is something new

    def add(self, line: str) -> None:
        """Keep a line, and forget the oldest ones."""
        text = line.rstrip("\n").replace("\x00", "\ufffd")[:LONGEST_LINE]
        with self._lock:
            self._lines.append(text)
            self._size += len(text) + 1
            self.count += 1
            while self._size > LONGEST:
                self._size -= len(self._lines.popleft()) + 1

    def text(self) -> str:
        """Return the lines."""
        with self._lock:
            return "".join(f"{line}\n" for line in self._lines)
