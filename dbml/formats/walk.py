"""Walk a pickle's opcodes without loading it: what it imports, what it calls, and how it is made.

The walk keeps a picture of the unpickler's stack and memo in which only texts and imports are told apart; it imports
nothing and makes no object of the pickle's.  It is bounded in time and memory whatever the bytes are: an opcode costs
a fixed time, and Limits ends the walk.
"""

from __future__ import annotations

import bz2
import lzma
import re
import zlib
from collections.abc import Callable, Iterator

from dbml.formats.opcodes import STEPS
from dbml.formats.picture import End, Found, Limits, Walk
from dbml.formats.verdicts import UNKNOWN, UNTOLD


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
    going = Walk(whole, limits, STEPS, found, [limits.opcodes])
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
