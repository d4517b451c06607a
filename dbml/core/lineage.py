"""Lineage: where something comes from and what was made of it, as a graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from dbml.exceptions import UserErrorException
from dbml.store.client import submissions

if TYPE_CHECKING:
    import pandas as pd

    from dbml.core.workspace import Workspace

Node = tuple[str, str]  # kind, name

_BOX = '["{}"]'
# Shapes of Mermaid's flowcharts, and colours of the picture.
_SHAPES = {
    "table": '[("{}")]', "dataset": '[("{}")]', "run": '("{}")', "model": '[["{}"]]', "environment": '{{{{"{}"}}}}',
    "script": '>"{}"]', "service": '(["{}"])',
}  # fmt: skip
_COLORS = {
    "table": "#cfe2f3", "dataset": "#cfe2f3", "run": "#fff2cc", "model": "#d9ead3", "environment": "#ead1dc",
    "script": "#eeeeee", "service": "#f4cccc",
}  # fmt: skip


@dataclass(frozen=True)
class Step:
    """One step: from something, by a relation, to something; depth: from what was asked for."""

    direction: str
    depth: int
    source: Node
    relation: str
    target: Node
    at: datetime | None


class Lineage:
    """The steps to and from something, and pictures of them."""

    def __init__(self, name: str, steps: list[Step]) -> None:
        self.name = name
        self.steps = steps

    @property
    def nodes(self) -> list[Node]:
        """Return everything that is a step's end, in the order of the steps."""
        return list(dict.fromkeys(end for step in self._edges() for end in (step.source, step.target)))

    def upstream(self, kind: str | None = None) -> list[str]:
        """Return the names of what it comes from, the nearest first; kind: table, dataset, run, script, environment, model."""
        return self._ends("upstream", kind)

    def downstream(self, kind: str | None = None) -> list[str]:
        """Return the names of what was made of it, the nearest first."""
        return self._ends("downstream", kind)

    def _ends(self, direction: str, kind: str | None) -> list[str]:
        found = [step.source if direction == "upstream" else step.target for step in self.steps if step.direction == direction]
        return list(dict.fromkeys(name for its_kind, name in found if kind in (None, its_kind)))

    def _edges(self) -> list[Step]:
        return list({(step.source, step.relation, step.target): step for step in self.steps}.values())

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)

    def __repr__(self) -> str:
        return f"Lineage({self.name!r}, {len(self.upstream())} upstream, {len(self.downstream())} downstream)"

    def to_pandas_dataframe(self) -> pd.DataFrame:
        """Return the steps as a frame."""
        import pandas as pd

        columns = ["direction", "depth", "from_kind", "from", "relation", "to_kind", "to", "at"]
        rows = [(s.direction, s.depth, *s.source, s.relation, *s.target, s.at) for s in self.steps]
        return pd.DataFrame(rows, columns=columns)

    def mermaid(self) -> str:
        """Return the graph as text of Mermaid, a flowchart from left to right."""
        number = {node: f"n{at}" for at, node in enumerate(self.nodes)}
        lines = ["flowchart LR"]
        lines += [f"    {number[node]}{_SHAPES.get(node[0], _BOX).format(_quoted(_label(node)))}" for node in self.nodes]
        lines += [f"    {number[step.source]} -->|{step.relation}| {number[step.target]}" for step in self._edges()]
        return "\n".join(lines) + "\n"

    def plot(self, ax: Any = None) -> Any:
        """Draw the graph with matplotlib; returns its axes.

        ax: axes to draw on, new ones where there are none.
        Raises: UserErrorException where matplotlib is not installed.
        """
        try:
            from matplotlib import pyplot
        except ImportError:
            raise UserErrorException(
                "drawing needs matplotlib, which is not installed", hint="pip install 'dbml[plot]'"
            ) from None
        places = self._places()
        if ax is None:
            across = 1 + max((x for x, _ in places.values()), default=0) - min((x for x, _ in places.values()), default=0)
            tallest = max(([x for x, _ in places.values()].count(at) for at, _ in places.values()), default=1)
            _, ax = pyplot.subplots(figsize=(max(4.0, 2.8 * across), max(2.0, 0.9 * tallest)))
        for step in self._edges():
            ax.annotate(
                "", places[step.target], places[step.source],
                arrowprops={"arrowstyle": "->", "color": "#888888", "shrinkA": 28, "shrinkB": 28},
            )  # fmt: skip
        for node, (x, y) in places.items():
            box = {"boxstyle": "round,pad=0.4", "facecolor": _COLORS.get(node[0], "#ffffff"), "edgecolor": "#666666"}
            ax.text(x, y, f"{node[0]}\n{_label(node)}", ha="center", va="center", fontsize=8, bbox=box)
        xs = [x for x, _ in places.values()] or [0.0]
        ys = [y for _, y in places.values()] or [0.0]
        ax.set_xlim(min(xs) - 0.6, max(xs) + 0.6)
        ax.set_ylim(min(ys) - 0.8, max(ys) + 0.8)
        ax.set_axis_off()
        return ax

    def _places(self) -> dict[Node, tuple[float, float]]:
        """Return where each node stands: upstream to the left by its distance, downstream to the right."""
        column: dict[Node, int] = {}
        for step in sorted(self.steps, key=lambda step: step.depth):
            near, far, sign = (step.target, step.source, -1) if step.direction == "upstream" else (step.source, step.target, 1)
            column.setdefault(near, 0 if step.depth == 1 else sign * (step.depth - 1))
            column.setdefault(far, sign * step.depth)
        rows: dict[int, list[Node]] = {}
        for node, at in column.items():
            rows.setdefault(at, []).append(node)
        return {
            node: (float(at), float((len(nodes) - 1) / 2 - row)) for at, nodes in rows.items() for row, node in enumerate(nodes)
        }

    def _repr_html_(self) -> str:
        return str(self.to_pandas_dataframe().to_html(index=False))

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/plain": repr(self), "text/html": self._repr_html_(), "text/vnd.mermaid": self.mermaid()}


def _label(node: Node) -> str:
    return node[1][:8] if node[0] == "run" else node[1]


def _quoted(text: str) -> str:
    """Return a text as it stands in quotes in Mermaid, which has entities in place of escapes."""
    return text.replace("#", "#35;").replace('"', "#quot;").replace("\n", " ")


def lineage(workspace: Workspace, name: str) -> Lineage:
    """Return the lineage of a model, a dataset, a table, an environment or a run, as dbml.lineage names them.

    Raises: NothingFound.
    """
    rows = workspace._connection.do_again(submissions.lineage, workspace.name, name)
    return Lineage(name, [_step(row) for row in rows])


def _step(row: Mapping[str, Any]) -> Step:
    source, target = (row["from_kind"], row["from"]), (row["to_kind"], row["to"])
    return Step(row["direction"], row["depth"], source, row["relation"], target, row["at"])
