"""Formats: what a registered model's bytes are, what they hold, and the one place where they become a model.

    pickle   Python's own; loading it runs what it imports
    safe     a skops file: a zip of JSON and arrays; types are audited before any of them is made
    onnx     a graph of operators, which ONNX Runtime computes; there is nothing in it to run
    rds      R's; read by R alone

`walk` reads a pickle without loading it, `contents` says of either format what is in it, `verdicts` what is known of
that, `policy` what a workspace allows of it; `load` is the only module that makes a model out of bytes.  The router
may import `policy` and `verdicts`, which import nothing; the rest belongs into a sandboxed process.
"""

FORMATS = ("pickle", "safe", "onnx", "rds")
ZIP = b"PK\x03\x04"  # how a skops file begins; no pickle does: 'P' asks for a persistent object, which there is none of


PAIRED = "paired "  # before the format of an estimator that its ONNX form stands behind, in the same bytes
_SIZE = 8  # bytes at the end, which say how long the estimator is


def recognise(head: bytes) -> str:
    """Return the format of bytes that begin like this: safe, onnx (by its first field, ir_version) or pickle."""
    return "safe" if head.startswith(ZIP) else "onnx" if head.startswith(b"\x08") else "pickle"


def unpair(content: bytes) -> tuple[bytes, bytes]:
    """Return an estimator's bytes, and those of the ONNX form that stands behind it."""
    size = int.from_bytes(content[-_SIZE:])
    return content[:size], content[size:-_SIZE]
