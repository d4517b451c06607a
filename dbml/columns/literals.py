"""Literals: values as the text that PostgreSQL reads whatever the session's settings, and arrays of them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import numpy as np

from dbml.columns.kinds import EPOCH_DAYS, EPOCH_S, INT64_LOWEST, INT64_MAX

_PLAIN = re.compile(r"[A-Za-z0-9_.:+\-/]+")
_SPECIAL = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
_MOST_NUMERIC, _LEAST_NUMERIC = 131072, -16383  # digits before and places after the point that numeric holds


def float_text(value: float) -> str:
    """Return the shortest text that reads as the same float, 1 for 1.0 as PostgreSQL prints it."""
    text = repr(value)
    return _SPECIAL.get(text, text.removesuffix(".0"))


def integer_text(value: int) -> str:
    """Return an integer's digits; Python itself prints no more than 4300."""
    return str(value) if value.bit_length() < 10_000 else format(Decimal(value), "f")


def decimal_text(value: Decimal) -> str:
    """Return a decimal as numeric reads it, its scale kept; ValueError where numeric would overflow or round."""
    if value.is_nan():
        return "NaN"
    if value.is_infinite():
        return "Infinity" if value > 0 else "-Infinity"
    if value.adjusted() >= _MOST_NUMERIC or int(value.as_tuple().exponent) < _LEAST_NUMERIC:
        raise ValueError
    return format(value, "f")


def quoted(text: str) -> str:
    """Return a text as an element of an array literal."""
    if _PLAIN.fullmatch(text) and text.upper() != "NULL":
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def array_of_texts(texts: Iterable[str | None]) -> bytes:
    """Return an array literal of texts, None as NULL."""
    return ("{" + ",".join(["NULL" if text is None else quoted(text) for text in texts]) + "}").encode()


def stamp_text(us: int) -> str:
    """Return microseconds since 1970 as an ISO timestamp: any year, and BC; infinity at the ends of int64."""
    if us in (INT64_MAX, INT64_LOWEST):
        return "infinity" if us > 0 else "-infinity"
    day, rest = divmod(us, 86_400_000_000)
    seconds, micro = divmod(rest, 1_000_000)
    clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{micro:06}"
    text = date_text(day)
    return f"{text[:-3]} {clock} BC" if text.endswith(" BC") else f"{text} {clock}"


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
    return stamp_text(us + EPOCH_S * 1_000_000)


def with_zone(text: str) -> str:
    """Return a timestamp in UTC as timestamptz reads it; infinity has no zone."""
    if text.endswith("infinity"):
        return text
    return text.removesuffix(" BC") + "+00" + (" BC" if text.endswith(" BC") else "")


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
    """Return nested lists as an array literal; text_of makes an element's text, None is NULL."""
    if value is None:
        return "NULL"
    if isinstance(value, list):
        return "{" + ",".join([nested(item, text_of) for item in value]) + "}"
    return quoted(text_of(value))
