"""Runs side by side: their parameters, tags and last metrics as a frame, and a plot of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from dbml import errors
from dbml.core.metric_values import value_of
from dbml.core.run_details import AZURE_STATUS
from dbml.store.client import runs
from dbml.store.client.rows import Row

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from dbml.core.run import Run
    from dbml.core.workspace import Workspace


class Comparison:
    """Runs that are compared, as they were when it was made.

    A metric that was logged more than once stands with its last value; `series` has all of them.
    """

    def __init__(self, workspace: Workspace, chosen: Iterable[Run]) -> None:
        from dbml.core.metric_buffer import flush_all

        flush_all()
        self._rows = {run._id: run._row for run in chosen}
        self._metrics: list[Row] = workspace._connection.do_again(runs.metrics, list(self._rows)) if self._rows else []

    def __repr__(self) -> str:
        return repr(self.frame)

    def _repr_html_(self) -> str:
        return str(self.frame._repr_html_())

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def parameters(self) -> list[str]:
        """Return the names of the runs' parameters."""
        return sorted({name for row in self._rows.values() for name in row["params"] or {}})

    @property
    def metrics(self) -> list[str]:
        """Return the names of the metrics that are numbers."""
        return sorted({row["name"] for row in self._metrics if row["value"] is not None})

    @property
    def records(self) -> list[dict[str, Any]]:
        """Return a dictionary a run: run_id, name, status, started, seconds, its parameters, tags and metrics.

        Where a parameter and a metric have the same name, the parameter is called param.NAME, the tag tag.NAME.
        """
        last: dict[UUID, Row] = {run_id: {} for run_id in self._rows}
        for logged in self._metrics:
            if logged["kind"] in ("scalar", "list"):
                last[UUID(str(logged["run_id"]))][logged["name"]] = value_of(logged)
        names = {name for values in last.values() for name in values}
        found = []
        for run_id, row in self._rows.items():
            record: Row = {"run_id": str(run_id), "name": row["name"], "status": AZURE_STATUS[row["status"]],
                           "started": row["started_at"], "seconds": row["seconds"]}  # fmt: skip
            taken = {*record, *names}
            for prefix, column in (("param", "params"), ("tag", "tags")):
                for name, value in (row[column] or {}).items():
                    shown = f"{prefix}.{name}" if name in taken else name
                    record[shown] = value
                taken |= set(record)
            found.append({**record, **last[run_id]})
        return found

    @property
    def frame(self) -> pd.DataFrame:
        """Return `records` as a frame, a row a run, indexed by its id."""
        import pandas as pd

        found = self.records
        return pd.DataFrame.from_records(found, index="run_id") if found else pd.DataFrame(
            columns=["name", "status", "started", "seconds"]
        )  # fmt: skip

    def series(self, metric: str) -> pd.DataFrame:
        """Return every value of a metric: a row a value, with run, step (or its number) and time.

        Raises: InvalidArgument where no run has logged it.
        """
        import pandas as pd

        numbers: dict[Any, int] = {}
        records = []
        for logged in self._metrics:
            if logged["name"] == metric and logged["value"] is not None:
                number = numbers[logged["run_id"]] = numbers.get(logged["run_id"], -1) + 1
                step = logged["step"] if logged["step"] is not None else number
                records.append((str(logged["run_id"]), step, logged["value"], logged["logged_at"]))
        if not records:
            raise errors.InvalidArgument(f"a metric must have been logged to be drawn, got {metric!r} of {self.metrics}")
        return pd.DataFrame.from_records(records, columns=["run_id", "step", "value", "logged_at"])

    def plot(self, metric: str | None = None, against: str | None = None) -> Figure:
        """Draw a metric of every run, and return the matplotlib figure; it is not shown.

        metric: the first one where it is None.  against: a parameter, for a point a run; else a line a run over the steps
        where some run has several values, and else a bar a run.
        Raises: InvalidArgument for a metric or a parameter that no run has; ImportError without dbml[plot].
        """
        try:
            from matplotlib.figure import Figure
        except ImportError:
            raise ImportError("drawing needs matplotlib: pip install 'dbml[plot]'") from None

        if metric is None:
            if not self.metrics:
                raise errors.InvalidArgument("a run must have logged a number to be drawn")
            metric = self.metrics[0]
        values = self.series(metric)
        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.add_subplot()
        if against is not None:
            xs, ys = self._against(metric, against)
            axes.plot(xs, ys, "o")
            axes.set_xlabel(against)
        elif values["run_id"].nunique() < len(values):
            for run_id, line in values.groupby("run_id", sort=False):
                axes.plot(line["step"], line["value"], marker=".", label=self._label(str(run_id)))
            axes.set_xlabel("step")
            axes.legend(fontsize="small")
        else:
            axes.bar([self._label(run_id) for run_id in values["run_id"]], values["value"])
            axes.tick_params("x", rotation=30)
        axes.set_ylabel(metric)
        return figure

    def _against(self, metric: str, parameter: str) -> tuple[Sequence[Any], Sequence[float]]:
        last = {row["run_id"]: row["value"] for row in self._metrics if row["name"] == metric and row["value"] is not None}
        points = [
            (row["params"][parameter], last[run_id])
            for run_id, row in self._rows.items()
            if parameter in (row["params"] or {}) and run_id in last
        ]
        if not points:
            raise errors.InvalidArgument(
                f"a parameter must be a run's to draw against it, got {parameter!r} of {self.parameters}"
            )
        points.sort(key=lambda point: (str(type(point[0])), point[0]))
        return [x for x, _ in points], [y for _, y in points]

    def _label(self, run_id: str) -> str:
        row = self._rows[UUID(run_id)]
        said = ", ".join(f"{name}={value}" for name, value in (row["params"] or {}).items())
        return str(row["name"] or said or run_id[:8])
