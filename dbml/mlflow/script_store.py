"""MLflow's tracking store inside a script of the worker, which reaches no database: what it logs goes by the script's run.

The script's run is the one that MLFLOW_RUN_ID names, so that `mlflow.start_run()` is that very run; another begins a part of
it, as `Run.child_run` does.  What is read is what the script itself has logged.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from mlflow.entities import Experiment, Metric, Run, RunInfo, ViewType
from mlflow.store.entities.paged_list import PagedList
from mlflow.store.tracking import SEARCH_MAX_RESULTS_DEFAULT
from mlflow.utils.search_utils import SearchUtils

from dbml.core import metric_values
from dbml.core.run_context import MOST_REMEMBERED, ScriptRun, context
from dbml.core.script_child import ScriptChild
from dbml.mlflow import entities, held
from dbml.mlflow.failures import missing, refuse, translating, wrong
from dbml.mlflow.logged_models import LoggedModels
from dbml.store.client.rows import Row

NEAREST = "a script in the worker has no connection to the database; mlflow in a program of yours has, by the workspace's address"


@dataclass
class _Known:
    """A run of the script's, and what it has logged through MLflow."""

    run: ScriptRun
    name: str | None
    parent: str | None
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    finished_at: datetime | None = None
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    metrics: list[Metric] = field(default_factory=list)


@translating
class ScriptStore(LoggedModels):
    """The runs of the script that this process is."""

    def __init__(self, store_uri: str | None = None, artifact_uri: str | None = None) -> None:
        super().__init__()
        own = context()
        self._own = own.id
        self._known = {own.id: _Known(own, None, None)}

    # -- the script's experiment -----------------------------------------------------------------------------------

    def _experiment(self) -> Experiment:
        own = entities.default_experiment()
        name = self._known[self._own].run._run.experiment
        return own if name is None else Experiment(own.experiment_id, name, own.artifact_location, own.lifecycle_stage)

    def get_experiment(self, experiment_id: str) -> Experiment:
        """Return the experiment of the script, which has the id 0 here."""
        if experiment_id != entities.DEFAULT_ID:
            raise missing(f"a script knows its own experiment alone, whose id is {entities.DEFAULT_ID}, got {experiment_id!r}")
        return self._experiment()

    def get_experiment_by_name(self, experiment_name: str) -> Experiment:
        """Return the experiment of the script, whatever name is asked for, with a warning where it has another."""
        own = self._experiment()
        if experiment_name != own.name:
            warnings.warn(
                f"the script's run is of experiment {own.name!r}, and stays there: {experiment_name!r} is ignored", stacklevel=5
            )
        return own

    def search_experiments(
        self, view_type: int = ViewType.ACTIVE_ONLY, max_results: int = SEARCH_MAX_RESULTS_DEFAULT,
        filter_string: str | None = None, order_by: Any = None, page_token: str | None = None,
    ) -> PagedList:  # fmt: skip
        """Return the experiment of the script."""
        return PagedList([self._experiment()], None)

    def create_experiment(self, name: str, artifact_location: str | None = None, tags: Any = None) -> str:
        """Refuse: see `NEAREST`."""
        refuse(NEAREST)

    def delete_experiment(self, experiment_id: str) -> None:
        """Refuse: see `NEAREST`."""
        refuse(NEAREST)

    def restore_experiment(self, experiment_id: str) -> None:
        """Refuse: see `NEAREST`."""
        refuse(NEAREST)

    def rename_experiment(self, experiment_id: str, new_name: str) -> None:
        """Refuse: see `NEAREST`."""
        refuse(NEAREST)

    def set_experiment_tag(self, experiment_id: str, tag: Any) -> None:
        """Refuse: see `NEAREST`."""
        refuse(NEAREST)

    # -- runs ------------------------------------------------------------------------------------------------------

    def _find(self, run_id: str) -> _Known:
        if run_id not in self._known:
            raise missing(f"run {run_id} is none that the script has begun; {NEAREST}")
        return self._known[run_id]

    def create_run(self, experiment_id: str, user_id: str, start_time: int, tags: Any, run_name: str | None) -> Run:
        """Begin a part of the script's run, or of a part that it has begun."""
        given = {tag.key: str(tag.value) for tag in tags or []}
        parent = self._find(given.pop(entities.PARENT, self._own))
        name = run_name or given.get(entities.NAME)
        given.pop(entities.NAME, None)
        child = parent.run.child_run(name)
        self._known[child.id] = _Known(child, name, parent.run.id)
        self._tag(child.id, given)
        return self.get_run(child.id)

    def get_run(self, run_id: str) -> Run:
        """Return a run of the script, with what it has logged."""
        known = self._find(run_id)
        last: dict[str, Row] = {}
        for metric in sorted(known.metrics, key=lambda metric: (metric.step, metric.timestamp, metric.value)):
            last[metric.key] = _row(run_id, metric)
        told = {
            "run_id": run_id, "experiment_id": None, "name": known.name, "username": known.run._run.user,
            "status": known.run._status if isinstance(known.run, ScriptChild) else "running", "params": known.params,
            "started_at": known.started_at, "finished_at": known.finished_at, "tags": known.tags, "parent_run_id": known.parent,
        }  # fmt: skip
        return entities.run(told, last.values())

    def update_run_info(self, run_id: str, run_status: int | None, end_time: int | None, run_name: str | None) -> RunInfo:
        """End a part of the script's run; the run itself ends with the script."""
        known = self._find(run_id)
        if run_name:
            self._tag(run_id, {entities.NAME: run_name})
        ending = entities.ENDINGS.get(run_status)
        if ending is not None and isinstance(known.run, ScriptChild) and known.run._status == "running":
            known.run._end(ending)
            known.finished_at = datetime.now(UTC)
        return self.get_run(run_id).info

    def delete_run(self, run_id: str) -> None:
        """Refuse: see `NEAREST`."""
        refuse(NEAREST)

    def restore_run(self, run_id: str) -> None:
        """Refuse: see `NEAREST`."""
        refuse(NEAREST)

    def _search_runs(
        self, experiment_ids: Sequence[str], filter_string: str | None, run_view_type: int, max_results: int, order_by: Any,
        page_token: str | None,
    ) -> tuple[list[Run], str | None]:  # fmt: skip
        found = [] if run_view_type == ViewType.DELETED_ONLY else [self.get_run(run_id) for run_id in self._known]
        page, token = SearchUtils.paginate(
            SearchUtils.sort(SearchUtils.filter(found, filter_string), order_by), page_token, max_results
        )
        return list(page), token

    # -- what they log ---------------------------------------------------------------------------------------------

    def log_batch(self, run_id: str, metrics: Sequence[Metric], params: Any, tags: Any) -> None:
        """Log metrics, parameters (which do not change) and tags of a run of the script."""
        known = self._find(run_id)
        if params:
            given = {param.key: str(param.value) for param in params}
            known.run._run.log_params(given)
            known.params |= given
        if tags:
            self._tag(run_id, {tag.key: str(tag.value) for tag in tags})
        linked = [metric for metric in metrics if metric.model_id is not None]
        new = [metric for metric in metrics if metric.model_id is None or _place(metric) not in map(_place, known.metrics)]
        known.run._log([
            metric_values.scalar(metric.key, float(metric.value), step=metric.step) | {"time": metric.timestamp / 1000}
            for metric in new
        ])  # fmt: skip
        known.metrics += new
        del known.metrics[:-MOST_REMEMBERED]
        if linked:
            self._link_metrics(linked)

    def get_metric_history(
        self, run_id: str, metric_key: str, max_results: int | None = None, page_token: str | None = None
    ) -> PagedList:  # fmt: skip
        """Return the values of a metric that the script has logged."""
        found = [entities.metric(_row(run_id, metric)) for metric in self._find(run_id).metrics if metric.key == metric_key]
        return PagedList(*SearchUtils.paginate(found, page_token, max_results) if max_results else (found, None))

    def delete_tag(self, run_id: str, key: str) -> None:
        """Refuse: a script sets tags, and another value takes the place of the former."""
        refuse(f"a tag of a script's run can be set anew and not removed; {NEAREST}")

    def _tags(self, run_id: str) -> dict[str, str]:
        return self._find(run_id).tags

    def _tag(self, run_id: str, tags: Mapping[str, str], remove: Sequence[str] = ()) -> None:
        if remove:
            raise wrong(f"a logged model of a script's run cannot be forgotten; {NEAREST}")
        known = self._find(run_id)
        known.run.set_tags(tags)
        known.tags |= tags

    def _experiment_of(self, run_id: str) -> str:
        return str(entities.DEFAULT_ID)

    def _kept_files(self, run_id: str) -> list[str]:
        return sorted(self._find(run_id).run._run.kept)

    def search_logged_models(
        self, experiment_ids: Sequence[str], filter_string: str | None = None, datasets: Any = None,
        max_results: int | None = None, order_by: Any = None, page_token: str | None = None,
    ) -> PagedList:  # fmt: skip
        """Return the models that the script has logged."""
        kept = (pair for known in self._known.values() for pair in held.split(known.tags)[1].items())
        found = [
            held.model(key.removeprefix(held.MODEL), about, entities.DEFAULT_ID)
            for key, about in kept
            if key.startswith(held.MODEL)
        ]
        return self._search_models(found, filter_string, datasets, max_results, order_by, page_token)


def _place(metric: Metric) -> tuple[str, int, int, float]:
    return metric.key, metric.step, metric.timestamp, metric.value


def _row(run_id: str, metric: Metric) -> Row:
    at = datetime.fromtimestamp(metric.timestamp / 1000, UTC)
    return {"run_id": run_id, "name": metric.key, "value": float(metric.value), "step": metric.step, "logged_at": at}
