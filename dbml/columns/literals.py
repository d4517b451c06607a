"""Literals: values as the text that PostgreSQL reads whatever the session's settings, and arrays of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from dbml.columns.kinds import EPOCH_DAYS, EPOCH_S, INT64_LOWEST, INT64_MAX

_PLAIN = re.compile(r"[A-Za-z0-9_.:+\-/]+")
_SPECIAL = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def float_text(value: float) -> str:
    """Return the shortest text that reads as the same float."""
    text = repr(value)
    return _SPECIAL.get(text, text)


def quoted(text: str) -> str:
    """Return a text as an element of an array literal."""
    if _PLAIN.fullmatch(text) and text.upper() != "NULL":
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def array_of_texts(texts: Iterable[str | None]) -> bytes:
    """Return an array literal of texts, None as NULL."""
    return ("{" + ",".join(["NULL" if text is None else quoted(text) for text in texts]) + "}").encode()


def array_of_plain(texts: Sequence[str]) -> bytes:
    """Return an array literal of texts that need no quotes."""
    return ("{" + ",".join(texts) + "}").encode()


def float_array(values: list[float]) -> bytes:
    """Return an array literal of floats, as fast as Python prints them."""
    text = ",".join(map(repr, values))
    if "n" in text:  # nan or inf
        text = ",".join([float_text(value) for value in values])
    return ("{" + text + "}").encode()


def stamp_text(us: int) -> str:
    """Return microseconds since 1970 as an ISO timestamp: any year, BC, and infinity at the ends of int64."""
    if us == INT64_MAX:
        return "infinity"
    if us == INT64_LOWEST:
        return "-infinity"
    return _with_era(str(np.datetime64(us, "us")).replace("T", " "))


def date_text(days: int) -> str:
    """Return days since 1970 as an ISO date: any year, and BC."""
    return _with_era(str(np.datetime64(days, "D")))


def _with_era(text: str) -> str:
    """Turn numpy's astronomical year into PostgreSQL's, which knows no year 0."""
    text = text.removeprefix("+")
    sign, rest = (-1, text[1:]) if text.startswith("-") else (1, text)
    year_text, _, rest = rest.partition("-")
    year = sign * int(year_text)
    return f"{year:04}-{rest}" if year > 0 else f"{1 - year:04}-{rest} BC"


def pg_date_text(days: int) -> str:
    """Return PostgreSQL's days since 2000 as an ISO date."""
    return "infinity" if days == 2**31 - 1 else "-infinity" if days == -(2**31) else date_text(days + EPOCH_DAYS)


def pg_stamp_text(us: int) -> str:
    """Return PostgreSQL's microseconds since 2000 as an ISO timestamp."""
    if us in (INT64_MAX, INT64_LOWEST - 1):
        return "infinity" if us > 0 else "-infinity"
    day, rest = divmod(us, 86_400_000_000)
    seconds, micro = divmod(rest, 1_000_000)
    clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{micro:06}"
    text = date_text(day + EPOCH_S // 86400)
    return f"{text[:-3]} {clock} BC" if text.endswith(" BC") else f"{text} {clock}"


def interval_text(us: int) -> str:
    """Return microseconds as an ISO 8601 duration in days and seconds."""
    if us == INT64_MAX:
        return "infinity"
    if us == INT64_LOWEST:
        return "-infinity"
    sign = "-" if us < 0 else ""
    days, rest = divmod(abs(us), 86_400_000_000)
    seconds, micro = divmod(rest, 1_000_000)
    return f"P{sign}{days}DT{sign}{seconds}.{micro:06}S"


def nested(value: Any, text_of: Any) -> str:
    """Return nested lists as an array literal; text_of makes an element's text."""
    if value is None:
        return "NULL"
    if isinstance(value, list | tuple):
        return "{" + ",".join([nested(item, text_of) for item in value]) + "}"
    return quoted(text_of(value))
