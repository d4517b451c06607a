"""The login, without a socket: the right order, and every other one."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbml.worker import wire
from dbml.worker.login import Login
from dbml.worker.scram import ScramSecret
from dbml.worker.wire import CancelRequest, ProtocolError

SECRET = ScramSecret.derive("s3cret")
SSL, GSSENC = struct.pack("!i", 80877103), struct.pack("!i", 80877104)
SCRAM = b"SCRAM-SHA-256\0\0\0\0\x0bn,,n=,r=abc"
ASKS_SCRAM = wire.authentication(10, b"SCRAM-SHA-256\0\0")


def login():
    return Login(SECRET, "dbml")


def startup(minor=0, **options):
    words = [word.encode() for pair in {"user": "dbml", **options}.items() for word in pair]
    return struct.pack("!i", 3 << 16 | minor) + wire.text_fields(*words, b"")


def refused(made, kind, content):
    with pytest.raises(ProtocolError) as caught:
        made.take(kind, content)
    return caught.value.sqlstate


def test_encryption_is_refused_once_each_and_the_login_goes_on():
    made = login()
    assert made.take(0, SSL) == made.take(0, GSSENC) == b"N"
    assert made.expects_startup
    assert made.take(0, startup()) == ASKS_SCRAM
    assert not made.expects_startup
    made = login()
    made.take(0, SSL)
    assert refused(made, 0, SSL) == "08P01"


@pytest.mark.parametrize(
    ("minor", "options", "answer"),
    [
        (0, {}, b""),
        (2, {}, b""),
        (1, {}, wire.negotiate(0, [])),
        (9999, {}, wire.negotiate(2, [])),
        (2, {"_pq_.a": "1", "_pq_.b": ""}, wire.negotiate(2, ["_pq_.a", "_pq_.b"])),
    ],
)
def test_versions_and_options_are_negotiated(minor, options, answer):
    assert login().take(0, startup(minor, **options)) == answer + ASKS_SCRAM


@pytest.mark.parametrize(
    ("options", "sqlstate"),
    [
        ({"user": ""}, "28000"),
        ({"replication": "database"}, "0A000"),
        ({"client_encoding": "EUC_TW"}, "22023"),
    ],
)
def test_what_is_not_served(options, sqlstate):
    assert refused(login(), 0, startup(**options)) == sqlstate


def test_only_scram_without_channel_binding():
    for content in (
        b"SCRAM-SHA-256-PLUS\0" + SCRAM[14:],
        b"s3cret\0",
        b"",
        b"SCRAM-SHA-256\0\xff\xff\xff\xff",
    ):
        made = login()
        made.take(0, startup())
        assert refused(made, wire.PASSWORD, content) == "08P01"


@pytest.mark.parametrize("kind", [wire.QUERY, wire.TERMINATE, wire.SYNC, ord("P")])
def test_nothing_but_the_login_before_its_end(kind):
    made = login()
    made.take(0, startup())
    assert refused(made, kind, SCRAM) == "08P01"
    made.take(wire.PASSWORD, SCRAM)
    assert refused(made, kind, SCRAM) == "08P01"


def test_cancel_requests_of_both_protocols():
    for key in (b"1234", b"k" * 32):
        assert login().take(0, struct.pack("!ii", 80877102, 7) + key) == CancelRequest(7, key)


STARTUPS = st.sampled_from([SSL, GSSENC, startup(), startup(9, a="b")]) | st.binary()
MESSAGES = st.tuples(st.sampled_from(b"pppQXSP"), st.just(SCRAM) | st.binary() | st.binary().map(lambda b: b"c=biws,r=" + b))


@given(st.lists(STARTUPS), st.lists(MESSAGES))
def test_nobody_gets_in_by_luck(startups, messages):
    made = login()
    try:
        for content in startups:
            if made.expects_startup:
                assert isinstance(made.take(0, content), (bytes, CancelRequest))
        for kind, content in messages:
            if not made.expects_startup:
                assert isinstance(made.take(kind, content), bytes)
    except ProtocolError:
        pass
