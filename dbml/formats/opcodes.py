"""What each opcode of a pickle does to the picture that a walk keeps.

Source: CPython Lib/pickletools.py (the table of opcodes), Lib/pickle.py (_Unpickler), Modules/_pickle.c.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable

from dbml.formats.picture import LONGEST_NAME, MARK, OTHER, End, Entry, Import, Step, Walk, plain
from dbml.formats.verdicts import DANGEROUS, UNKNOWN, UNTOLD


def _sized(width: int, keep: Callable[[Walk, memoryview], Entry]) -> Step:
    def step(walk: Walk, at: int) -> int:
        size = walk.number(at, width)
        walk.stack.append(keep(walk, walk.bytes_at(at + width, size)))
        return at + width + size

    return step


def _as_text(walk: Walk, content: memoryview) -> Entry:
    if len(content) > 4 * LONGEST_NAME:
        walk.within(content)
        return OTHER
    try:
        text = str(content, "utf-8", "surrogatepass")
    except UnicodeDecodeError:
        raise End("a text in it is no UTF-8") from None
    walk.within(content)
    return text


def _as_latin(walk: Walk, content: memoryview) -> Entry:
    """Keep a text of Python 2, which pickle.loads decodes as ASCII."""
    walk.within(content)
    return str(content, "ascii", "replace") if len(content) <= 4 * LONGEST_NAME else OTHER


def _as_bytes(walk: Walk, content: memoryview) -> Entry:
    walk.within(content)
    return OTHER


def _lined(keep: Callable[[Walk, bytes], Entry]) -> Step:
    def step(walk: Walk, at: int) -> int:
        line, at = walk.line(at)
        walk.stack.append(keep(walk, line))
        return at

    return step


def _unicode_line(walk: Walk, line: bytes) -> Entry:
    if len(line) > 6 * LONGEST_NAME:
        return OTHER
    try:
        return line.decode("raw-unicode-escape")
    except UnicodeDecodeError:
        raise End("a text in it is not escaped as it should be") from None


def _string_line(walk: Walk, line: bytes) -> Entry:
    text = line.strip()
    if len(text) < 2 or text[:1] not in b"\"'" or text[-1:] != text[:1]:
        raise End("a text in it is not quoted as it should be")
    if b"\\" in text or len(text) > 4 * LONGEST_NAME:
        walk.within(memoryview(text[1:-1].replace(b"\\n", b"\n")))
        return OTHER
    walk.within(memoryview(text[1:-1]))
    return text[1:-1].decode("ascii", "replace")


def _global(walk: Walk, at: int) -> int:
    module, at = walk.line(at)
    name, at = walk.line(at)
    walk.stack.append(walk.imported(module.decode("utf-8", "replace"), name.decode("utf-8", "replace")))
    return at


def _inst(walk: Walk, at: int) -> int:
    at = _global(walk, at)
    made = walk.pop()
    walk.pop_mark()
    walk.called(made)
    walk.stack.append(OTHER)
    return at


def _obj(walk: Walk, at: int) -> int:
    above = walk.pop_mark()
    if not above:
        raise End("its stack is empty where something is taken")
    walk.called(above[0])
    walk.stack.append(OTHER)
    return at


def _stack_global(walk: Walk, at: int) -> int:
    name, module = walk.pop(), walk.pop()
    if isinstance(name, str) and isinstance(module, str):
        walk.stack.append(walk.imported(module, name))
        return at
    known = module if isinstance(module, str) else name if isinstance(name, str) else None
    told = "" if known is None else f", one part of it is {plain(known)[:100]!r}"
    walk.note(UNTOLD, "imports a name that it computes" + told, 1)
    walk.stack.append(OTHER)
    return at


def _calls(arguments: int) -> Step:
    def step(walk: Walk, at: int) -> int:
        for _ in range(arguments):
            walk.pop()
        walk.called(walk.pop())
        walk.stack.append(OTHER)
        return at

    return step


def _build(walk: Walk, at: int) -> int:
    walk.pop()
    built = walk.stack[-1] if walk.stack else None
    if built is None:
        raise End("its stack is empty where something is taken")
    if isinstance(built, Import):
        walk.note(DANGEROUS, f"sets attributes of what it imports: {built.found.module}.{built.found.name}", 1)
    return at


def _fills(walk: Walk, slots: int) -> None:
    """Put items into what stands on top: into something imported, that is an attack."""
    if not walk.stack:
        raise End("its stack is empty where something is taken")
    built = walk.stack[-1]
    if isinstance(built, Import):
        walk.note(DANGEROUS, f"changes what it imports: {built.found.module}.{built.found.name}", slots)


def _fill_marked(walk: Walk, at: int) -> int:
    _fills(walk, len(walk.pop_mark()))
    return at


def _fill(slots: int) -> Step:
    def step(walk: Walk, at: int) -> int:
        for _ in range(slots):
            walk.pop()
        _fills(walk, slots)
        return at

    return step


def _at_memo(do: Callable[[Walk, int], None], width: int | None) -> Step:
    """Do something with a place in the memo; width: of its number in bytes, None where it is a line."""

    def step(walk: Walk, at: int) -> int:
        if width is None:
            line, at = walk.line(at)
            do(walk, _index(line))
            return at
        do(walk, walk.number(at, width))
        return at + width

    return step


def _index(line: bytes) -> int:
    try:
        if len(line) <= 20:
            return int(line)
    except ValueError:
        pass
    raise End("a place in its memo is no number")


def _memoize(walk: Walk, at: int) -> int:
    walk.remember(len(walk.memo))
    return at


def _protocol(walk: Walk, at: int) -> int:
    walk.protocol = walk.number(at, 1)
    if walk.protocol > 5:
        raise End(f"its protocol is {walk.protocol}, which is not known")
    return at + 1


def _stop(walk: Walk, at: int) -> int:
    if not walk.stack:
        raise End("its stack is empty where something is taken")
    return -at


def _pop(walk: Walk, at: int) -> int:
    walk.pop()
    return at


def _pop_mark(walk: Walk, at: int) -> int:
    walk.pop_mark()
    return at


def _mark(walk: Walk, at: int) -> int:
    walk.stack.append(MARK)
    return at


def _dup(walk: Walk, at: int) -> int:
    if not walk.stack:
        raise End("its stack is empty where something is taken")
    walk.stack.append(walk.stack[-1])
    return at


def _extension(width: int) -> Step:
    def step(walk: Walk, at: int) -> int:
        walk.note(UNTOLD, f"imports by the number {walk.number(at, width)} of copyreg's registry", 1)
        walk.stack.append(OTHER)
        return at + width

    return step


def _persistent(walk: Walk, at: int) -> int:
    _, at = walk.line(at)
    walk.note(UNKNOWN, "asks for a persistent object, which nothing here gives", 1)
    walk.stack.append(OTHER)
    return at


def _persistent_popped(walk: Walk, at: int) -> int:
    walk.pop()
    walk.note(UNKNOWN, "asks for a persistent object, which nothing here gives", 1)
    walk.stack.append(OTHER)
    return at


def _buffer(walk: Walk, at: int) -> int:
    walk.note(UNKNOWN, "asks for a buffer beside it, which nothing here gives", 1)
    walk.stack.append(OTHER)
    return at


def _frame(walk: Walk, at: int) -> int:
    if at - 1 < walk.frame_end:
        raise End(f"a frame begins at byte {at - 1}, within another")
    size = walk.number(at, 8)
    walk.bytes_at(at + 8, size)
    walk.frame_end = at + 8 + size
    return at + 8


def _keep_top(walk: Walk, at: int) -> int:
    return at


def _skip(width: int) -> Step:
    def step(walk: Walk, at: int) -> int:
        walk.bytes_at(at, width)
        walk.stack.append(OTHER)
        return at + width

    return step


def _gather(walk: Walk, at: int) -> int:
    walk.pop_mark()
    walk.stack.append(OTHER)
    return at


def _tuple(size: int) -> Step:
    def step(walk: Walk, at: int) -> int:
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
    "GET": _at_memo(Walk.recall, None), "BINGET": _at_memo(Walk.recall, 1), "LONG_BINGET": _at_memo(Walk.recall, 4),
    "PUT": _at_memo(Walk.remember, None), "BINPUT": _at_memo(Walk.remember, 1), "LONG_BINPUT": _at_memo(Walk.remember, 4),
    "MEMOIZE": _memoize,
    "EXT1": _extension(1), "EXT2": _extension(2), "EXT4": _extension(4),
    "GLOBAL": _global, "STACK_GLOBAL": _stack_global, "REDUCE": _calls(1), "BUILD": _build, "INST": _inst, "OBJ": _obj,
    "NEWOBJ": _calls(1), "NEWOBJ_EX": _calls(2), "PROTO": _protocol, "STOP": _stop, "FRAME": _frame,
    "PERSID": _persistent, "BINPERSID": _persistent_popped,
}  # fmt: skip
_CODES = {ord(opcode.code): opcode.name for opcode in pickletools.opcodes}
STEPS: list[Step | None] = [_BY_NAME[_CODES[code]] if code in _CODES else None for code in range(256)]
