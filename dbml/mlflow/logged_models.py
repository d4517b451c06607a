"""Models that runs log, which MLflow calls logged models, over the tags of their runs.

Their files are artifacts of the run, in a folder of the model's name, so that `Run.register_model` and dbml.artifacts have
them as anything that a run keeps.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from mlflow.entities import DatasetInput, LoggedModel, LoggedModelInput, LoggedModelOutput, LoggedModelStatus, Metric, RunStatus
from mlflow.store.entities.paged_list import PagedList
from mlflow.store.tracking import SEARCH_LOGGED_MODEL_MAX_RESULTS_DEFAULT
from mlflow.store.tracking.abstract_store import AbstractStore
from mlflow.utils.search_utils import SearchLoggedModelsUtils

from dbml.mlflow import held
from dbml.mlflow.failures import missing, translating


@translating
class LoggedModels(AbstractStore):  # type: ignore[misc]  # MLflow's classes are not typed
    """The part of a tracking store that keeps logged models, inputs and outputs."""

    @abstractmethod
    def _tags(self, run_id: str) -> dict[str, str]:
        """Return all tags of a run, those of `held` too."""

    @abstractmethod
    def _tag(self, run_id: str, tags: Mapping[str, str], remove: Sequence[str] = ()) -> None:
        """Set and remove tags."""

    @abstractmethod
    def _experiment_of(self, run_id: str) -> str:
        """Return the id of a run's experiment."""

    @abstractmethod
    def _kept_files(self, run_id: str) -> Sequence[str]:
        """Return the names of what a run keeps."""

    def _held(self, run_id: str) -> dict[str, Any]:
        return held.split(self._tags(run_id))[1]

    def _about(self, model_id: str) -> dict[str, Any]:
        about = self._held(held.run_of(model_id)).get(held.MODEL + model_id)
        if about is None:
            raise missing(f"no logged model has the id {model_id!r}")
        return dict(about)

    def _keep(self, model_id: str, about: Mapping[str, Any]) -> LoggedModel:
        run_id = held.run_of(model_id)
        changed = {**about, "updated": held.now_ms()}
        self._tag(run_id, {held.MODEL + model_id: held.text(changed)})
        return held.model(model_id, changed, self._experiment_of(run_id))

    def create_logged_model(
        self, experiment_id: str = "0", name: str | None = None, source_run_id: str | None = None, tags: Any = None,
        params: Any = None, model_type: str | None = None,
    ) -> LoggedModel:  # fmt: skip
        """Begin a model; without a run it gets one of its own, of its name."""
        wanted = name or "model"
        run_id = source_run_id
        if run_id is None:
            run_id = self.create_run(experiment_id, "", held.now_ms(), [], wanted).info.run_id
        about = {
            "name": wanted, "type": model_type, "created": held.now_ms(), "status": LoggedModelStatus.PENDING.value, "step": 0,
            "of_run": source_run_id is not None, "folder": self._free_folder(run_id, wanted), "metrics": [],
            "tags": {tag.key: tag.value for tag in tags or []}, "params": {param.key: param.value for param in params or []},
        }  # fmt: skip
        return self._keep(held.new_model_id(run_id), about)

    def _free_folder(self, run_id: str, name: str) -> str:
        """Return the folder of a model: its name, numbered where the run has something there."""
        used = {about["folder"] for key, about in self._held(run_id).items() if key.startswith(held.MODEL)}
        used |= {file.partition("/")[0] for file in self._kept_files(run_id)}
        folder, number = name, 1
        while folder in used:
            number += 1
            folder = f"{name}-{number}"
        return folder

    def get_logged_model(self, model_id: str, allow_deleted: bool = False) -> LoggedModel:
        """Return a model."""
        return held.model(model_id, self._about(model_id), self._experiment_of(held.run_of(model_id)))

    def finalize_logged_model(self, model_id: str, status: LoggedModelStatus) -> LoggedModel:
        """Say whether a model is whole; a run of its own ends with it."""
        about = self._about(model_id)
        if not about["of_run"]:
            ended = RunStatus.FINISHED if status == LoggedModelStatus.READY else RunStatus.FAILED
            self.update_run_info(held.run_of(model_id), ended, None, None)
        return self._keep(model_id, {**about, "status": LoggedModelStatus(status).value})

    def log_logged_model_params(self, model_id: str, params: Any) -> None:
        """Add parameters of a model."""
        about = self._about(model_id)
        self._keep(model_id, {**about, "params": {**about["params"], **{param.key: param.value for param in params}}})

    def set_logged_model_tags(self, model_id: str, tags: Any) -> None:
        """Set tags of a model."""
        about = self._about(model_id)
        self._keep(model_id, {**about, "tags": {**about["tags"], **{tag.key: tag.value for tag in tags}}})

    def delete_logged_model_tag(self, model_id: str, key: str) -> None:
        """Remove a tag of a model."""
        about = self._about(model_id)
        if key not in about["tags"]:
            raise missing(f"the logged model {model_id!r} has no tag {key!r}")
        self._keep(model_id, {**about, "tags": {name: value for name, value in about["tags"].items() if name != key}})

    def delete_logged_model(self, model_id: str) -> None:
        """Forget a model; its files stay with its run until that is deleted."""
        self._about(model_id)
        self._tag(held.run_of(model_id), {}, [held.MODEL + model_id])

    def _link_metrics(self, metrics: Sequence[Metric]) -> None:
        """Remember values as those of the models that they name; of a name, dataset and step the last one."""
        for model_id in dict.fromkeys(metric.model_id for metric in metrics):
            about = self._about(model_id)
            known = {(each["key"], each["dataset_name"], each["step"]): each for each in about["metrics"]}
            for metric in metrics:
                if metric.model_id == model_id:
                    known[metric.key, metric.dataset_name, metric.step] = {
                        "key": metric.key, "value": metric.value, "timestamp": metric.timestamp, "step": metric.step,
                        "dataset_name": metric.dataset_name, "dataset_digest": metric.dataset_digest,
                    }  # fmt: skip
            self._keep(model_id, {**about, "metrics": list(known.values())})

    def _search_models(
        self, found: Sequence[LoggedModel], filter_string: str | None, datasets: Any, max_results: int | None, order_by: Any,
        page_token: str | None,
    ) -> PagedList:  # fmt: skip
        """Return those of the models that a search asks for, a page of them."""
        wanted = SearchLoggedModelsUtils.sort(
            SearchLoggedModelsUtils.filter_logged_models(list(found), filter_string, datasets), order_by
        )  # fmt: skip
        most = max_results or SEARCH_LOGGED_MODEL_MAX_RESULTS_DEFAULT
        return PagedList(*SearchLoggedModelsUtils.paginate(wanted, page_token, most))

    def log_outputs(self, run_id: str, models: Sequence[LoggedModelOutput]) -> None:
        """Say at which step a run has made models."""
        for output in models:
            self._keep(output.model_id, {**self._about(output.model_id), "step": output.step})

    def log_inputs(
        self, run_id: str, datasets: Sequence[DatasetInput] | None = None, models: Sequence[LoggedModelInput] | None = None
    ) -> None:  # fmt: skip
        """Remember what a run used; the same dataset again is remembered once."""
        kept = self._held(run_id)
        tags = {}
        if datasets:
            known = {(each["dataset"]["name"], each["dataset"]["digest"]): each for each in kept.get(held.DATASETS, [])}
            for given in datasets:
                about = {
                    key: getattr(given.dataset, key) for key in ("name", "digest", "source_type", "source", "schema", "profile")
                }
                known[about["name"], about["digest"]] = {"dataset": about, "tags": {tag.key: tag.value for tag in given.tags}}
            tags[held.DATASETS] = held.text(list(known.values()))
        if models:
            tags[held.INPUTS] = held.text(list(dict.fromkeys([*kept.get(held.INPUTS, []), *(each.model_id for each in models)])))
        if tags:
            self._tag(run_id, tags)

    def record_logged_model(self, run_id: str, mlflow_model: Any) -> None:
        """Do nothing: what a run has logged is told by its logged models."""
