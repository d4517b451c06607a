"""SCRAM-SHA-256: the RFC's example, and whatever a client may send instead."""

import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbml.worker.scram import ITERATIONS, ScramError, ScramExchange, ScramSecret

# RFC 7677, section 3
SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
SECRET = ScramSecret.derive("pencil", salt=SALT)
SERVER_NONCE = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
NONCE = b"rOprNGfwEbeRWgbNEkqO" + SERVER_NONCE.encode()
FIRST = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
FINAL = b"c=biws,r=" + NONCE + b",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="


def prove(password, salt, said):
    salted = hashlib.pbkdf2_hmac("sha256", password, salt, 4096)
    key = hmac.digest(salted, b"Client Key", "sha256")
    signature = hmac.digest(hashlib.sha256(key).digest(), said, "sha256")
    return base64.b64encode(bytes(a ^ b for a, b in zip(key, signature, strict=True)))


def test_the_example_of_the_rfc():
    exchange = ScramExchange(SECRET, nonce=SERVER_NONCE)
    assert exchange.first(FIRST) == b"r=" + NONCE + b",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    assert exchange.final(FINAL) == b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


@pytest.mark.parametrize(("gs2", "binding"), [(b"n,,", b"biws"), (b"y,,", b"eSws"), (b"n,a=x,", b"bixhPXgs")])
def test_without_channel_binding_a_client_may_say_no_or_not_offered(gs2, binding):
    exchange = ScramExchange(SECRET)
    bare = b"n=,r=abc"
    answer = exchange.first(gs2 + bare)
    unproven = b"c=" + binding + b"," + answer.partition(b",")[0]
    proof = prove(b"pencil", SALT, bare + b"," + answer + b"," + unproven)
    assert exchange.final(unproven + b",p=" + proof) is not None


def test_another_password_proves_nothing():
    exchange = ScramExchange(ScramSecret.derive("pencils", salt=SALT), nonce=SERVER_NONCE)
    exchange.first(FIRST)
    assert exchange.final(FINAL) is None


@pytest.mark.parametrize(
    "message",
    [b"", b"n", b"n,,", b"n,,n=user", b"n,,n=user,r=", b"n,,m=x,n=user,r=abc", b"p=tls-unique,,n=user,r=abc",
     b"x,,n=,r=a", b"n,,n=user,r=a\0b", b"n,,n=user,r=a\xff"],
)  # fmt: skip
def test_a_malformed_first_message_is_refused(message):
    with pytest.raises(ScramError):
        ScramExchange(SECRET).first(message)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        FINAL.replace(b"c=biws", b"c=eSws"),
        FINAL.replace(b"c=biws", b"c=biw"),
        FINAL.replace(NONCE, NONCE[:-1]),
        FINAL.replace(NONCE, NONCE + b"x"),
        FINAL.partition(b",p=")[0],
        FINAL.partition(b",p=")[0] + b",p=AAAA",
        FINAL.partition(b",p=")[0] + b",p====",
        FINAL + b",x=1",
    ],
)
def test_a_malformed_final_message_is_refused(message):
    exchange = ScramExchange(SECRET, nonce=SERVER_NONCE)
    exchange.first(FIRST)
    with pytest.raises(ScramError):
        exchange.final(message)


def test_the_final_message_needs_the_first_and_comes_once():
    exchange = ScramExchange(SECRET, nonce=SERVER_NONCE)
    with pytest.raises(ScramError):
        exchange.final(FINAL)
    exchange.first(FIRST)
    exchange.final(FINAL)
    with pytest.raises(ScramError):
        exchange.final(FINAL)


@given(st.binary(), st.binary())
def test_no_bytes_pass_for_a_proof(first, final):
    exchange = ScramExchange(SECRET)
    with pytest.raises(ScramError):
        exchange.first(first)
    exchange.first(b"n,,n=,r=abc")
    with pytest.raises(ScramError):
        exchange.final(final)


@given(st.binary(min_size=32, max_size=32))
def test_a_random_proof_is_wrong(proof):
    exchange = ScramExchange(SECRET, nonce=SERVER_NONCE)
    exchange.first(FIRST)
    assert exchange.final(b"c=biws,r=" + NONCE + b",p=" + base64.b64encode(proof)) is None


def test_a_secret_shows_nothing_and_differs_by_salt():
    one, other = ScramSecret.derive("pencil"), ScramSecret.derive("pencil")
    assert one.iterations == ITERATIONS == 4096
    assert one.stored_key != other.stored_key
    assert repr(one) == "ScramSecret(iterations=4096)"


@pytest.mark.parametrize("password", ["", "é", "a\nb"])
def test_passwords_that_clients_would_prepare_otherwise_are_refused(password):
    with pytest.raises(ValueError, match="printable ASCII"):
        ScramSecret.derive(password)
