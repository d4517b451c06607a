"""Formats: what a registered model's bytes are, what they hold, and the one place where they become a model.

    pickle   Python's own; loading it runs what it imports
    safe     a skops file: a zip of JSON and arrays; types are audited before any of them is made
    rds      R's; read by R alone

`walk` reads a pickle without loading it, `contents` says of either format what is in it, `verdicts` what is known of
that, `policy` what a workspace allows of it; `load` is the only module that makes a model out of bytes.  The router
may import `policy` and `verdicts`, which import nothing; the rest belongs into a sandboxed process.
"""

FORMATS = ("pickle", "safe", "rds")
ZIP = b"PK\x03\x04"  # how a skops file begins; no pickle does: 'P' asks for a persistent object, which there is none of


def recognise(head: bytes) -> str:
    """Return the format of bytes that begin like this: safe or pickle."""
    return "safe" if head.startswith(ZIP) else "pickle"
