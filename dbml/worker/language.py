"""Languages: what a satellite runs scripts in.

A satellite is told a script once and runs it once for each piece of its input; a language knows how, and nothing of
calls, chunks or the router.  To add one, write a class with these methods and name it in `LANGUAGES`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Protocol, cast

from dbml import errors
from dbml.columns import Column
from dbml.worker.sandbox import Limits

# The class that runs it, imported where it is used: a satellite of one language loads no other.
LANGUAGES: Final[dict[str, str]] = {
    "python": "dbml.worker.script:PythonScript",
    "r": "dbml.worker.r.language:RScript",
}


class Language(Protocol):
    """Runs one script, again and again with other data."""

    def __init__(self, limits: Limits) -> None: ...

    def check_name(self, name: str, what: str) -> None:
        """Refuse a name that cannot be a variable.

        Raises: errors.InvalidArgument.
        """

    def load(self, script: str) -> None:
        """Read the script, once.

        Raises: errors.ScriptSyntaxError.
        """

    def run(self, variables: Mapping[str, Any], columns: Mapping[str, Sequence[Column]]) -> None:
        """Run the script once, with variables of its own and none of an earlier run's.

        variables: inputs as pandas DataFrames, parameters as JSON has them, keys of a partition, "run", and where the
            input is read in pieces "first_chunk", "last_chunk" and "state", which the script keeps between its runs.
        columns: of each input, as PostgreSQL has them.
        Raises: errors.ScriptFailed, or what dbml itself raised in it.
        """

    def result(self, name: str) -> Any:
        """Return what the last run left under a name, as `columns.as_frame` takes it; None where there is nothing."""

    def parameter(self, name: str) -> Any:
        """Return the value of a parameter at the end of the last run."""

    def figures(self) -> Iterator[tuple[str, bytes]]:
        """Yield the plots that the last run left open, by name and as PNG, and close them."""

    def close(self) -> None:
        """End what was started."""


def find(name: str, limits: Limits) -> Language:
    """Return a language by its name.

    Raises: errors.InvalidArgument.
    """
    if name not in LANGUAGES:
        raise errors.InvalidArgument(f"language must be one of {', '.join(LANGUAGES)}, got {name!r}")
    module, _, attribute = LANGUAGES[name].partition(":")
    return cast("Language", getattr(importlib.import_module(module), attribute)(limits))
