"""The page: Markdown tables and SVG plots of what was measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.report.results import Figure, Part

TITLES = {
    "sets": "A table scored into another",
    "row": "One row, and PL/Python",
    "rate": "One-row predictions a second",
    "compiled": "Compiled models in the executor",
    "keep": "Kept predictions",
    "real": "A million rows, each compared",
}
ABOUT = {
    "sets": (
        "Ten `float8` a row. Each way reads the table, scores it and writes another with the predictions: `dbml.predict_into` "
        "with the engine that it chooses; the others take the rows out, score them with the same model, and bring them back. "
        "The service is asked over one connection for 1,000 rows at a time and computes in float32, as skl2onnx converts. "
        "Rows a second."
    ),
    "row": (
        "The time of one prepared statement, seen by a client on the same machine; of PL/Python with the unpickled model kept in "
        "the session; of a request to the service; and of scikit-learn's `predict` in a process that has the model. With more "
        "rows: a table scored into another, PL/Python reading through a cursor."
    ),
    "rate": (
        "`pgbench --protocol=prepared`, ten random features a call; the load generator runs on the same processors. Beside it "
        "the same statement without a prediction: what a call costs at all. Calls a second."
    ),
    "compiled": (
        "The compiled function alone, summed over a table in memory, without JIT; orbital's SQL for the same model likewise, "
        "over fewer rows. Rows a second."
    ),
    "keep": (
        "Statements that change rows of a table whose predictions `dbml.maintain_predictions` keeps true, and without; "
        "beside it what scoring the whole table again takes from outside."
    ),
    "real": (
        "A table like that of California's houses, with gaps, and text that training has not seen. The compiled function is "
        "called for each row, and the model itself is asked for the same; how many are different, and how far apart, is said "
        "above. Here, `dbml.predict_into` with either engine: rows a second."
    ),
}
UNITS = {"sets": "rows", "compiled": "rows", "rate": "rows", "real": "rows"}  # a second; the others are times


def write(folder: Path, machine: dict[str, str], parts: dict[str, Part]) -> Path:
    """Write the page and its plots into a folder, and return the page's path."""
    plots = folder / "benchmarks"
    plots.mkdir(parents=True, exist_ok=True)
    text = [
        "# Benchmarks", "",
        "Written by `python -m benchmarks.report` ([how](../CONTRIBUTING.md#benchmarks)), beside what one would use instead. "
        "Medians, with the least and the most in brackets; ways take turns on one machine.", "",
        "| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in machine.items()), "",
        "## What is wanted", "", "| what | wanted | measured | |", "|---|---|---|---|",
    ]  # fmt: skip
    for part in ordered(parts):
        for wish in part.wishes:
            text.append(f"| {wish.what} | {wish.wanted} | {_wished(wish.value)} | {'met' if wish.met else '**not met**'} |")
    for part in ordered(parts):
        about = ", ".join(f"{name} {value}" for name, value in part.about.items())
        text += ["", f"## {TITLES[part.name]}", "", ABOUT[part.name], "", f"Measured: {about}.", "", *_tables(part)]
        for name, label in _plot(plots, part):
            text += ["", f"![{label}](benchmarks/{name})"]
    page = folder / "benchmarks.md"
    page.write_text("\n".join(text) + "\n")
    return page


def _wished(value: float) -> str:
    if value >= 100 or value == 0:
        return f"{value:,.0f}"
    return f"{value:.2f}" if value >= 0.01 else f"{value:.1e}"


def ordered(parts: dict[str, Part]) -> list[Part]:
    """Return the parts in the page's order."""
    return [parts[name] for name in TITLES if name in parts]


def _unique(values: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(values))


def _tables(part: Part) -> list[str]:
    by_size = part.name == "sets"
    lines: list[str] = []
    if by_size:
        sizes = _unique(f.rows for f in part.figures)
        for what in _unique(f.what for f in part.figures):
            own = [f for f in part.figures if f.what == what]
            head = [f"{size:,} row{'s' * (size > 1)}" for size in sizes]
            cells = [[way, *(_cell(part.name, _one(own, way, size)) for size in sizes)] for way in _unique(f.way for f in own)]
            lines += ["", *_table([what, *head], cells)] if lines else _table([what, *head], cells)
        return lines
    ways = _unique(f.way for f in part.figures)
    keys = _unique((f.what, f.rows if part.name in ("row", "keep") else 0) for f in part.figures)
    cells = []
    for what, rows in keys:
        own = [f for f in part.figures if f.what == what and rows in (0, f.rows)]
        label = f"{what}, {rows:,} row{'s' * (rows > 1)}" if rows else what
        cells.append([label, *(_cell(part.name, _one(own, way, rows)) for way in ways)])
    return _table(["", *ways], cells)


def _one(figures: Sequence[Figure], way: str, rows: int) -> Figure | None:
    return next((f for f in figures if f.way == way and rows in (0, f.rows)), None)


def _table(head: Sequence[str], cells: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(head)} |", "|" + "---|" * len(head), *(f"| {' | '.join(row)} |" for row in cells)]


def _cell(part: str, figure: Figure | None) -> str:
    if figure is None:
        return ""
    if not figure.seconds:
        return f"({figure.missing})"
    least, most = min(figure.seconds), max(figure.seconds)
    if part in UNITS:
        shown = [_number(figure.rows / seconds) for seconds in (figure.median, most, least)]
    else:
        shown = [_time(seconds) for seconds in (figure.median, least, most)]
    return shown[0] if len(figure.seconds) == 1 else f"{shown[0]} ({shown[1]} to {shown[2]})"


def _number(value: float) -> str:
    digits = max(0, len(str(int(value))) - 3)
    return f"{round(value, -digits):,.0f}"


def _time(seconds: float) -> str:
    for limit, factor, unit in ((1e-3, 1e6, "µs"), (1.0, 1e3, "ms")):
        if seconds < limit:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds:.3g} s"


def _plot(folder: Path, part: Part) -> list[tuple[str, str]]:
    """Draw rows a second by size for each model, or bars of one row; return the files' names and what they show."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    mpl.rcParams.update({"svg.hashsalt": "dbml", "svg.fonttype": "none", "font.size": 9})
    if part.name not in ("sets", "row", "compiled"):
        return []
    models = _unique(f.what for f in part.figures)
    if part.name == "sets":
        figure, axes = plt.subplots(1, len(models), figsize=(3.4 * len(models), 3.2), sharey=True, squeeze=False)
        for axis, what in zip(axes[0], models, strict=True):
            for way in _unique(f.way for f in part.figures):
                points = [(f.rows, f.rows / f.median) for f in part.figures if (f.what, f.way) == (what, way) and f.seconds]
                axis.loglog(*zip(*points, strict=True), marker="o", markersize=3, linewidth=1, label=way)
            axis.set_title(what)
            axis.set_xlabel("rows")
            axis.grid(visible=True, linewidth=0.3)
        axes[0][0].set_ylabel("rows a second")
        figure.legend(*axes[0][0].get_legend_handles_labels(), loc="lower center", ncols=5, frameon=False)
        figure.tight_layout(rect=(0, 0.08, 1, 1))
        label = "rows a second by the number of rows, a line a way, a panel a model"
    else:
        shown = [f for f in part.figures if f.seconds and (part.name == "compiled" or f.rows == 1)]
        figure, axis = plt.subplots(figsize=(8, 0.6 + 0.22 * len(shown)))
        names = [f"{f.what}: {f.way}" for f in shown]
        values = [f.rows / f.median if part.name == "compiled" else f.median * 1000 for f in shown]
        axis.barh(names, values, color=["tab:blue" if f.way.startswith("dbml") else "tab:gray" for f in shown])
        axis.set_xscale("log")
        axis.set_xlabel("rows a second" if part.name == "compiled" else "ms, one row")
        axis.invert_yaxis()
        axis.grid(visible=True, axis="x", linewidth=0.3)
        figure.tight_layout()
        label = "rows a second of compiled models" if part.name == "compiled" else "milliseconds for one row"
    path = folder / f"{part.name}.svg"
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    return [(path.name, label)]
