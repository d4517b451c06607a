"""The wire format: any split of a stream gives the same messages, and no bytes break the reader."""

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbml.worker import wire
from dbml.worker.wire import CancelRequest, EncryptionRequest, MessageReader, ProtocolError, Startup

TEXT = st.text(st.characters(exclude_characters="\0", codec="utf-8"))
CELL = st.none() | TEXT | TEXT.map(str.encode)


def reader(limit=1000, *, startup=False):
    made = MessageReader(limit)
    made.startup = startup
    return made


def read_all(made):
    found = []
    while (message := made.read()) is not None:
        found.append(message)
    return found


def cut(data, places):
    ends = sorted({place % (len(data) + 1) for place in places} | {len(data)})
    return [data[a:b] for a, b in zip([0, *ends[:-1]], ends, strict=True) if b > a]


def startup(code, *words, end=b"\0"):
    return struct.pack("!i", code) + b"".join(word + b"\0" for word in words) + end


def messages_of(reply):
    """Parse a server's messages, independently of what made them."""
    while reply:
        (length,) = struct.unpack_from("!i", reply, 1)
        yield reply[:1], reply[5 : 1 + length]
        reply = reply[1 + length :]


def cells_of(content):
    (count,) = struct.unpack_from("!h", content)
    at, cells = 2, []
    for _ in range(count):
        (size,) = struct.unpack_from("!i", content, at)
        at += 4
        cells.append(None if size < 0 else content[at : at + size])
        at += max(size, 0)
    assert at == len(content)
    return tuple(cells)


@given(
    st.lists(st.tuples(st.sampled_from(b"QXSHPBp"), st.binary(max_size=200).map(lambda b: b.replace(b"\0", b"")))),
    st.lists(st.integers(0, 10_000)),
)
def test_any_split_of_a_stream_gives_its_messages(messages, places):
    stream = b"".join(
        wire.message(bytes([kind]), content + b"\0" if kind == wire.QUERY else content) for kind, content in messages
    )
    made, found = reader(), []
    for piece in cut(stream, places):
        made.feed(piece)
        found += read_all(made)
    assert found == messages
    assert len(made) == 0


@given(st.lists(st.binary(max_size=300)), st.booleans())
def test_no_bytes_break_the_reader_or_make_it_grow(pieces, first):
    made = reader(200, startup=first)
    with contextlib.suppress(ProtocolError):
        for piece in pieces:
            made.feed(piece)
            read_all(made)
            assert len(made) < 200 + 1


@given(st.integers(5, 900), st.lists(st.integers(0, 10_000)), st.binary(max_size=40))
def test_a_message_that_is_skipped_comes_without_its_content_and_the_next_one_whole(size, places, following):
    following = following.replace(b"\0", b"")
    stream = wire.message(b"Q", b"x" * size + b"\0") + wire.message(b"Q", following + b"\0")
    made, found = reader(), []
    for at, piece in enumerate([stream[:5], *cut(stream[5:], places)]):
        made.feed(piece)
        if at == 0:
            assert made.read() is None and made.begun() == 5 + size + 1
            made.skip()
            assert made.begun() == 0
        while (message := made.read()) is not None:
            found.append((message, made.skipped))
        assert len(made) <= 5 + len(following) + 1  # never what is skipped
    assert found == [((wire.QUERY, b""), True), ((wire.QUERY, following), False)]


@pytest.mark.parametrize("length", [-(2**31), -1, 0, 3, 1001, 2**31 - 1])
def test_a_length_beyond_the_limits_is_refused_before_the_message_comes(length):
    made = reader()
    made.feed(b"Q" + struct.pack("!i", length))
    with pytest.raises(ProtocolError, match="4 to 1000 bytes"):
        made.read()


@pytest.mark.parametrize("content", [b"", b"no end", b"in\0the middle\0", b"end\0\0"])
def test_a_query_is_one_string(content):
    made = reader()
    made.feed(wire.message(b"Q", content))
    with pytest.raises(ProtocolError):
        made.read()


def test_an_unknown_type_is_refused_at_its_first_byte():
    made = reader()
    made.feed(b"\x16")
    with pytest.raises(ProtocolError, match="type 22"):
        made.read()


def test_startup_messages():
    parse = wire.parse_startup
    assert parse(startup(3 << 16, b"user", b"dbml", b"database", b"")) == Startup(0, {"user": "dbml", "database": ""})
    assert parse(startup(3 << 16 | 2)) == Startup(2, {})
    assert parse(struct.pack("!i", 80877103)) == EncryptionRequest("SSL")
    assert parse(struct.pack("!i", 80877104)) == EncryptionRequest("GSSENC")
    assert parse(struct.pack("!ii", 80877102, 7) + b"key!") == CancelRequest(7, b"key!")


@pytest.mark.parametrize(
    ("content", "sqlstate"),
    [
        (b"", "08P01"),
        (startup(2 << 16, b"user", b"x"), "0A000"),
        (startup(4 << 16, b"user", b"x"), "0A000"),
        (startup(-1), "0A000"),
        (startup(3 << 16, b"user", b"x", end=b""), "08P01"),
        (startup(3 << 16, b"user"), "08P01"),
        (startup(3 << 16, b"", b"x"), "08P01"),
        (struct.pack("!ii", 80877102, 7), "0A000"),
        (struct.pack("!ii", 80877103, 7), "0A000"),
    ],
)
def test_malformed_startups_are_refused(content, sqlstate):
    with pytest.raises(ProtocolError) as caught:
        wire.parse_startup(content)
    assert caught.value.sqlstate == sqlstate


@given(st.binary(), st.booleans())
def test_no_bytes_break_the_parsers(content, right_version):
    for parse in (wire.parse_startup, wire.parse_sasl_first):
        with contextlib.suppress(ProtocolError):
            parse(struct.pack("!i", 3 << 16) + content if right_version else content)


@given(st.lists(st.tuples(CELL, CELL, CELL)))
def test_rows_arrive_as_they_are(rows):
    reply = list(messages_of(wire.rows_reply(rows, wire.UTF8)))
    assert [kind for kind, _ in reply] == [b"T", *[b"D"] * len(rows), b"C", b"Z"]
    as_bytes = [tuple(cell.encode() if isinstance(cell, str) else cell for cell in row) for row in rows]
    assert [cells_of(content) for kind, content in reply if kind == b"D"] == as_bytes


def test_what_cannot_be_carried_is_refused():
    latin1 = wire.find_codec("LATIN1")
    with pytest.raises(ProtocolError, match=r"U\+20AC .* \"LATIN1\""):
        wire.rows_reply([("tag", None, "5 €")], latin1)
    with pytest.raises(ProtocolError, match=r"U\+20AC"):
        wire.rows_reply([("tag", None, "5 €".encode())], latin1)
    with pytest.raises(ProtocolError, match="0x00"):
        wire.rows_reply([("tag", None, b"a\0b")], wire.UTF8)
    with pytest.raises(ProtocolError, match=r"U\+D800"):
        wire.rows_reply([("tag", None, "\ud800")], wire.UTF8)
    with pytest.raises(ProtocolError) as caught:
        wire.UTF8.decode(b"h\xe4llo")
    assert (caught.value.sqlstate, caught.value.message) == (
        "22021",
        'invalid byte sequence for encoding "UTF8": 0xe4',
    )


@given(TEXT, TEXT, TEXT)
def test_errors_arrive_field_by_field(said, detail, context):
    fields = {"sqlstate": "ML001", "message": said, "detail": detail, "hint": None, "context": context}
    ((kind, content),) = messages_of(wire.error_response(fields, wire.UTF8))
    assert kind == b"E"
    got = {part[:1]: part[1:].decode() for part in content.split(b"\0") if part}
    wanted = {b"S": "ERROR", b"V": "ERROR", b"C": "ML001", b"M": said or "the worker gave no message"}
    wanted |= {code: text for code, text in ((b"D", detail), (b"W", context)) if text}
    assert got == wanted


def test_an_error_arrives_whatever_its_text():
    fields = {"sqlstate": "ML001", "message": "a\0€\ud800"}
    ((_, content),) = messages_of(wire.error_response(fields, wire.find_codec("latin1")))
    assert b"Ma\\0??\0" in content


@pytest.mark.parametrize("name", [codec.name for codec in wire._CODECS.values()])
def test_encodings(name):
    codec = wire.find_codec(name.lower())
    assert codec.name == name
    every_byte = bytes(range(1, 128))
    assert codec.decode(every_byte) is every_byte
    assert codec.encode(every_byte.decode()) == every_byte
    for character in "äéßœяあ가中€":
        try:
            coded = character.encode(codec.python)
        except UnicodeEncodeError:
            continue
        assert codec.decode(b"x" + coded) == b"x" + character.encode()
        assert codec.encode(character.encode()) == codec.encode(character) == coded


@pytest.mark.parametrize(
    ("alias", "name"),
    [("UNICODE", "UTF8"), ("utf-8", "UTF8"), ("iso-8859-15", "LATIN9"), ("ISO_8859_5", "ISO_8859_5"),
     ("windows-1252", "WIN1252"), ("ShiftJIS", "SJIS"), ("SQL_ASCII", "SQL_ASCII"), ("euc-jp", "EUC_JP")],
)  # fmt: skip
def test_encodings_by_their_other_names(alias, name):
    assert wire.find_codec(alias).name == name


@pytest.mark.parametrize("name", ["EUC_TW", "MULE_INTERNAL", "", "utf-16", "x" * 1000])
def test_encodings_that_there_are_not(name):
    with pytest.raises(ProtocolError) as caught:
        wire.find_codec(name)
    assert caught.value.sqlstate == "22023"
    assert len(caught.value.message) < 200
