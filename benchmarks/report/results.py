"""What was measured: figures and wishes of each part, kept as JSON beside the page, so that a part can be measured alone."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Figure:
    """Times of one way to do one thing, in seconds; none, and why, where it was not measured.

    rows: how many rows one time is of.
    """

    what: str
    way: str
    rows: int
    seconds: list[float] = field(default_factory=list)
    missing: str = ""

    @property
    def median(self) -> float:
        """Return the median time in seconds."""
        return statistics.median(self.seconds)


@dataclass
class Wish:
    """What is wanted of a figure: at least, or at most, so much."""

    what: str
    value: float
    at_least: float | None = None
    at_most: float | None = None

    @property
    def wanted(self) -> str:
        """Return the limit as text."""
        return f"≥ {self.at_least:g}" if self.at_least is not None else f"≤ {self.at_most:g}"

    @property
    def met(self) -> bool:
        """Tell whether it is as wanted."""
        return (self.at_least is None or self.value >= self.at_least) and (self.at_most is None or self.value <= self.at_most)


@dataclass
class Part:
    """One part of the page: where and when it was measured, and what came of it."""

    name: str
    about: dict[str, str] = field(default_factory=dict)
    figures: list[Figure] = field(default_factory=list)
    wishes: list[Wish] = field(default_factory=list)

    def add(self, what: str, way: str, rows: int, seconds: list[float] | None = None, missing: str = "") -> Figure:
        """Add a figure and return it."""
        figure = Figure(what, way, rows, list(seconds or []), missing)
        self.figures.append(figure)
        return figure

    def find(self, what: str, way: str, rows: int) -> Figure | None:
        """Return a figure that was measured, None where it was not."""
        for figure in self.figures:
            if (figure.what, figure.way, figure.rows) == (what, way, rows) and figure.seconds:
                return figure
        return None

    def ratio(self, what: str, slow: Figure | None, fast: Figure | None, **limit: float) -> None:
        """Add a wish for slow's time / fast's, a row, where both were measured."""
        if slow is not None and fast is not None and slow.seconds and fast.seconds:
            self.wishes.append(Wish(what, slow.median / slow.rows / (fast.median / fast.rows), **limit))


def read(path: Path) -> dict[str, Any]:
    """Return the machine and the parts of earlier runs; empty where there were none."""
    if not path.exists():
        return {"machine": {}, "parts": {}}
    kept = json.loads(path.read_text())
    parts = {
        name: Part(name, told["about"], [Figure(**f) for f in told["figures"]], [Wish(**w) for w in told["wishes"]])
        for name, told in kept["parts"].items()
    }
    return {"machine": kept["machine"], "parts": parts}


def write(path: Path, machine: dict[str, str], parts: dict[str, Part]) -> None:
    """Keep them, five digits of a time, a line a figure."""
    told: dict[str, Any] = {}
    for name, part in parts.items():
        told[name] = asdict(part)
        del told[name]["name"]
        for figure in told[name]["figures"]:
            figure["seconds"] = [float(f"{s:.5g}") for s in figure["seconds"]]
    path.write_text(json.dumps({"machine": machine, "parts": told}, indent=1, ensure_ascii=False) + "\n")
