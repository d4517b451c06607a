"""PostgreSQL's wire protocol, version 3, the server's side: bytes to messages and messages to bytes.

Knows the format alone: no sockets, no clocks, no state of a conversation.  Whatever a client sends, this
module answers with a message or a `ProtocolError`, and holds no more of it than the limit it was given.

Source: PostgreSQL documentation, "Frontend/Backend Protocol"; src/backend/tcop/backend_startup.c.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

Row = tuple[str | bytes | None, str | bytes | None, str | bytes | None]

COLUMNS = ("tag", "head", "body")
QUERY, TERMINATE, SYNC, FLUSH, FUNCTION_CALL, PASSWORD = b"QXSHFp"
EXTENDED = frozenset(b"PBDEC")
COPY = frozenset(b"dcf")
_TYPES = frozenset((QUERY, TERMINATE, SYNC, FLUSH, FUNCTION_CALL, PASSWORD)) | EXTENDED | COPY
_LONGEST_CELL = 1 << 30  # PostgreSQL's own limit of a value

_LENGTH = struct.Struct("!i")
_HEAD = struct.Struct("!ci")
_ROW = struct.Struct("!cih")
_REQUEST = struct.Struct("!ii")
_CANCEL, _SSL, _GSSENC = 80877102, 80877103, 80877104


class ProtocolError(Exception):
    """What a client sent is not the protocol, or not a part of it that the worker speaks."""

    def __init__(self, sqlstate: str, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate
        self.message = message
        self.hint = hint

    def fields(self) -> dict[str, str | None]:
        """Return the fields of the ErrorResponse."""
        return {"sqlstate": self.sqlstate, "message": self.message, "hint": self.hint}


class MessageReader:
    """Cuts a stream into messages.

    startup: the messages have no type byte, as before the startup message; they are read with type 0.
    limit: the largest length a message may state; a larger one is refused before it has come.
    owed: how much of one that was refused is to come.
    skipped: the message that was read last had no room, and came without its content.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.startup = True
        self.owed = 0
        self.skipped = False
        self._skips: int | None = None  # the type of a message that is dropped as it comes
        self._buffer: bytes | bytearray = b""

    def __len__(self) -> int:
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        """Take what has come."""
        if self._skips is not None:
            dropped = min(self.owed, len(data))
            self.owed -= dropped
            data = data[dropped:]
        if not self._buffer:
            self._buffer = data  # mostly one whole message: no copy
        elif isinstance(self._buffer, bytearray):
            self._buffer += data
        else:
            self._buffer = bytearray(self._buffer)
            self._buffer += data

    def discard(self, data: bytes) -> int:
        """Take what is left of a message that was refused, keep none of it; returns what is to come yet."""
        self._buffer = b""
        self.owed -= len(data)
        return self.owed

    def begun(self) -> int:
        """Return the size of a message of which `read` has seen the head alone, 0 where there is none."""
        head = 4 if self.startup else 5
        if self._skips is not None or len(self._buffer) < head:
            return 0
        return head - 4 + int(_LENGTH.unpack_from(self._buffer, head - 4)[0])

    def skip(self) -> None:
        """Drop the message that has begun, and the rest of it as it comes; it will be read without its content."""
        self.owed = self.begun() - len(self._buffer)
        self._skips = self._buffer[0]
        self._buffer = b""

    def peek(self) -> int:
        """Return the type of the message that comes next, 0 if nothing is known of it."""
        if self._skips is not None:
            return self._skips
        return self._buffer[0] if self._buffer and not self.startup else 0

    def read(self) -> tuple[int, bytes] | None:
        """Return the next message, type and content, None until it has come whole; a Query lacks its NUL.

        Raises: ProtocolError where there is none: unknown type, or a length below 4 or above the limit.
        """
        buffer = self._buffer
        head = 4 if self.startup else 5
        self.skipped = self._skips is not None and self.owed == 0
        if self._skips is not None:
            if not self.skipped:
                return None
            kind, self._skips = self._skips, None
            return kind, b""
        if not buffer:
            return None
        kind = 0 if self.startup else buffer[0]
        if not self.startup and kind not in _TYPES:
            raise ProtocolError("08P01", f"invalid frontend message type {kind}")
        if len(buffer) < head:
            return None
        (length,) = _LENGTH.unpack_from(buffer, head - 4)
        if not 4 <= length <= self.limit:
            self.owed = head - 4 + length - len(buffer)
            raise ProtocolError("08P01", f"a message's length must be 4 to {self.limit} bytes, got {length}")
        end = head - 4 + length
        if len(buffer) < end:
            return None
        last = end
        if kind == QUERY:
            last -= 1
            if last < head or buffer[last] != 0:
                raise ProtocolError("08P01", "invalid string in message")
        if isinstance(buffer, bytes):
            content = buffer[head:last]
            self._buffer = bytearray(buffer[end:]) if len(buffer) > end else b""
        else:
            with memoryview(buffer) as view:
                content = bytes(view[head:last])
            if len(buffer) == end:
                self._buffer = b""
            else:
                del buffer[:end]
        if kind == QUERY and 0 in content:
            raise ProtocolError("08P01", "invalid message format")
        return kind, content


@dataclass(frozen=True, slots=True)
class Startup:
    """A client's wish for a session: the minor version of the protocol, and its parameters."""

    minor: int
    parameters: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class CancelRequest:
    """A wish to stop what another connection runs."""

    session_id: int
    key: bytes


@dataclass(frozen=True, slots=True)
class EncryptionRequest:
    """A wish for TLS or GSSAPI; the answer is one byte."""

    method: str


def parse_startup(content: bytes) -> Startup | CancelRequest | EncryptionRequest:
    """Parse a message without type.

    Raises: ProtocolError where it is none of the three, or a startup of another major version.
    """
    if len(content) < 4:
        raise ProtocolError("08P01", "invalid length of startup packet")
    (code,) = _LENGTH.unpack_from(content)
    if code in (_SSL, _GSSENC) and len(content) == 4:
        return EncryptionRequest("SSL" if code == _SSL else "GSSENC")
    if code == _CANCEL and 8 < len(content) <= 8 + 256:
        return CancelRequest(_LENGTH.unpack_from(content, 4)[0], content[8:])
    if code >> 16 != 3:
        version = f"{code >> 16 & 0xFFFF}.{code & 0xFFFF}"
        raise ProtocolError("0A000", f"unsupported frontend protocol {version}: server supports 3.0 to 3.2")
    words = content[4:].split(b"\0")
    if len(words) < 2 or words[-1] or words[-2] or len(words) % 2 or not all(words[:-2:2]):
        raise ProtocolError("08P01", "invalid startup packet layout: expected terminator as last byte")
    text = [word.decode("utf-8", "replace") for word in words[:-2]]
    return Startup(code & 0xFFFF, dict(zip(text[::2], text[1::2], strict=True)))


def parse_sasl_first(content: bytes) -> tuple[str, bytes]:
    """Parse a SASLInitialResponse into mechanism and message.

    Raises: ProtocolError where it is something else.
    """
    mechanism, found, rest = content.partition(b"\0")
    if not found or len(rest) < 4 or _LENGTH.unpack_from(rest)[0] != len(rest) - 4:
        raise ProtocolError("08P01", "malformed SASL message")
    return mechanism.decode("ascii", "replace"), rest[4:]


def message(kind: bytes, content: bytes = b"") -> bytes:
    """Make a message."""
    return _HEAD.pack(kind, 4 + len(content)) + content


def text_fields(*fields: bytes) -> bytes:
    """Make NUL-terminated strings."""
    return b"".join(field + b"\0" for field in fields)


def authentication(code: int, content: bytes = b"") -> bytes:
    """Make an Authentication message: 0 done, 10 SASL's mechanisms, 11 continue, 12 final."""
    return message(b"R", _LENGTH.pack(code) + content)


def parameter_status(name: str, value: str) -> bytes:
    """Make a ParameterStatus."""
    return message(b"S", text_fields(name.encode(), value.encode("utf-8", "replace")))


def backend_key(session_id: int, key: bytes) -> bytes:
    """Make a BackendKeyData; a key of more than 4 bytes is for protocol 3.2 alone."""
    return message(b"K", _LENGTH.pack(session_id) + key)


def negotiate(minor: int, unknown: Iterable[str]) -> bytes:
    """Make a NegotiateProtocolVersion: the newest minor version spoken, and the options not known."""
    names = [name.encode("utf-8", "replace") for name in unknown]
    return message(b"v", _REQUEST.pack(3 << 16 | minor, len(names)) + text_fields(*names))


def command_complete(tag: str) -> bytes:
    """Make a CommandComplete."""
    return message(b"C", text_fields(tag.encode("ascii")))


def row_description(names: Iterable[str], type_oid: int = 25) -> bytes:
    """Make the RowDescription of columns of one type, text unless said, in text format."""
    columns = [name.encode() + b"\0" + struct.pack("!ihihih", 0, 0, type_oid, -1, -1, 0) for name in names]
    return message(b"T", struct.pack("!h", len(columns)) + b"".join(columns))


READY = message(b"Z", b"I")
EMPTY_QUERY = message(b"I")
NO_ENCRYPTION = b"N"
_DESCRIPTION = row_description(COLUMNS)
_NULL = _LENGTH.pack(-1)
_FIELDS = ((b"C", "sqlstate"), (b"M", "message"), (b"D", "detail"), (b"H", "hint"), (b"W", "context"))


def rows_reply(rows: Iterable[Row], codec: Codec) -> bytes:
    """Make the whole answer to a query: description, rows, completion, ready.

    Raises: ProtocolError where a value has a NUL, lacks an equivalent in the encoding, or has over 1 GB.
    """
    parts = [_DESCRIPTION]
    count = 0
    for tag, head, body in rows:
        count += 1
        size = 6 + 3 * 4
        at = len(parts)
        parts.append(b"")
        for value in (tag, head, body):
            if value is None:
                parts.append(_NULL)
                continue
            data = codec.encode(value)
            if 0 in data:
                raise ProtocolError("22021", 'invalid byte sequence for encoding "UTF8": 0x00')
            size += len(data)
            parts += (_LENGTH.pack(len(data)), data)
        if size > _LONGEST_CELL:
            raise ProtocolError("54000", f"a row can have {_LONGEST_CELL} bytes at most, got {size}")
        parts[at] = _ROW.pack(b"D", size, 3)
    parts += (command_complete(f"SELECT {count}"), READY)
    return b"".join(parts)


def error_response(fields: Mapping[str, str | None], codec: Codec, severity: str = "ERROR") -> bytes:
    """Make an ErrorResponse.

    fields: as `DbmlError.fields` gives them; empty ones are left out.  What the encoding lacks becomes '?'.
    """
    content = [b"S" + severity.encode(), b"V" + severity.encode()]
    for code, name in _FIELDS:
        value = fields.get(name)
        if value or name == "message":
            content.append(code + codec.encode_lossy(value or "the worker gave no message"))
    return message(b"E", text_fields(*content, b""))


@dataclass(frozen=True, slots=True)
class Codec:
    """A client's encoding: PostgreSQL's name and Python's.

    SQL_ASCII is taken for UTF-8, and what is not UTF-8 is refused: it states no encoding to convert from.
    """

    name: str
    python: str

    def decode(self, text: bytes) -> bytes:
        """Convert what the client sent to UTF-8; the same object where nothing is to do.

        Raises: ProtocolError where it is not in the encoding.
        """
        if text.isascii():
            return text
        try:
            decoded = text.decode(self.python)
        except UnicodeDecodeError as error:
            raise ProtocolError(
                "22021",
                f'invalid byte sequence for encoding "{self.name}": 0x{text[error.start : error.end].hex()}',
            ) from None
        return text if self.python == "utf-8" else decoded.encode()

    def encode(self, value: str | bytes) -> bytes:
        """Convert a value to what the client reads; bytes are UTF-8 already and checked by whoever made them.

        Raises: ProtocolError where a character has no equivalent.
        """
        if isinstance(value, bytes):
            if self.python == "utf-8" or value.isascii():
                return value
            value = value.decode()
        try:
            return value.encode(self.python)
        except UnicodeEncodeError as error:
            lacking = value[error.start]
            raise ProtocolError("22P05", f'character U+{ord(lacking):04X} has no equivalent in encoding "{self.name}"') from None

    def encode_lossy(self, value: str) -> bytes:
        """Convert a text that must arrive, for what it is worth."""
        return value.replace("\0", "\\0").encode(self.python, "replace")


UTF8 = Codec("UTF8", "utf-8")


def only_ascii(refused: str) -> Codec:
    """Make the codec of a client whose encoding is not known, though it may use it nevertheless."""
    return Codec(f"ASCII, as {refused[:63]} is not known", "ascii")


_CODECS = {
    "utf8": UTF8,
    "sqlascii": Codec("SQL_ASCII", "utf-8"),
    "latin1": Codec("LATIN1", "iso8859-1"),
    "latin2": Codec("LATIN2", "iso8859-2"),
    "latin3": Codec("LATIN3", "iso8859-3"),
    "latin4": Codec("LATIN4", "iso8859-4"),
    "latin5": Codec("LATIN5", "iso8859-9"),
    "latin6": Codec("LATIN6", "iso8859-10"),
    "latin7": Codec("LATIN7", "iso8859-13"),
    "latin8": Codec("LATIN8", "iso8859-14"),
    "latin9": Codec("LATIN9", "iso8859-15"),
    "latin10": Codec("LATIN10", "iso8859-16"),
    **{f"iso8859{n}": Codec(f"ISO_8859_{n}", f"iso8859-{n}") for n in (5, 6, 7, 8)},
    **{f"win{n}": Codec(f"WIN{n}", f"cp{n}") for n in (866, 874, *range(1250, 1259))},
    "koi8r": Codec("KOI8R", "koi8-r"),
    "koi8u": Codec("KOI8U", "koi8-u"),
    "eucjp": Codec("EUC_JP", "euc_jp"),
    "euccn": Codec("EUC_CN", "gb2312"),
    "euckr": Codec("EUC_KR", "euc_kr"),
    "eucjis2004": Codec("EUC_JIS_2004", "euc_jis_2004"),
    "sjis": Codec("SJIS", "cp932"),
    "big5": Codec("BIG5", "cp950"),
    "gbk": Codec("GBK", "gbk"),
    "uhc": Codec("UHC", "cp949"),
    "gb18030": Codec("GB18030", "gb18030"),
    "johab": Codec("JOHAB", "johab"),
}
_ALIASES = {
    "unicode": "utf8",
    "koi8": "koi8r",
    "alt": "win866",
    "win": "win1251",
    **{f"windows{n}": f"win{n}" for n in (866, 874, *range(1250, 1259))},
    **dict.fromkeys(("tcvn", "tcvn5712", "abc", "vscii"), "win1258"),
    **{f"iso8859{n}": f"latin{n}" for n in (1, 2, 3, 4)},
    **{f"iso8859{n}": f"latin{latin}" for latin, n in ((5, 9), (6, 10), (7, 13), (8, 14), (9, 15), (10, 16))},
    **dict.fromkeys(("mskanji", "shiftjis", "win932", "windows932"), "sjis"),
    **dict.fromkeys(("win936", "windows936"), "gbk"),
    **dict.fromkeys(("win949", "windows949"), "uhc"),
    **dict.fromkeys(("win950", "windows950"), "big5"),
}


def find_codec(name: str) -> Codec:
    """Find the codec of an encoding, by any name that PostgreSQL takes for it.

    Raises: ProtocolError where there is none; of PostgreSQL's own these are EUC_TW and MULE_INTERNAL.
    """
    key = re.sub(r"[^a-z0-9]", "", name.lower())
    try:
        return _CODECS[_ALIASES.get(key, key)]
    except KeyError:
        message = f'invalid value for parameter "client_encoding": "{name[:63]}"'
        raise ProtocolError("22023", message, "set client_encoding = 'UTF8'") from None
