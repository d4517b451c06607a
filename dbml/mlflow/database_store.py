"""MLflow's tracking store over a workspace: experiments and runs are dbml's, in the session of the SDK."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from mlflow.entities import Experiment, LoggedModel, Metric, Run, RunInfo, ViewType
from mlflow.store.entities.paged_list import PagedList
from mlflow.store.tracking import SEARCH_MAX_RESULTS_DEFAULT
from mlflow.utils.search_utils import SearchExperimentsUtils, SearchUtils

from dbml import errors
from dbml.core import metric_values
from dbml.core.metric_buffer import MetricBuffer, buffer_of
from dbml.core.tracking_uri import workspace_of
from dbml.mlflow import entities, held
from dbml.mlflow.failures import missing, refuse, taken, translating, wrong
from dbml.mlflow.logged_models import LoggedModels
from dbml.store.client import experiments, runs, tracking
from dbml.store.client.rows import Row

FOR_GOOD = "dbml deletes for good: there is nothing to restore"


@translating
class DatabaseStore(LoggedModels):
    """The experiments and runs of the workspace that an address names.

    Metrics are collected and written in batches, as those of `Run.log`: they are there when a run is read or ends, within a
    second at the latest.
    """

    def __init__(self, store_uri: str, artifact_uri: str | None = None) -> None:
        super().__init__()
        self._workspace = workspace_of(store_uri)
        self._connection = self._workspace._connection
        self._buffers: dict[UUID, MetricBuffer] = {}

    # -- experiments -----------------------------------------------------------------------------------------------

    def _experiments(self, name: str | None = None) -> list[Row]:
        return self._connection.do_again(experiments.list_all, self._workspace.name, name)

    def create_experiment(self, name: str, artifact_location: str | None = None, tags: Any = None) -> str:
        """Make an experiment; returns its id."""
        if artifact_location is not None:
            refuse("artifacts of dbml's runs are kept in the database: artifact_location must be None")
        if self._experiments(name):
            raise taken(f"experiment {name!r} exists in workspace {self._workspace.name!r}")
        given = {tag.key: tag.value for tag in tags or []}
        return str(self._connection.do(experiments.create, self._workspace.name, name, tags=given))

    def get_experiment(self, experiment_id: str) -> Experiment:
        """Return an experiment by its id."""
        return entities.default_experiment() if (row := self._row(experiment_id)) is None else entities.experiment(row)

    def _row(self, experiment_id: str) -> Row | None:
        """Return an experiment's row; None for the default one, before there is a run of it."""
        for row in self._experiments(entities.DEFAULT_NAME if experiment_id == entities.DEFAULT_ID else None):
            if experiment_id in (str(row["experiment_id"]), entities.DEFAULT_ID):
                return row
        if experiment_id == entities.DEFAULT_ID:
            return None
        raise missing(f"no experiment of workspace {self._workspace.name!r} has the id {experiment_id!r}")

    def _named(self, experiment_id: str) -> str:
        row = self._row(experiment_id)
        return entities.DEFAULT_NAME if row is None else str(row["name"])

    def get_experiment_by_name(self, experiment_name: str) -> Experiment | None:
        """Return an experiment by its name, None where there is none."""
        rows = self._experiments(experiment_name)
        if rows:
            return entities.experiment(rows[0])
        return entities.default_experiment() if experiment_name == entities.DEFAULT_NAME else None

    def search_experiments(
        self, view_type: int = ViewType.ACTIVE_ONLY, max_results: int = SEARCH_MAX_RESULTS_DEFAULT,
        filter_string: str | None = None, order_by: Any = None, page_token: str | None = None,
    ) -> PagedList:  # fmt: skip
        """Return the experiments that a filter of MLflow's lets through; none is in a state of being deleted."""
        found = [] if view_type == ViewType.DELETED_ONLY else [entities.experiment(row) for row in self._experiments()]
        wanted = SearchExperimentsUtils.sort(
            SearchExperimentsUtils.filter(found, filter_string), order_by or ["creation_time DESC", "experiment_id ASC"]
        )
        return PagedList(*SearchUtils.paginate(wanted, page_token, _page(max_results)))

    def delete_experiment(self, experiment_id: str) -> None:
        """Delete an experiment that has no runs, for good."""
        self._connection.do(experiments.delete, self._workspace.name, self._named(experiment_id))

    def restore_experiment(self, experiment_id: str) -> None:
        """Refuse: what is deleted is gone."""
        refuse(FOR_GOOD)

    def rename_experiment(self, experiment_id: str, new_name: str) -> None:
        """Refuse: an experiment keeps its name."""
        refuse("an experiment of dbml keeps its name, by which its runs are known; set_experiment_tag describes it")

    def set_experiment_tag(self, experiment_id: str, tag: Any) -> None:
        """Set a tag of an experiment."""
        name = self._named(experiment_id)
        if self._row(experiment_id) is None:
            self._connection.do_again(experiments.create, self._workspace.name, name)
        self._connection.do_again(experiments.update, self._workspace.name, name, tags={tag.key: tag.value})

    def delete_experiment_tag(self, experiment_id: str, key: str) -> None:
        """Remove a tag of an experiment."""
        self._connection.do_again(experiments.update, self._workspace.name, self._named(experiment_id), remove=[key])

    # -- runs ------------------------------------------------------------------------------------------------------

    def create_run(self, experiment_id: str, user_id: str, start_time: int, tags: Any, run_name: str | None) -> Run:
        """Begin a run, which lives as long as this process, or until it is ended."""
        given = {tag.key: tag.value for tag in tags or []}
        parent = given.pop(entities.PARENT, None)
        name = run_name or given.get(entities.NAME)
        given.pop(entities.NAME, None)
        self._connection.hold_runs()
        run_id = self._connection.do(
            runs.start, self._workspace.name, self._named(experiment_id), name=name, tags=given,
            parent_run_id=None if parent is None else _as_id(parent),
        )  # fmt: skip
        return self.get_run(str(run_id))

    def get_run(self, run_id: str) -> Run:
        """Return a run, with what it has logged so far."""
        key = _as_id(run_id)
        self._flush([key])
        return self._told([self._find(key)])[0]

    def _find(self, key: UUID) -> Row:
        rows = self._connection.do_again(tracking.runs, self._workspace.name, run_ids=[key])
        if not rows:
            raise errors.RunNotFound(
                f"run {key} is not in workspace {self._workspace.name!r}", hint="SELECT run_id FROM dbml.runs"
            )
        return rows[0]

    def _told(self, rows: Sequence[Row]) -> list[Run]:
        metrics: dict[UUID, list[Row]] = {}
        for row in self._connection.do_again(tracking.latest, [row["run_id"] for row in rows]):
            metrics.setdefault(row["run_id"], []).append(row)
        return [entities.run(row, metrics.get(row["run_id"], ())) for row in rows]

    def update_run_info(self, run_id: str, run_status: int | None, end_time: int | None, run_name: str | None) -> RunInfo:
        """Say how a run stands, and its name; one that has ended, or whose worker says how it ends, keeps its state."""
        key = _as_id(run_id)
        if run_name:
            self._tag(run_id, {entities.NAME: run_name})
        ending = entities.ENDINGS.get(run_status)
        row = self._find(key)
        if ending is not None and row["source"] == "client" and row["status"] in ("running", "interrupted"):
            self._flush([key])
            self._connection.do_again(runs.finish, key, ending)
        return self.get_run(run_id).info

    def delete_run(self, run_id: str) -> None:
        """Delete a run that has ended, for good."""
        self._connection.do(runs.delete, _as_id(run_id))

    def restore_run(self, run_id: str) -> None:
        """Refuse: what is deleted is gone."""
        refuse(FOR_GOOD)

    def _search_runs(
        self, experiment_ids: Sequence[str], filter_string: str | None, run_view_type: int, max_results: int, order_by: Any,
        page_token: str | None,
    ) -> tuple[list[Run], str | None]:  # fmt: skip
        found: list[Run] = []
        if run_view_type != ViewType.DELETED_ONLY:
            self._flush(list(self._buffers))
            found = self._told(
                self._connection.do_again(tracking.runs, self._workspace.name, experiment_ids=self._keys(experiment_ids))
            )
        wanted = SearchUtils.sort(SearchUtils.filter(found, filter_string), order_by)
        page, token = SearchUtils.paginate(wanted, page_token, _page(max_results))
        return list(page), token

    def _keys(self, experiment_ids: Sequence[str]) -> list[int]:
        rows = (self._row(experiment_id) for experiment_id in experiment_ids)
        return [int(row["experiment_id"]) for row in rows if row is not None]

    # -- what runs log ---------------------------------------------------------------------------------------------

    def log_batch(self, run_id: str, metrics: Sequence[Metric], params: Any, tags: Any) -> None:
        """Log metrics, parameters (which do not change) and tags of a run."""
        key = _as_id(run_id)
        if params:
            self._connection.do_again(runs.log_params, key, {param.key: str(param.value) for param in params})
        if tags:
            self._tag(run_id, {tag.key: str(tag.value) for tag in tags})
        if metrics:
            self._log(key, metrics)

    def _log(self, key: UUID, metrics: Sequence[Metric]) -> None:
        linked = [metric for metric in metrics if metric.model_id is not None]
        if linked:  # MLflow logs what is there again, to say of which model it is
            there = {_place(entities.metric(row)) for row in self._history(key, list({metric.key for metric in linked}))}
            metrics = [metric for metric in metrics if metric.model_id is None or _place(metric) not in there]
        rows = [
            metric_values.scalar(metric.key, float(metric.value), step=metric.step) | {"time": metric.timestamp / 1000}
            for metric in metrics
        ]
        buffer = self._buffers.get(key)
        if buffer is not None:
            buffer.add(rows)
        else:  # the first values tell whether the run is there, and whether this user may log
            buffer = buffer_of(self._connection, key)
            buffer.add(rows)
            buffer.flush()
            self._buffers[key] = buffer
        if linked:
            self._link_metrics(linked)

    def _flush(self, keys: Sequence[UUID]) -> None:
        for key in keys:
            buffer_of(self._connection, key).flush()

    def _history(self, key: UUID, names: Sequence[str]) -> list[Row]:
        self._flush([key])
        return self._connection.do_again(tracking.history, key, names)

    def get_metric_history(
        self, run_id: str, metric_key: str, max_results: int | None = None, page_token: str | None = None
    ) -> PagedList:  # fmt: skip
        """Return all values of a metric, in the order of logging."""
        key = _as_id(run_id)
        self._find(key)
        found = [entities.metric(row) for row in self._history(key, [metric_key])]
        return PagedList(*SearchUtils.paginate(found, page_token, _page(max_results)) if max_results else (found, None))

    def delete_tag(self, run_id: str, key: str) -> None:
        """Remove a tag of a run."""
        if key not in self._tags(run_id):
            raise missing(f"run {run_id} has no tag {key!r}")
        self._tag(run_id, {}, [key])

    # -- logged models ---------------------------------------------------------------------------------------------

    def _tags(self, run_id: str) -> dict[str, str]:
        return dict(self._find(_as_id(run_id))["tags"])

    def _tag(self, run_id: str, tags: Mapping[str, str], remove: Sequence[str] = ()) -> None:
        self._connection.do_again(runs.tag, _as_id(run_id), tags, remove)

    def _experiment_of(self, run_id: str) -> str:
        found = self._find(_as_id(run_id))["experiment_id"]
        return entities.DEFAULT_ID if found is None else str(found)

    def _kept_files(self, run_id: str) -> list[str]:
        return [str(row["name"]) for row in self._connection.do_again(runs.artifacts, _as_id(run_id))]

    def search_logged_models(
        self, experiment_ids: Sequence[str], filter_string: str | None = None, datasets: Any = None,
        max_results: int | None = None, order_by: Any = None, page_token: str | None = None,
    ) -> PagedList:  # fmt: skip
        """Return the models that runs of experiments have logged."""
        rows = self._connection.do_again(tracking.runs, self._workspace.name, experiment_ids=self._keys(experiment_ids))
        found: list[LoggedModel] = []
        for row in rows:
            for key, about in held.split(row["tags"])[1].items():
                if key.startswith(held.MODEL):
                    found.append(held.model(key.removeprefix(held.MODEL), about, str(row["experiment_id"])))
        return self._search_models(found, filter_string, datasets, max_results, order_by, page_token)


def _as_id(text: str) -> UUID:
    try:
        return UUID(str(text))
    except ValueError:
        raise errors.RunNotFound(f"a run's id must be a UUID, got {text!r}", hint="SELECT run_id FROM dbml.runs") from None


def _place(metric: Metric) -> tuple[str, int, int, float]:
    return metric.key, metric.step, metric.timestamp, metric.value


def _page(max_results: int | None) -> int:
    if max_results is not None and max_results < 1:
        raise wrong(f"max_results must be at least 1, got {max_results}")
    return max_results or SEARCH_MAX_RESULTS_DEFAULT
