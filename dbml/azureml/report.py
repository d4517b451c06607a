"""The report: which names of azureml a program has used, and what became of them."""

from __future__ import annotations

import atexit
import sys
from collections import Counter
from typing import TextIO

from dbml.azureml.differences import DIFFERENCES


class Report:
    """Counts uses of names, and tells of them when the program ends."""

    def __init__(self) -> None:
        self.answered: Counter[str] = Counter()
        self.missing: dict[str, str] = {}  # name: what is there instead
        self.left_out: list[str] = []  # of notebooks: what is not Python
        self._stood_in: dict[str, str] = {}
        self._is_due = False

    def due(self) -> None:
        """Have it printed when the program ends."""
        if not self._is_due:
            self._is_due = True
            atexit.register(self.print)

    def used(self, name: str) -> None:
        """Count a name that was answered: azureml.core.Workspace, or Workspace.from_config for a call."""
        self.answered[name] += 1

    def lacks(self, name: str, instead: str = "") -> None:
        """Tell of a name that is not there."""
        if not self.missing.get(name):
            self.missing[name] = instead

    def stood_in(self, environment: str, error: Exception) -> None:
        """Tell of an environment that cannot be had any more, as of a Python that nobody has: the worker's packages stand in."""
        why = getattr(error, "message", None) or str(error)
        if self._stood_in.setdefault(f"Environment {environment!r}", told := f"the worker's own packages, for {why}") is not told:
            return
        print(f"dbml: environment {environment!r} cannot be had ({why}); the script gets the worker's packages", file=sys.stderr)

    @property
    def nearly(self) -> dict[str, str]:
        """Return the names in use that do something else than they did, and what."""
        return {name: DIFFERENCES[name] for name in self.answered if name in DIFFERENCES} | self._stood_in

    def lines(self) -> list[str]:
        """Return the report, a line each."""
        nearly = self.nearly
        whole = sorted(name for name in self.answered if name not in nearly)
        told = ["", "azureml, answered by dbml:"]
        told += [f"  {name}" + (f" ({self.answered[name]} times)" if self.answered[name] > 1 else "") for name in whole]
        if nearly:
            told += ["answered nearly:"] + [f"  {name}: {what}" for name, what in sorted(nearly.items())]
        if self.missing:
            told += ["not there:"] + [f"  {name}" + (f": {what}" if what else "") for name, what in sorted(self.missing.items())]
        if self.left_out:
            told += ["left out of the notebook:"] + [f"  {line}" for line in self.left_out]
        if not (self.answered or self.missing):
            told.append("  nothing of azureml was used")
        return told

    def print(self, out: TextIO | None = None) -> None:
        """Print the report, to standard error."""
        stream = out or sys.stderr
        sys.stdout.flush()
        print("\n".join(self.lines()), file=stream, flush=True)


REPORT = Report()
