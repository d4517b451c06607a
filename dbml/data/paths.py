"""Paths in a datastore, and patterns of them: a/b.csv, a folder, a/*.csv, **/*.parquet."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dbml import errors


@dataclass(frozen=True)
class StoredFile:
    """A file of a datastore.  size: bytes.  digest: SHA-256 in hex where the datastore knows it."""

    path: str
    size: int
    digest: str | None = None


def plain(path: str | None) -> str:
    """Return a path without what means nothing in front (./ and /) and behind; may be empty, which is the whole.

    Raises: InvalidArgument for a part that is .. or empty.
    """
    text = re.sub(r"^(\.?/)+", "", (path or "").replace("\\", "/").strip()).rstrip("/")
    if text == ".":
        return ""
    if text and any(part in ("", ".", "..") for part in text.split("/")):
        raise errors.InvalidArgument(f"a path in a datastore must have no part that is empty, . or .., got {path!r}")
    return text


def has_pattern(path: str) -> bool:
    """Tell whether a path has a star or a question mark."""
    return any(letter in path for letter in "*?[")


def fixed_part(pattern: str) -> str:
    """Return what comes before the first star: where to look."""
    return re.split(r"[*?\[]", pattern, maxsplit=1)[0]


def matches(pattern: str, path: str) -> bool:
    """Tell whether a file's path is meant by a pattern: the same, within that folder, or fitting its stars.

    ** fits any folders, * and ? anything but a slash.
    """
    if not pattern:
        return True
    if not has_pattern(pattern):
        return path == pattern or path.startswith(pattern + "/")
    return re.fullmatch(_expression(pattern), path) is not None


def _expression(pattern: str) -> str:
    found = ""
    for token in re.findall(r"\*\*/|/\*\*$|\*\*|\*|\?|\[[^\]/]+\]|.", pattern, re.DOTALL):
        match token:
            case "**/":
                found += "(?:.*/)?"
            case "/**":
                found += "/.*"
            case "**":
                found += ".*"
            case "*":
                found += "[^/]*"
            case "?":
                found += "[^/]"
            case _:
                found += ("[" + token[1:-1].replace("!", "^", 1) + "]") if len(token) > 1 else re.escape(token)
    return found
