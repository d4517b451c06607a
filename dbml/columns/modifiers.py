"""Modifiers: what a type cuts or rounds off without a word when a text is cast to it, so that it is refused before."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal

_SIZED = re.compile(
    r"(character varying|character|bit varying|bit|numeric|timestamp|time|interval)\((\d+)(?:,(-?\d+))?\)"
    r"(?: with(?:out)? time zone)?(\[\])?"
)
_FRACTION = re.compile(r"\.(\d+)")


def cuts(type_: str) -> bool:
    """Tell whether a type may drop part of a value."""
    return "(" in type_ or type_ in ("name", '"char"', "name[]", '"char"[]')


def keeps(type_: str) -> Callable[[str], bool] | None:
    """Return the test of whether a text, cast to the type, stays what it is; None where every text does.

    type_: as format_type() prints it.  For an array type the test is of one element.
    Source: PostgreSQL, explicit casts: varchar.c, varbit.c, numeric.c, timestamp.c truncate, pad or round.
    """
    bare = type_.removesuffix("[]")
    if bare == "name":
        return lambda text: len(text.encode()) < 64
    if bare == '"char"':
        return lambda text: len(text.encode()) < 2
    found = _SIZED.fullmatch(type_)
    if not found:
        return None
    base, size, scale = found[1], int(found[2]), int(found[3] or 0)
    match base:
        case "character varying" | "bit varying":
            return lambda text: len(text) <= size
        case "character":
            return lambda text: len(text.rstrip(" ")) <= size
        case "bit":
            return lambda text: len(text) == size
        case "numeric":
            return lambda text: _fits_numeric(text, size, scale)
    return lambda text: _short_fraction(text, size)


def _fits_numeric(text: str, precision: int, scale: int) -> bool:
    number = Decimal(text)
    if not number.is_finite():
        return number.is_nan()  # numeric(p,s) holds no infinity
    if not number:
        return True
    _, digits, exponent = number.as_tuple()
    zeros = len(digits) - len("".join(map(str, digits)).rstrip("0"))
    return int(exponent) + zeros >= -scale and number.adjusted() < precision - scale


def _short_fraction(text: str, places: int) -> bool:
    found = _FRACTION.search(text)
    return found is None or len(found[1].rstrip("0")) <= places
