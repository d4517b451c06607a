"""The picture that a walk over a pickle keeps: what stands on the unpickler's stack, what its memo holds, what was found.

Only texts and imports are told apart in it; it imports nothing and makes no object of the pickle's.
"""

from __future__ import annotations

import _compat_pickle
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from dbml.formats.verdicts import DANGEROUS, UNTOLD, verdict_of

LONGEST_NAME = 1000

# A pickle of protocol 2 or later, or of an earlier one that begins with an import.
_FIRST = frozenset(b"\x80(ci\x8c")
_PICKLE = re.compile(rb"\x80[\x02-\x05]|\(*[ci][A-Za-z_][\w.]*\n[\w.]+\n|\(*\x8c")


@dataclass(frozen=True)
class Limits:
    """Where a walk ends: opcodes, names, entries of stack and memo; depth of pickles in pickles; bytes unpacked."""

    opcodes: int = 20_000_000
    names: int = 10_000
    entries: int = 4_000_000
    depth: int = 3
    unpacked: int = 1 << 30


@dataclass
class Found:
    """Something that a pickle imports, or a remark on it, of which module and name are None."""

    module: str | None
    name: str | None
    verdict: str
    calls: int = 0
    note: str | None = None


class Import:
    """An imported object on the stack."""

    __slots__ = ("found",)

    def __init__(self, found: Found) -> None:
        self.found = found


class End(Exception):
    """The walk ends before the pickle's end; the text says why."""


class Thing:
    """What else stands on the stack: MARK, or an object that is not told from others."""


MARK, OTHER = Thing(), Thing()
Entry = str | Import | Thing


@dataclass
class Walk:
    """A walk, and the picture of stack and memo that it keeps.

    steps: by opcode, what it does to the picture; None where there is no such opcode.
    """

    content: memoryview
    limits: Limits
    steps: Sequence[Step | None]
    found: dict[tuple[str | None, str | None, str | None], Found]
    left: list[int]  # opcodes, shared with the pickles within
    depth: int = 0
    where: str | None = None
    stack: list[Entry] = field(default_factory=list)
    memo: dict[int, Entry] = field(default_factory=dict)
    protocol: int = 0
    frame_end: int = 0  # where the last frame ends; unpicklers that read a file drop what stands across it

    def run(self) -> int:
        """Walk to STOP; returns the position behind it.

        Raises: End.
        """
        content, end, at, left, steps = self.content, len(self.content), 0, self.left, self.steps
        while at < end:
            left[0] -= 1
            if left[0] < 0:
                raise End(f"it has more than {self.limits.opcodes} opcodes")
            step = steps[content[at]]
            if step is None:
                raise End(f"{'no pickle' if at == 0 else 'no opcode'} at byte {at}: 0x{content[at]:02x}")
            frame_end = self.frame_end
            behind = step(self, at + 1)
            if at < frame_end < abs(behind):
                raise End(f"an opcode at byte {at} stands across the end of a frame")
            if behind < 0:
                return -behind
            at = behind
            if len(self.stack) > self.limits.entries:
                raise End(f"its stack has more than {self.limits.entries} entries")
        raise End(f"it is cut short after {end} bytes" if end else "it is empty")

    # -- what is found -------------------------------------------------------------------------------------------

    def note(self, verdict: str, text: str, calls: int = 0) -> None:
        """Remark on something."""
        self._add(None, None, verdict, text).calls += calls

    def _add(self, module: str | None, name: str | None, verdict: str, text: str | None) -> Found:
        if self.where is not None:
            text = self.where if text is None else f"{self.where}: {text}"
        key = (module, name, text)
        found = self.found.get(key)
        if found is None:
            if len(self.found) >= self.limits.names:
                raise End(f"it imports more than {self.limits.names} names")
            found = self.found[key] = Found(module, name, verdict, 0, text)
        return found

    def imported(self, module: str, name: str) -> Import:
        """Take note of an import, by the name that Python 3 has for it."""
        if len(module) > LONGEST_NAME or len(name) > LONGEST_NAME:
            raise End(f"a name in it has more than {LONGEST_NAME} characters")
        text = None
        if self.protocol < 3:  # as Unpickler.find_class does with fix_imports
            asked = (module, name)
            if asked in _compat_pickle.NAME_MAPPING:
                module, name = _compat_pickle.NAME_MAPPING[asked]
            elif module in _compat_pickle.IMPORT_MAPPING:
                module = _compat_pickle.IMPORT_MAPPING[module]
        return Import(self._add(plain(module), plain(name), verdict_of(module, name), text))

    def called(self, entry: Entry) -> None:
        """Take note of a call."""
        if isinstance(entry, Import):
            entry.found.calls += 1
        else:
            self.note(UNTOLD, "calls what a call has returned", 1)

    def within(self, content: memoryview) -> None:
        """Walk bytes that a pickle holds, where they are a pickle themselves; other bytes are nothing."""
        if not content or content[0] not in _FIRST or self.depth >= self.limits.depth or not _PICKLE.match(content[:200]):
            return
        inner = Walk(content, self.limits, self.steps, {}, self.left, self.depth + 1, "in a pickle within")
        try:
            inner.run()
        except End:
            if self.left[0] < 0:
                raise
            if all(one.verdict != DANGEROUS for one in inner.found.values()):
                return  # else a fragment that would run something before it ends badly
        for one in inner.found.values():
            self._add(one.module, one.name, one.verdict, one.note).calls += one.calls

    # -- stack and memo ------------------------------------------------------------------------------------------

    def pop(self) -> Entry:
        """Take the top of the stack."""
        if not self.stack:
            raise End("its stack is empty where something is taken")
        return self.stack.pop()

    def pop_mark(self) -> list[Entry]:
        """Take what stands above the last mark, and the mark."""
        stack = self.stack
        at = len(stack) - 1
        while at >= 0 and stack[at] is not MARK:
            at -= 1
        if at < 0:
            raise End("its stack has no mark where one is looked for")
        above = stack[at + 1 :]
        del stack[at:]
        return above

    def remember(self, key: int) -> None:
        """Put the top of the stack into the memo."""
        if not self.stack:
            raise End("its stack is empty where something is remembered")
        self.memo[key] = self.stack[-1]
        if len(self.memo) > self.limits.entries:
            raise End(f"its memo has more than {self.limits.entries} entries")

    def recall(self, key: int) -> None:
        """Push what the memo has."""
        try:
            self.stack.append(self.memo[key])
        except KeyError:
            raise End(f"its memo has no entry {key}") from None

    def number(self, at: int, size: int) -> int:
        """Read an unsigned little-endian number."""
        if at + size > len(self.content):
            raise End(f"it is cut short after {len(self.content)} bytes")
        return int.from_bytes(self.content[at : at + size], "little")

    def bytes_at(self, at: int, size: int) -> memoryview:
        """Return so many bytes."""
        if size < 0 or at + size > len(self.content):
            raise End(f"it is cut short after {len(self.content)} bytes")
        return self.content[at : at + size]

    def line(self, at: int) -> tuple[bytes, int]:
        """Read up to a line feed; returns it without, and the position behind it."""
        end = at
        size = LONGEST_NAME
        while True:
            piece = bytes(self.content[end : end + size])
            found = piece.find(b"\n")
            if found >= 0:
                end += found
                return bytes(self.content[at:end]), end + 1
            end += len(piece)
            if len(piece) < size:
                raise End(f"it is cut short after {len(self.content)} bytes")
            size *= 2


Step = Callable[[Walk, int], int]  # takes the position behind the opcode; returns the one behind what it has read, -it at STOP


def plain(text: str) -> str:
    """Return a name as text that can be shown and kept."""
    return text.encode("utf-8", "replace").decode().replace("\x00", "\ufffd")
