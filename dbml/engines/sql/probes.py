"""Probes: the rows on which a compiled model must answer as the model itself.

Random rows over the ranges of training and beyond, rows at every threshold and one float beside it, NULL and NaN in each
feature, unseen categories, extremes.  PostgreSQL computes the functions' answers, `sql/45_engines` compares.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from dbml import errors
from dbml.engines.python import PythonEngine
from dbml.engines.sql.compiler import Hints
from dbml.engines.sql.expressions import Forest, Input, Kind

SEED = 20_240_229
RANDOM_ROWS = 1000
THRESHOLD_ROWS = 4800
MOST_CELLS = 400_000
MOST_STEPS = 2_000_000  # down the trees, of all rows
FEWEST = 1000  # rows, whatever they cost
MOST_SPECIAL = 64  # features that are tried with each special value; of more, a random choice
FEW = 4  # features that are tried with each value that most models refuse
SIZES = (0.0, -0.0, 1e15, -1e15, 1.7e9, 1e-30)
REFUSED = (
    float("inf"),
    float("-inf"),
    1e300,
    -1e300,
    5e-324,
    3.4028235677973366e38,
    3.4028235677973362e38,
    -3.4028235677973366e38,
)
UNSEEN = ("", "never seen before", "Ω'\"")


@dataclass
class Probes:
    """Rows by column, and how many thresholds they try of how many.

    ordinary: the first so many rows are random ones; plain: so many have nothing that models refuse; groups: where each
    kind of the others begins, and the end.
    """

    columns: list[list[Any]]
    n: int
    ordinary: int
    plain: int
    groups: list[int]
    tried: int
    thresholds: int


def make_probes(kinds: Sequence[Kind], hints: Hints) -> Probes:
    """Make the rows."""
    random = np.random.default_rng(SEED)
    steps = sum(12 * len(forest.trees) for forest in hints.forests)
    budget = min(RANDOM_ROWS + THRESHOLD_ROWS, MOST_CELLS // max(1, len(kinds)), MOST_STEPS // max(1, steps))
    budget = max(FEWEST, budget)
    ordinary = [_random_column(i, kind, hints, random, min(RANDOM_ROWS, budget // 2)) for i, kind in enumerate(kinds)]
    n = len(ordinary[0]) if ordinary else 0
    rows = [list(row) for row in zip(*ordinary, strict=True)]
    at, tried, total = _at_thresholds(rows, kinds, hints, random, max(100, budget - n))
    base = list(rows)
    rows += at
    groups = []
    for group in _special(base, kinds, random):
        groups.append(len(rows))
        rows += group
    columns = [list(column) for column in zip(*rows, strict=True)]
    return Probes(columns, len(rows), n, groups[1], [*groups, len(rows)], tried, total)


def _random_column(i: int, kind: Kind, hints: Hints, random: np.random.Generator, n: int) -> list[Any]:
    known = hints.categories.get(i)
    if kind == "text":
        return [str(value) for value in random.choice(np.array(known or ["a", "b"], dtype=object), n)]
    if known:
        return [float(value) for value in random.choice(np.array(known, dtype=float), n)]
    values = hints.ranges.get(i)
    if not values:
        centre, width = 0.0, 1.0
    else:
        low, high = min(values), max(values)
        centre, width = (low + high) / 2, max((high - low) / 2, abs(low) * 1e-3, 1e-9)
    made = centre + width * random.uniform(-1, 1, n)
    beyond = random.random(n)
    made = np.where(beyond > 0.8, centre + 3 * width * random.standard_normal(n), made)
    if not values:  # of unknown size: some of every size
        made = np.where(beyond < 0.2, np.sign(made) * 10.0 ** random.uniform(-3, 4, n), made)
    made = np.where((beyond > 0.4) & (beyond < 0.5), np.round(made), made)
    return [float(value) for value in made]


def _at_thresholds(
    rows: Sequence[list[Any]], kinds: Sequence[Kind], hints: Hints, random: np.random.Generator, budget: int
) -> tuple[list[list[Any]], int, int]:
    """Return rows at thresholds, the number of thresholds tried, and of those there are."""
    made: list[list[Any]] = []
    nodes = [
        (forest, t, int(node)) for forest in hints.forests if all(isinstance(expr, Input) for expr in forest.inputs)
        for t, tree in enumerate(forest.trees) for node in tree.inner if int(node) not in tree.categories
    ]  # fmt: skip
    total = len(nodes) + len(hints.thresholds)
    room = max(1, budget // 6)
    plain = hints.thresholds[:room]
    for position, value in plain:
        for beside in (value, np.nextafter(value, np.inf), np.nextafter(value, -np.inf)):
            row = list(rows[int(random.integers(len(rows)))])
            row[position] = float(beside)
            made.append(row)
    room = max(0, room - len(plain) // 2)
    if len(nodes) > room:
        nodes = [nodes[int(i)] for i in sorted(random.choice(len(nodes), room, replace=False))]
    parents: dict[int, npt.NDArray[Any]] = {}
    for forest, t, node in nodes:
        tree = forest.trees[t]
        if id(tree) not in parents:
            parent = np.full(len(tree.left), -1)
            parent[tree.left[tree.inner]] = tree.inner
            parent[tree.right[tree.inner]] = tree.inner
            parents[id(tree)] = parent
        base = list(rows[int(random.integers(len(rows)))])
        _reach(base, tree, node, parents[id(tree)], forest)
        expr = forest.inputs[tree.feature[node]]
        assert isinstance(expr, Input)
        limit = float(tree.threshold[node])
        with np.errstate(over="ignore"):
            single = np.float32(limit)
            up, down = np.nextafter(single, np.float32(np.inf)), np.nextafter(single, np.float32(-np.inf))
            beside = [limit, np.nextafter(limit, np.inf), np.nextafter(limit, -np.inf), float(single), float(up), float(down)]
        if forest.allow_missing:
            beside[2] = None
        for value in beside:
            row = list(base)
            row[expr.position] = None if value is None else float(value)
            made.append(row)
    return made, len(nodes) + len(plain), total


def _reach(row: list[Any], tree: Any, node: int, parent: npt.NDArray[Any], forest: Forest) -> None:
    """Change a row so that it comes to a node of a tree."""
    bounds: dict[int, tuple[float, float]] = {}
    while (above := int(parent[node])) >= 0:
        expr = forest.inputs[tree.feature[above]]
        assert isinstance(expr, Input)
        low, high = bounds.get(expr.position, (-np.inf, np.inf))
        if above not in tree.categories:
            limit = float(tree.threshold[above])
            low, high = (low, min(high, limit)) if tree.left[above] == node else (max(low, limit), high)
            bounds[expr.position] = (low, high)
        node = above
    for position, (low, high) in bounds.items():
        value = row[position]
        if value is None or not low < value <= high:
            gap = abs(low if np.isfinite(low) else high) * 1e-3 + 1e-3
            if np.isfinite(low) and np.isfinite(high):
                row[position] = (low + high) / 2
            else:
                row[position] = high - gap if np.isfinite(high) else low + gap


def _special(rows: Sequence[list[Any]], kinds: Sequence[Kind], random: np.random.Generator) -> list[list[list[Any]]]:
    """Return groups of rows with one special value each: sizes, NULL, NaN, what most models refuse, several missing."""
    positions = list(range(len(kinds)))
    if len(positions) > MOST_SPECIAL:
        positions = sorted(int(i) for i in random.choice(len(positions), MOST_SPECIAL, replace=False))
    floats = [position for position in positions if kinds[position] == "float"]
    texts = [position for position in positions if kinds[position] == "text"]
    few = [floats[int(i)] for i in random.permutation(len(floats))[:FEW]]

    def row(position: int, value: Any) -> list[Any]:
        made = list(rows[int(random.integers(len(rows)))])
        made[position] = value
        return made

    def gaps() -> list[Any]:
        return [None if random.random() < 0.4 else value for value in rows[int(random.integers(len(rows)))]]

    nulls = [row(position, None) for position in positions]
    return [
        [row(position, value) for position in floats for value in SIZES],
        [row(position, value) for position in texts for value in UNSEEN],
        nulls,
        [[float("nan") if value is None and kinds[i] == "float" else value for i, value in enumerate(each)] for each in nulls],
        *([row(position, value) for value in REFUSED] for position in few),
        [gaps() for _ in range(16)] + [[None] * len(kinds)],
    ]


def answers(engine: PythonEngine, method: str, probes: Probes, kinds: Sequence[Kind]) -> list[Any]:
    """Return the model's own answer to each probe, None where it raised.

    A row is an answer, or an array of floats of several outputs or classes.
    """
    found: list[Any] = [None] * probes.n
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        _halves(engine, method, probes, kinds, found, 0, probes.plain)
        for start, stop in pairwise(probes.groups[1:]):
            if not _answer(engine, method, probes, kinds, found, start, stop):
                for i in range(start, stop):
                    _answer(engine, method, probes, kinds, found, i, i + 1)
    return found


def _halves(
    engine: PythonEngine, method: str, probes: Probes, kinds: Sequence[Kind], found: list[Any], start: int, stop: int
) -> None:  # fmt: skip
    """Score rows; where that raises, each half for itself."""
    if not _answer(engine, method, probes, kinds, found, start, stop) and stop - start > 1:
        middle = (start + stop) // 2
        _halves(engine, method, probes, kinds, found, start, middle)
        _halves(engine, method, probes, kinds, found, middle, stop)


def _answer(
    engine: PythonEngine, method: str, probes: Probes, kinds: Sequence[Kind], found: list[Any], start: int, stop: int
) -> bool:  # fmt: skip
    """Score rows; returns whether that went well."""
    if start < stop:
        try:
            found[start:stop] = list(engine.score(method, frame(engine, probes, kinds, start, stop)))
        except errors.DbmlError:
            return False
    return True


def frame(engine: PythonEngine, probes: Probes, kinds: Sequence[Kind], start: int, stop: int) -> Any:
    """Return some of the probes as the engine takes rows."""
    columns = [column[start:stop] for column in probes.columns]
    if all(kind == "float" for kind in kinds):
        return np.array([[np.nan if v is None else v for v in column] for column in columns], dtype=np.float64).T
    names = engine.features or [f"c{i}" for i in range(len(kinds))]
    series: Mapping[str, Any] = {
        name: pd.Series(column, dtype="str") if kind == "text" else pd.Series(column, dtype="float64")
        for name, column, kind in zip(names, columns, kinds, strict=True)
    }
    return pd.DataFrame(series)
