"""SCRAM-SHA-256, the server's side, without channel binding.

One password, whose keys are derived once; an exchange costs three hashes.  Knows nothing of sockets or
messages: text in, text out.

Source: RFC 5802 and RFC 7677; PostgreSQL src/backend/libpq/auth-scram.c.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field

MECHANISM = "SCRAM-SHA-256"
ITERATIONS = 4096

# gs2-header, reserved extensions refused, then username (which PostgreSQL ignores) and nonce.
_NONCE = rb"(?P<nonce>[!-+\--~]+)(?:,[a-zA-Z]=[^,]+)*"
_CLIENT_FIRST = re.compile(rb"(?P<gs2>[ny],(?:a=[^,]*)?,)(?P<bare>n=[^,]*,r=" + _NONCE + rb")")
_CLIENT_FINAL = re.compile(rb"(?P<unproven>c=(?P<binding>[A-Za-z0-9+/=]+),r=" + _NONCE + rb"),p=(?P<proof>[A-Za-z0-9+/=]+)")


class ScramError(Exception):
    """What the client said breaks the rules of the exchange; that a password is wrong is no error here."""


@dataclass(frozen=True)
class ScramSecret:
    """What a server keeps of a password; it cannot be used to log in elsewhere."""

    salt: bytes = field(repr=False)
    iterations: int
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)

    @classmethod
    def derive(cls, password: str, *, salt: bytes | None = None, iterations: int = ITERATIONS) -> ScramSecret:
        """Derive the keys, some milliseconds of work.

        Raises: ValueError unless the password is printable ASCII, which SASLprep leaves as it is.
        """
        if not password or not (password.isascii() and password.isprintable()):
            raise ValueError("the password must be printable ASCII and not empty")
        salt = secrets.token_bytes(16) if salt is None else salt
        salted = hashlib.pbkdf2_hmac("sha256", password.encode("ascii"), salt, iterations)
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        server_key = hmac.digest(salted, b"Server Key", "sha256")
        return cls(salt, iterations, hashlib.sha256(client_key).digest(), server_key)


class ScramExchange:
    """One client's login: `first`, then `final`, each once.

    former: of a password that is taken too; of the same salt and iterations.
    """

    def __init__(self, secret: ScramSecret, *, former: ScramSecret | None = None, nonce: str | None = None) -> None:
        self._secret = secret
        self._former = former
        self._own_nonce = (nonce or secrets.token_urlsafe(18)).encode("ascii")
        self._gs2 = b""
        self._nonce = b""
        self._said = b""  # client-first-message-bare "," server-first-message

    def first(self, message: bytes) -> bytes:
        """Answer the client-first-message with the server-first-message.

        Raises: ScramError where it is malformed or asks for channel binding.
        """
        if message.startswith(b"p="):
            raise ScramError("channel binding needs an encrypted connection, and this one is not")
        match = _CLIENT_FIRST.fullmatch(message)
        if match is None:
            raise ScramError("malformed SCRAM message: client-first-message expected")
        self._gs2 = match["gs2"]
        self._nonce = match["nonce"] + self._own_nonce
        salt = base64.b64encode(self._secret.salt)
        answer = b"r=%b,s=%b,i=%d" % (self._nonce, salt, self._secret.iterations)
        self._said = match["bare"] + b"," + answer
        return answer

    def final(self, message: bytes) -> bytes | None:
        """Return the server-final-message, None where the proof shows another password.

        Raises: ScramError where the message is malformed or its nonce or channel binding is another.
        """
        match = _CLIENT_FINAL.fullmatch(message)
        if match is None or not self._said:
            raise ScramError("malformed SCRAM message: client-final-message expected")
        if not hmac.compare_digest(match["nonce"], self._nonce):
            raise ScramError("malformed SCRAM message: the nonce is not the one agreed on")
        if not hmac.compare_digest(_decode(match["binding"]), self._gs2):
            raise ScramError("malformed SCRAM message: the channel binding is not the one agreed on")
        proof = _decode(match["proof"])
        said, self._said = self._said + b"," + match["unproven"], b""
        if len(proof) != 32:
            raise ScramError("malformed SCRAM message: a proof has 32 bytes")
        for secret in (self._secret, self._former):
            if secret is None:
                continue
            signature = hmac.digest(secret.stored_key, said, "sha256")
            client_key = bytes(a ^ b for a, b in zip(proof, signature, strict=True))
            if hmac.compare_digest(hashlib.sha256(client_key).digest(), secret.stored_key):
                return b"v=" + base64.b64encode(hmac.digest(secret.server_key, said, "sha256"))
        return None


def _decode(text: bytes) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ScramError("malformed SCRAM message: base64 expected") from None
