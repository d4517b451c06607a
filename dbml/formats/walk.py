"""Walk a pickle's opcodes without loading it: what it imports, what it calls, and how it is made.

The walk keeps a picture of the unpickler's stack and memo in which only texts and imports are told apart; it imports
nothing and makes no object of the pickle's.  It is bounded in time and memory whatever the bytes are: an opcode costs
a fixed time, and Limits ends the walk.

Source: CPython Lib/pickletools.py (the table of opcodes), Lib/pickle.py (_Unpickler), Modules/_pickle.c.
"""

from __future__ import annotations

import _compat_pickle
import bz2
import lzma
import pickletools
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from dbml.formats.verdicts import DANGEROUS, UNKNOWN, UNTOLD, verdict_of

LONGEST_NAME = 1000


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


class _Thing:
    """What else stands on the stack: MARK, or an object that is not told from others."""


MARK, OTHER = _Thing(), _Thing()
Entry = str | Import | _Thing


@dataclass
class _Walk:
    content: memoryview
    limits: Limits
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
        content, end, at, left = self.content, len(self.content), 0, self.left
        while at < end:
            left[0] -= 1
            if left[0] < 0:
                raise End(f"it has more than {self.limits.opcodes} opcodes")
            step = _STEPS[content[at]]
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
        return Import(self._add(_plain(module), _plain(name), verdict_of(module, name), text))

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
        inner = _Walk(content, self.limits, {}, self.left, self.depth + 1, "in a pickle within")
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


Step = Callable[[_Walk, int], int]

# A pickle of protocol 2 or later, or of an earlier one that begins with an import.
_FIRST = frozenset(b"\x80(ci\x8c")
_PICKLE = re.compile(rb"\x80[\x02-\x05]|\(*[ci][A-Za-z_][\w.]*\n[\w.]+\n|\(*\x8c")


def _plain(text: str) -> str:
    """Return a name as text that can be shown and kept."""
    return text.encode("utf-8", "replace").decode().replace("\x00", "\ufffd")


def _sized(width: int, keep: Callable[[_Walk, memoryview], Entry]) -> Step:
    def step(walk: _Walk, at: int) -> int:
        size = walk.number(at, width)
        walk.stack.append(keep(walk, walk.bytes_at(at + width, size)))
        return at + width + size

    return step


def _as_text(walk: _Walk, content: memoryview) -> Entry:
    if len(content) > 4 * LONGEST_NAME:
        walk.within(content)
        return OTHER
    try:
        text = str(content, "utf-8", "surrogatepass")
    except UnicodeDecodeError:
        raise End("a text in it is no UTF-8") from None
    walk.within(content)
    return text


def _as_latin(walk: _Walk, content: memoryview) -> Entry:
    """Keep a text of Python 2, which pickle.loads decodes as ASCII."""
    walk.within(content)
    return str(content, "ascii", "replace") if len(content) <= 4 * LONGEST_NAME else OTHER


def _as_bytes(walk: _Walk, content: memoryview) -> Entry:
    walk.within(content)
    return OTHER


def _lined(keep: Callable[[_Walk, bytes], Entry]) -> Step:
    def step(walk: _Walk, at: int) -> int:
        line, at = walk.line(at)
        walk.stack.append(keep(walk, line))
        return at

    return step


def _unicode_line(walk: _Walk, line: bytes) -> Entry:
    if len(line) > 6 * LONGEST_NAME:
        return OTHER
    try:
        return line.decode("raw-unicode-escape")
    except UnicodeDecodeError:
        raise End("a text in it is not escaped as it should be") from None


def _string_line(walk: _Walk, line: bytes) -> Entry:
    text = line.strip()
    if len(text) < 2 or text[:1] not in b"\"'" or text[-1:] != text[:1]:
        raise End("a text in it is not quoted as it should be")
    if b"\\" in text or len(text) > 4 * LONGEST_NAME:
        walk.within(memoryview(text[1:-1].replace(b"\\n", b"\n")))
        return OTHER
    walk.within(memoryview(text[1:-1]))
    return text[1:-1].decode("ascii", "replace")


def _global(walk: _Walk, at: int) -> int:
    module, at = walk.line(at)
    name, at = walk.line(at)
    walk.stack.append(walk.imported(module.decode("utf-8", "replace"), name.decode("utf-8", "replace")))
    return at


def _inst(walk: _Walk, at: int) -> int:
    at = _global(walk, at)
    made = walk.pop()
    walk.pop_mark()
    walk.called(made)
    walk.stack.append(OTHER)
    return at


def _obj(walk: _Walk, at: int) -> int:
    above = walk.pop_mark()
    if not above:
        raise End("its stack is empty where something is taken")
    walk.called(above[0])
    walk.stack.append(OTHER)
    return at


def _stack_global(walk: _Walk, at: int) -> int:
    name, module = walk.pop(), walk.pop()
    if isinstance(name, str) and isinstance(module, str):
        walk.stack.append(walk.imported(module, name))
        return at
    known = module if isinstance(module, str) else name if isinstance(name, str) else None
    told = "" if known is None else f", one part of it is {_plain(known)[:100]!r}"
    walk.note(UNTOLD, "imports a name that it computes" + told, 1)
    walk.stack.append(OTHER)
    return at


def _calls(arguments: int) -> Step:
    def step(walk: _Walk, at: int) -> int:
        for _ in range(arguments):
            walk.pop()
        walk.called(walk.pop())
        walk.stack.append(OTHER)
        return at

    return step


def _build(walk: _Walk, at: int) -> int:
    walk.pop()
    built = walk.stack[-1] if walk.stack else None
    if built is None:
        raise End("its stack is empty where something is taken")
    if isinstance(built, Import):
        walk.note(DANGEROUS, f"sets attributes of what it imports: {built.found.module}.{built.found.name}", 1)
    return at


def _fills(walk: _Walk, slots: int) -> None:
    """Put items into what stands on top: into something imported, that is an attack."""
    if not walk.stack:
        raise End("its stack is empty where something is taken")
    built = walk.stack[-1]
    if isinstance(built, Import):
        walk.note(DANGEROUS, f"changes what it imports: {built.found.module}.{built.found.name}", slots)


def _fill_marked(walk: _Walk, at: int) -> int:
    _fills(walk, len(walk.pop_mark()))
    return at


def _fill(slots: int) -> Step:
    def step(walk: _Walk, at: int) -> int:
        for _ in range(slots):
            walk.pop()
        _fills(walk, slots)
        return at

    return step


def _put(width: int | None) -> Step:
    def step(walk: _Walk, at: int) -> int:
        if width is None:
            line, at = walk.line(at)
            walk.remember(_index(line))
            return at
        walk.remember(walk.number(at, width))
        return at + width

    return step


def _get(width: int | None) -> Step:
    def step(walk: _Walk, at: int) -> int:
        if width is None:
            line, at = walk.line(at)
            walk.recall(_index(line))
            return at
        walk.recall(walk.number(at, width))
        return at + width

    return step


def _index(line: bytes) -> int:
    try:
        if len(line) <= 20:
            return int(line)
    except ValueError:
        pass
    raise End("a place in its memo is no number")


def _memoize(walk: _Walk, at: int) -> int:
    walk.remember(len(walk.memo))
    return at


def _protocol(walk: _Walk, at: int) -> int:
    walk.protocol = walk.number(at, 1)
    if walk.protocol > 5:
        raise End(f"its protocol is {walk.protocol}, which is not known")
    return at + 1


def _stop(walk: _Walk, at: int) -> int:
    if not walk.stack:
        raise End("its stack is empty where something is taken")
    return -at


def _pop(walk: _Walk, at: int) -> int:
    walk.pop()
    return at


def _pop_mark(walk: _Walk, at: int) -> int:
    walk.pop_mark()
    return at


def _mark(walk: _Walk, at: int) -> int:
    walk.stack.append(MARK)
    return at


def _dup(walk: _Walk, at: int) -> int:
    if not walk.stack:
        raise End("its stack is empty where something is taken")
    walk.stack.append(walk.stack[-1])
    return at


def _extension(width: int) -> Step:
    def step(walk: _Walk, at: int) -> int:
        walk.note(UNTOLD, f"imports by the number {walk.number(at, width)} of copyreg's registry", 1)
        walk.stack.append(OTHER)
        return at + width

    return step


def _persistent(walk: _Walk, at: int) -> int:
    _, at = walk.line(at)
    walk.note(UNKNOWN, "asks for a persistent object, which nothing here gives", 1)
    walk.stack.append(OTHER)
    return at


def _persistent_popped(walk: _Walk, at: int) -> int:
    walk.pop()
    walk.note(UNKNOWN, "asks for a persistent object, which nothing here gives", 1)
    walk.stack.append(OTHER)
    return at


def _buffer(walk: _Walk, at: int) -> int:
    walk.note(UNKNOWN, "asks for a buffer beside it, which nothing here gives", 1)
    walk.stack.append(OTHER)
    return at


def _frame(walk: _Walk, at: int) -> int:
    if at - 1 < walk.frame_end:
        raise End(f"a frame begins at byte {at - 1}, within another")
    size = walk.number(at, 8)
    walk.bytes_at(at + 8, size)
    walk.frame_end = at + 8 + size
    return at + 8


def _keep_top(walk: _Walk, at: int) -> int:
    return at


def _skip(width: int) -> Step:
    def step(walk: _Walk, at: int) -> int:
        walk.bytes_at(at, width)
        walk.stack.append(OTHER)
        return at + width

    return step


def _gather(walk: _Walk, at: int) -> int:
    walk.pop_mark()
    walk.stack.append(OTHER)
    return at


def _tuple(size: int) -> Step:
    def step(walk: _Walk, at: int) -> int:
        for _ in range(size):
            walk.pop()
        walk.stack.append(OTHER)
        return at

    return step


def _long(width: int) -> Step:
    return _sized(width, lambda walk, content: OTHER)


_BY_NAME: dict[str, Step] = {
    "INT": _lined(lambda walk, line: OTHER), "BININT": _skip(4), "BININT1": _skip(1), "BININT2": _skip(2),
    "LONG": _lined(lambda walk, line: OTHER), "LONG1": _long(1), "LONG4": _long(4),
    "FLOAT": _lined(lambda walk, line: OTHER), "BINFLOAT": _skip(8),
    "STRING": _lined(_string_line), "BINSTRING": _sized(4, _as_latin), "SHORT_BINSTRING": _sized(1, _as_latin),
    "BINBYTES": _sized(4, _as_bytes), "SHORT_BINBYTES": _sized(1, _as_bytes), "BINBYTES8": _sized(8, _as_bytes),
    "BYTEARRAY8": _sized(8, _as_bytes), "NEXT_BUFFER": _buffer, "READONLY_BUFFER": _keep_top,
    "NONE": _skip(0), "NEWTRUE": _skip(0), "NEWFALSE": _skip(0),
    "UNICODE": _lined(_unicode_line), "SHORT_BINUNICODE": _sized(1, _as_text), "BINUNICODE": _sized(4, _as_text),
    "BINUNICODE8": _sized(8, _as_text),
    "EMPTY_LIST": _skip(0), "APPEND": _fill(1), "APPENDS": _fill_marked, "LIST": _gather,
    "EMPTY_TUPLE": _skip(0), "TUPLE": _gather, "TUPLE1": _tuple(1), "TUPLE2": _tuple(2), "TUPLE3": _tuple(3),
    "EMPTY_DICT": _skip(0), "DICT": _gather, "SETITEM": _fill(2), "SETITEMS": _fill_marked,
    "EMPTY_SET": _skip(0), "ADDITEMS": _fill_marked, "FROZENSET": _gather,
    "POP": _pop, "DUP": _dup, "MARK": _mark, "POP_MARK": _pop_mark,
    "GET": _get(None), "BINGET": _get(1), "LONG_BINGET": _get(4),
    "PUT": _put(None), "BINPUT": _put(1), "LONG_BINPUT": _put(4), "MEMOIZE": _memoize,
    "EXT1": _extension(1), "EXT2": _extension(2), "EXT4": _extension(4),
    "GLOBAL": _global, "STACK_GLOBAL": _stack_global, "REDUCE": _calls(1), "BUILD": _build, "INST": _inst, "OBJ": _obj,
    "NEWOBJ": _calls(1), "NEWOBJ_EX": _calls(2), "PROTO": _protocol, "STOP": _stop, "FRAME": _frame,
    "PERSID": _persistent, "BINPERSID": _persistent_popped,
}  # fmt: skip
_CODES = {ord(opcode.code): opcode.name for opcode in pickletools.opcodes}
_STEPS: list[Step | None] = [_BY_NAME[_CODES[code]] if code in _CODES else None for code in range(256)]


def walk(content: bytes | memoryview, limits: Limits = Limits()) -> list[Found]:
    """Return what a pickle imports and how often it calls it, and remarks on it, in the order in which they come.

    Bytes that are no pickle give a remark too, whose verdict is `UNTOLD`; so do those that are cut short.
    """
    whole = memoryview(content)
    found: dict[tuple[str | None, str | None, str | None], Found] = {}
    packing = _packing(bytes(whole[:6]))
    if packing is not None:
        name, unpack = packing
        remark = Found(None, None, UNTOLD, 0, f"{name}-compressed, as joblib.dump does: pickle.loads does not read it")
        found[None, None, remark.note] = remark
        try:
            whole = memoryview(unpack(whole, limits.unpacked))
        except End as end:
            remark.note = f"{remark.note}; {end}"
            return list(found.values())
        except (zlib.error, lzma.LZMAError, OSError, EOFError):
            del found[None, None, remark.note]  # it only looked like that
    going = _Walk(whole, limits, found, [limits.opcodes])
    try:
        behind = going.run()
        if behind < len(whole):
            key = (None, None, "behind")
            found[key] = Found(
                None, None, UNKNOWN, 0, f"{len(whole) - behind} bytes follow its end, which pickle.loads does not read"
            )
    except End as end:
        array = any(one.name == "NumpyArrayWrapper" for one in found.values())
        why = (
            "made by joblib.dump, with arrays that stand bare among the opcodes: pickle.loads does not read it"
            if array
            else str(end)
        )
        found[None, None, "end"] = Found(None, None, UNTOLD, 0, why)
    return list(found.values())


def _packing(head: bytes) -> tuple[str, Callable[[memoryview, int], bytes]] | None:
    """Find what bytes are compressed with, and what unpacks them."""
    if head[:1] == b"\x78" and len(head) > 1 and (head[0] << 8 | head[1]) % 31 == 0:
        return "zlib", lambda content, most: _unpack(zlib.decompressobj().decompress(content, most + 1), most)
    if head[:2] == b"\x1f\x8b":
        return "gzip", lambda content, most: _unpack(zlib.decompressobj(31).decompress(content, most + 1), most)
    if re.match(rb"BZh[1-9]1A", head):
        return "bz2", lambda content, most: _unpack(bz2.BZ2Decompressor().decompress(content, most + 1), most)
    if head[:6] == b"\xfd7zXZ\x00" or head[:3] == b"\x5d\x00\x00":
        return "xz", lambda content, most: _unpack(lzma.LZMADecompressor(memlimit=1 << 28).decompress(content, most + 1), most)
    return None


def _unpack(unpacked: bytes, most: int) -> bytes:
    if len(unpacked) > most:
        raise End(f"it has more than {most} bytes when it is unpacked")
    return unpacked


def names(found: list[Found]) -> Iterator[tuple[str, str]]:
    """Yield the names that are imported, those of pickles within too."""
    for one in found:
        if one.module is not None and one.name is not None:
            yield one.module, one.name
