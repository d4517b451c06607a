"""The type that a column of text shall have: `DataType.to_float()`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dbml import errors

_NAMES = ("string", "long", "float", "bool", "datetime")


@dataclass(frozen=True)
class DataType:
    """A type for `set_column_types`; made by the class methods.

    name: string, long, float, bool or datetime.  formats: for datetime, how it is written, in strptime's letters.
    """

    name: str
    formats: tuple[str, ...] = ()

    @classmethod
    def to_string(cls) -> DataType:
        """Return the type of text."""
        return cls("string")

    @classmethod
    def to_long(cls) -> DataType:
        """Return the type of whole numbers of 64 bits."""
        return cls("long")

    @classmethod
    def to_float(cls, decimal_mark: str = ".") -> DataType:
        """Return the type of floating-point numbers of 64 bits."""
        if decimal_mark != ".":
            raise errors.NotSupportedYet(f"decimal_mark must be '.', got {decimal_mark!r}")
        return cls("float")

    @classmethod
    def to_bool(cls) -> DataType:
        """Return the type of true and false."""
        return cls("bool")

    @classmethod
    def to_datetime(cls, formats: str | Sequence[str] | None = None) -> DataType:
        """Return the type of moments; formats: such as '%d.%m.%Y', ISO 8601 unless given."""
        return cls("datetime", (formats,) if isinstance(formats, str) else tuple(formats or ()))

    def to_json(self) -> dict[str, Any]:
        """Return it as a definition keeps it."""
        return {"type": self.name, **({"formats": list(self.formats)} if self.formats else {})}


def column_types(given: Mapping[str, Any] | None) -> dict[str, dict[str, Any]]:
    """Return set_column_types as a definition keeps it.

    Raises: InvalidArgument for what is no DataType.
    """
    found = {}
    for name, type_ in (given or {}).items():
        if not isinstance(type_, DataType) or type_.name not in _NAMES:
            raise errors.InvalidArgument(
                f"the type of column {name!r} must be a DataType, got {type_!r}",
                hint="DataType.to_float(), DataType.to_datetime()",
            )
        found[name] = type_.to_json()
    return found
