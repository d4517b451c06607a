"""What is fuzzed: for each reader of bytes, valid samples to begin with, and one function that feeds it one input.

A target may raise what the reader declares and nothing else: that is what `feed` lets pass.
"""

from __future__ import annotations

import _compat_pickle
import contextlib
import hashlib
import hmac
import io
import json
import pickle
import struct
import uuid
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dbml import columns, errors
from dbml.columns.kinds import FIXED, Column
from dbml.formats.picture import Limits
from dbml.formats.verdicts import DANGEROUS, HARMLESS, UNKNOWN, UNTOLD
from dbml.formats.walk import walk
from dbml.store.channel import PROTOCOL
from dbml.worker import wire
from dbml.worker.requests import Verifier, read_head, split

SECRET = bytes(range(64))
KINDS = (*FIXED, "numeric", "text", "json", "jsonb", "bytea", "textarray", "array:float8", "array:int4", "array:timestamptz")
MOST_ROWS = 1 << 20


@dataclass(frozen=True)
class Target:
    """One reader: its name, what feeds it, and valid samples."""

    name: str
    what: str
    feed: Callable[[bytes], object]
    samples: Sequence[bytes]
    modules: tuple[str, ...]  # whose branches guide the fuzzer


# ---------------------------------------------------------------- the wire protocol


def feed_wire(data: bytes) -> None:
    """Read a stream of messages, in pieces that its first byte chooses, and parse what each holds."""
    if not data:
        return
    step, data = 1 + data[0], data[1:]
    reader = wire.MessageReader(1 << 16)
    try:
        for start in range(0, len(data), step):
            reader.feed(data[start : start + step])
            while (found := reader.read()) is not None:
                kind, content = found
                if reader.startup:
                    reader.startup = isinstance(wire.parse_startup(content), wire.EncryptionRequest)
                elif kind == wire.PASSWORD:
                    wire.parse_sasl_first(content)
                elif kind == wire.QUERY:
                    for codec in (wire.UTF8, wire.find_codec("latin1"), wire.find_codec("sjis")):
                        wire.rows_reply([("x", None, codec.decode(content))], wire.UTF8)
                    verb, head, _ = split(content)
                    if verb == "abandon":
                        errors.from_fields(read_head(head)).fields()
            assert len(reader) <= (1 << 16) + 5 + step
    except (wire.ProtocolError, errors.ProtocolMismatch):
        pass


def _startup(**parameters: str) -> bytes:
    body = struct.pack("!i", 3 << 16) + b"".join(f"{k}\0{v}\0".encode() for k, v in parameters.items()) + b"\0"
    return struct.pack("!i", 4 + len(body)) + body


def _message(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack("!i", 4 + len(content)) + content


_HELLO = _startup(user="dbml", database="dbml", client_encoding="UTF8")
WIRE_SAMPLES = [
    bytes([step]) + _HELLO + rest for step in (0, 6, 255) for rest in (
        _message(b"p", b"SCRAM-SHA-256\0" + struct.pack("!i", 12) + b"n,,n=,r=abcd"), _message(b"Q", b"select 1\0"),
        _message(b"Q", b'rows {"n": 1}\n00ff\0') + _message(b"X", b""), _message(b"P", b"\0select 1\0\0\0") + _message(b"S", b""),
        _message(b"Q", b'abandon {"sqlstate": "ML001", "message": "m", "detail": "{\\"a\\": 1}", "hint": null}\0'),
        _message(b"Q", "grüße €\0".encode()), _message(b"d", b"abc") + _message(b"c", b"") + _message(b"f", b"no\0"),
    )
] + [
    b"\xff" + struct.pack("!ii", 8, 80877103) + _HELLO, b"\xff" + struct.pack("!iiii", 16, 80877102, 1, 2),
    b"\xff" + struct.pack("!ii", 8, 80877104),
]  # fmt: skip


# ---------------------------------------------------------------- the columnar decoder


def feed_columns(data: bytes) -> None:
    """Decode a chunk: the first bytes choose rows, columns and what is made of them, the rest is the body."""
    if len(data) < 6:
        return
    n = int.from_bytes(data[:3], "big") % MOST_ROWS if data[0] & 1 else data[2] % 8
    chosen = [KINDS[byte % len(KINDS)] for byte in data[3 : 3 + 1 + data[4] % 4]]
    body = data[3 + len(chosen) :]
    if data[1] & 1:  # as SQL sends it, but for what is in it
        body = b"\n".join(line.hex().encode() for line in body.split(b"\n"))
    told = [Column(f"c{i}", "t", kind) for i, kind in enumerate(chosen)]
    try:
        if data[1] & 2 and set(chosen) <= _NUMERIC:
            assert columns.decode_matrix(body, told, n).shape == (n, len(told))
        else:
            decoded = columns.decode_rows(body, told, n)
            if decoded and data[1] & 4:
                half = [part.rows(n // 3, n) for part in decoded]
                assert all(part.null is None or len(part.null) == n - n // 3 for part in half)
            if data[1] & 0x78 == 0x78:  # a frame takes a hundred times as long
                builder = columns.FrameBuilder(told)
                builder.add(decoded, n)
                assert len(builder.frame()) == n
    except (errors.ProtocolMismatch, errors.UnsupportedType):
        pass


_NUMERIC = {"bool", "int2", "int4", "int8", "float4", "float8"}


def _columns_samples() -> list[bytes]:
    made = []
    for number, kind in enumerate(KINDS):
        for flags in (1, 3, 5, 0x79):
            head = bytes([0, flags, 2, number, 0])
            if kind in FIXED:
                values = bytes(np.dtype(FIXED[kind]).itemsize * 2)
                made.append(head[:3] + bytes([number]) + b"\n" + values)
            else:
                value = {"numeric": b"\0\1\0\0\0\0\0\0\0\7", "json": b'{"a": 1}', "jsonb": b"[1]"}.get(kind, b"text")
                lengths = struct.pack("!ii", len(value), len(value))
                made.append(head[:3] + bytes([number]) + b"\n" + lengths + b"\n" + value + value)
            nulls = struct.pack("!i", 1) + b"\1"
            made.append(head[:3] + bytes([number]) + nulls + b"\n" + bytes(8))
    return made


# ---------------------------------------------------------------- the verifier of requests


class _Requests:
    """A verifier of its own, whose clock stands still; what is signed here is signed with its secret."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0
        self.ticks = 0.0
        self.verifier = Verifier(SECRET, lambda: self.now, ticks=lambda: self.ticks)

    def feed(self, data: bytes) -> None:
        """Open a request: as it came, or with the signature that its header should have."""
        if not data:
            return
        self.ticks += 1  # so that nonces are forgotten in time
        self.now += 1
        how, message = data[0], data[1:]
        verb, signed, _ = split(message)
        signature, _, header = signed.partition(b" ")
        if how & 1:
            if how & 2:  # else it is as old as its sample
                header = header.replace(b"1800000000", str(int(self.now) + 60).encode())
            signature = hmac.new(SECRET, header, hashlib.sha256).hexdigest().encode()
        try:
            request = self.verifier.open(signature, header)
        except (errors.WorkerRefused, errors.ProtocolMismatch):
            return
        assert how & 1, "a request that is not signed was taken"
        assert isinstance(request, dict) and verb is not None


def _request_samples() -> list[bytes]:
    header = {
        "kind": "score",
        "form": "row",
        "protocol": PROTOCOL,
        "user": "u",
        "nonce": str(uuid.UUID(int=7)),
        "expires": 1800000000,
    }
    texts = [
        json.dumps(header),
        json.dumps(header | {"expires": 1800000000.5, "kind": "ping"}),
        "{}",
        "[]",
        "null",
        '{"expires": NaN}',
    ]
    return [bytes([how]) + b"open " + b"0" * 64 + b" " + text.encode() + b"\nbody" for how in (0, 1, 3) for text in texts]


# ---------------------------------------------------------------- the walker of pickles


_WALK = Limits(opcodes=200_000, names=1000, entries=100_000, depth=3, unpacked=1 << 22)
_VERDICTS = {HARMLESS, DANGEROUS, UNKNOWN, UNTOLD}


def feed_pickle(data: bytes) -> None:
    """Walk bytes as a pickle, which raises nothing; whatever pickle.loads would import is among what is found.

    The comparison is made with an unpickler that imports nothing: it asks for names, and gets something harmless.
    """
    found = walk(data, _WALK)
    told = {(one.module, one.name) for one in found}
    assert all(one.verdict in _VERDICTS for one in found)
    json.dumps([[one.module, one.name, one.note] for one in found]).encode()
    if any(one.verdict == UNTOLD for one in found):
        return  # a policy refuses it
    asked: list[tuple[str, str]] = []

    # C's makes room for as many entries of the memo as a pickle says it has.
    unpickler: Any = pickle._Unpickler if b"r" in data or b"p" in data else pickle.Unpickler  # type: ignore[attr-defined]

    class Asking(unpickler):
        def find_class(self, module: str, name: str) -> object:
            asked.append((module, name))
            return _Inert

        def persistent_load(self, _: object) -> object:
            return None

    with contextlib.suppress(Exception):  # what it asks for is what counts
        Asking(io.BytesIO(data)).load()
    for module, name in asked:
        assert _told(module, name) in told or _told(*_renamed(module, name)) in told, f"{module}.{name} is imported and not told"


def _told(module: str, name: str) -> tuple[str, str]:
    """Return a name as the walker shows it."""
    shown = [text.encode("utf-8", "replace").decode().replace("\0", "\ufffd") for text in (module, name)]
    return shown[0], shown[1]


def _renamed(module: str, name: str) -> tuple[str, str]:
    """Return Python 3's name of what Python 2 had."""
    if (module, name) in _compat_pickle.NAME_MAPPING:
        return _compat_pickle.NAME_MAPPING[module, name]
    return _compat_pickle.IMPORT_MAPPING.get(module, module), name


class _Inert:
    def __new__(cls, *_: object, **__: object) -> _Inert:
        return object.__new__(cls)

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass

    def __call__(self, *_: object, **__: object) -> _Inert:
        return self

    def append(self, _: object) -> None:
        """Take an item, as a list would."""

    def extend(self, _: object) -> None:
        """Take items."""

    def add(self, _: object) -> None:
        """Take an item, as a set would."""

    def __setitem__(self, _: object, __: object) -> None:
        pass

    def __hash__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        return self is other


def _pickle_samples() -> list[bytes]:
    import collections
    import datetime
    import decimal

    things = [
        [1, 2.5, "text", b"bytes", None, True, (1, 2), {3}, frozenset({4}), 1 << 80], {"a": [1, {"b": ()}]},
        collections.OrderedDict(a=1), datetime.datetime(2026, 1, 1), decimal.Decimal("1.5"), np.arange(3.0),
        collections.defaultdict(list, {1: [2]}), {"nested": pickle.dumps({"x": decimal.Decimal(1)})}, bytearray(b"abc"),
    ]  # fmt: skip
    made = [pickle.dumps(thing, protocol=protocol) for thing in things for protocol in range(6)]
    return [*made, b"cos\nsystem\n(S'id'\ntR.", b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x02id\x85R.",
            b"(S'id'\nios\nsystem\n.", zlib.compress(made[0]), b"\x80\x04V\\u006fs\n\x8c\x06system\x93."]  # fmt: skip


# ---------------------------------------------------------------- what R sends


def feed_r(data: bytes) -> None:
    """Read a value as the R process writes it, and make Python of it."""
    from dbml.worker.r import wire as r

    stream = io.BytesIO(data)

    def read(size: int) -> bytes:
        assert size >= 0, "less than nothing was read"
        if size > 1 << 26:
            raise EOFError
        content = stream.read(size)
        if len(content) < size:
            raise EOFError
        return content

    try:
        value = r.read_value(read)
        if isinstance(value, r.Table):
            r.to_frame(value)
        else:
            r.to_python(value, "x")
    except (EOFError, errors.ProtocolMismatch, errors.UnsupportedType):
        pass


def _r_samples() -> list[bytes]:
    from dbml.worker.r.wire import Writer

    made = []
    for value in (
        None,
        True,
        7,
        1 << 40,
        2.5,
        "text",
        b"raw",
        [1, 2, None],
        ["a", None],
        {"a": 1, "b": [1.5, {"c": "d"}]},
        [[1], [2, 3]],
    ):
        writer = Writer()
        writer.value(value, "x")
        made.append(b"".join(writer.parts))
    integers = b"\1" + struct.pack("=i2i", 2, 1, -(2**31))
    texts = b"\4" + struct.pack("=i2i", 2, 1, -1) + b"a\0"
    names = b"\4" + struct.pack("=i2i", 2, 1, 1) + b"a\0b\0"
    doubles = b"\3" + struct.pack("=i2d", 2, 1.5, float("nan"))
    made += [b"\x0b" + struct.pack("=i", 2) + names + column + integers for column in (integers, texts, doubles)]
    made += [b"\x0b" + struct.pack("=i", 2) + names + doubles + bytes([8, kind]) + doubles for kind in range(10)]
    made += [b"\x0c" + integers + doubles, b"\x09" + struct.pack("=i2i", 2, 1, -1) + doubles, b"\x0d" + struct.pack("=iq", 1, 7)]
    made += [b"\x07" + names + integers, b"\x06" + struct.pack("=i", 2) + integers + texts,
             b"\5" + struct.pack("=i", 2) + b"ab"]  # fmt: skip
    return made


TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target("wire", "the wire protocol's parser", feed_wire, WIRE_SAMPLES, ("dbml.worker.wire", "dbml.worker.requests")),
        Target("columns", "the columnar decoder", feed_columns, _columns_samples(), ("dbml.columns",)),
        Target("requests", "the verifier of requests", _Requests().feed, _request_samples(), ("dbml.worker.requests",)),
        Target("pickle", "the walker of pickles", feed_pickle, _pickle_samples(), ("dbml.formats",)),
        Target("r", "the reader of what R sends", feed_r, _r_samples(), ("dbml.worker.r.wire",)),
    )
}
