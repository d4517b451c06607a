"""Profiles of models: what one that is served needs, measured by asking it once for each row of a dataset.

A profile is a run of the experiment `model-profiles`, so that dbml.runs and dbml.metrics show it: the milliseconds of each
request as the metric latency_ms, what was made of them as the row `profile`, what the scoring app said in logs/service.log.
"""

from __future__ import annotations

import io
import math
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dbml import errors
from dbml.core import stand_in
from dbml.exceptions import UserErrorException, WebserviceException
from dbml.store.client import datasets, runs

if TYPE_CHECKING:
    from dbml.core.inference_config import InferenceConfig
    from dbml.core.model import Model
    from dbml.core.run import Run
    from dbml.core.workspace import Workspace
    from dbml.serving.plans.making import Made
    from dbml.serving.runner.measuring import Measured

EXPERIMENT = "model-profiles"
LOG = "logs/service.log"
LATENCY = "latency_ms"
# azureml-core's names of latencies, and which part of the requests was answered within each.
PERCENTILES = {
    "latencyPercentile50InMs": 0.5, "latencyPercentile90InMs": 0.9, "latencyPercentile95InMs": 0.95,
    "latencyPercentile99InMs": 0.99, "latencyPercentile999InMs": 0.999,
}  # fmt: skip
DETAILS = (
    "recommendedCpu", "recommendedMemoryInGB", "recommendationLatencyInMs", "maxUtilizedCpu", "maxUtilizedMemoryInGB",
    "averageLatencyInMs", *PERCENTILES, "measuredQueriesPerSecond", "totalQueries", "successQueries", "successRate",
    "requestedCpu", "requestedMemoryInGB", "error",
)  # fmt: skip
SPARE = 1.25  # what is recommended, for what was used at most
STATES = {"Completed": "Succeeded", "Running": "Running"}


class ModelProfile:
    """A profile of a workspace by its name, the newest where there are several; `Model.profile` makes one.

    Raises: WebserviceException where there is none.
    """

    def __init__(self, workspace: Workspace, name: str) -> None:
        from dbml.core.experiment import Experiment

        self.workspace = workspace
        self.name = name
        of_name = (
            run for found in Experiment.list(workspace, EXPERIMENT) for run in found.get_runs(properties={"profile": name})
        )
        newest = next(of_name, None)
        if newest is None:
            raise WebserviceException(
                f"no profile {name!r} is in workspace {workspace.name!r}",
                hint="SELECT display_name FROM dbml.runs WHERE experiment = 'model-profiles'",
            )
        self._run: Run = newest
        self._work: threading.Thread | None = None

    @classmethod
    def _of(cls, workspace: Workspace, name: str, run: Run, work: threading.Thread) -> ModelProfile:
        found = cls.__new__(cls)
        found.workspace, found.name, found._run, found._work = workspace, name, run, work
        return found

    def __repr__(self) -> str:
        return f"ModelProfile(workspace={self.workspace.name!r}, name={self.name!r}, run={self._run.id})"

    @property
    def run(self) -> Run:
        """Return the run that keeps it."""
        return self._run

    def wait_for_completion(self, show_output: bool = False) -> None:
        """Wait until every row was asked.

        Raises: WebserviceException where nothing could be measured, with what is wrong.
        """
        if show_output:
            print(f"Profiling {self.name} as run {self._run.id}")
        if self._work is not None:
            self._work.join()
        self._run.wait_for_completion(raise_on_error=False)
        details = self.get_details()
        if show_output:
            print("\n".join(f"{key}: {value}" for key, value in details.items()))
        if details["state"] != "Succeeded":
            raise WebserviceException(
                f"profile {self.name!r} is {details['state']}: {details.get('error', 'no error was recorded')}",
                hint="profile.run.get_details_with_logs()",
            )

    wait_for_profiling = wait_for_completion  # its older name

    def get_details(self) -> dict[str, Any]:
        """Return what was found, by the names of azureml-core.

        name, state (Running, Succeeded or Failed); of one that succeeded recommendedCpu, recommendedMemoryInGB, maxUtilizedCpu,
        maxUtilizedMemoryInGB, averageLatencyInMs, latencyPercentile50InMs to 999, measuredQueriesPerSecond, totalQueries,
        successQueries, successRate in percent, requestedCpu, requestedMemoryInGB; error where some or all requests failed.
        """
        status = self._run.get_status()
        found: dict[str, Any] = {"name": self.name, "state": STATES.get(status, "Failed")}
        kept: Mapping[str, Any] = self._run.get_metrics("profile").get("profile", {})
        found |= {key: kept[key] for key in DETAILS if key in kept}
        error = self._run._row["error"]
        if error:
            found |= {"error": error, "errorLogsUri": f"{self._run.get_portal_url()}/{LOG}"}
        return found

    def serialize(self) -> dict[str, Any]:
        """Return what is known of it as JSON has it."""
        started = self._run.get_details().get("startTimeUtc")
        return {**self.get_details(), "createdTime": started, **self._run.params}


def profile(
    workspace: Workspace, name: str, models: Sequence[Model], inference_config: InferenceConfig | None, dataset: Any,
    cpu: float | None, memory_in_gb: float | None, description: str | None,
) -> ModelProfile:  # fmt: skip
    """Begin to profile models, in a thread; errors as `Model.profile`."""
    from dbml.serving.runner.interpreters import require_app

    require_app()
    for what, value in (("cpu", cpu), ("memory_in_gb", memory_in_gb)):
        if value is not None and not value > 0:
            raise errors.InvalidArgument(f"{what} must be above 0, got {value!r}")
    bodies = _bodies(dataset)
    made = _plan(workspace, name, models, inference_config)
    params = {
        "models": [model.id for model in models], "entry_script": made.plan.entry_script, "environment": made.environment,
        "cpu": cpu, "memory_in_gb": memory_in_gb, "description": description, "queries": len(bodies),
    }  # fmt: skip
    connection = workspace._connection
    connection.hold_runs()
    run_id = connection.do(
        runs.start, workspace.name, EXPERIMENT, name=name, properties={"profile": name},
        params={key: value for key, value in params.items() if value is not None},
    )  # fmt: skip
    if getattr(dataset, "_row", None) is not None:
        connection.do(datasets.link, workspace.name, run_id, dataset._reference, "input_dataset")
    run = workspace.get_run(str(run_id))
    work = threading.Thread(target=_measure, args=(run, made, bodies, cpu, memory_in_gb), name="dbml profile")
    work.start()
    return ModelProfile._of(workspace, name, run, work)


def _bodies(dataset: Any) -> list[str]:
    """Return the body of each request: the rows of a dataset of one column.

    Raises: UserErrorException for more columns, or no rows.
    """
    table = dataset.to_arrow()
    if table.num_columns != 1 or table.num_rows == 0:
        raise UserErrorException(
            f"input_dataset must have rows of one column, each the body of a request, got {table.num_rows} rows of"
            f" {table.num_columns} columns",
            hint="Dataset.Tabular.from_delimited_files(path, separator='\\n', header=False) reads a line a row",
        )
    return [str(value) for value in table.column(0).to_pylist() if value is not None]


def _plan(workspace: Workspace, name: str, models: Sequence[Model], config: InferenceConfig | None) -> Made:
    """Return what is served: with the lock of an environment where one is said, else with the packages that are here."""
    from dbml.core.packaging import plan_models
    from dbml.core.webservice.deploying import _has_environment

    service = f"profile-{name}"
    if config is not None and _has_environment(config):
        named = getattr(config.environment, "name", None) or service
        made: Made | None = stand_in.had(named, lambda: plan_models(workspace, models, config, name=service))
        if made is not None:
            return made
    return plan_models(workspace, models, config, name=service, locked=False)


def _measure(run: Run, made: Made, bodies: Sequence[str], cpu: float | None, memory_in_gb: float | None) -> None:
    from dbml.serving.runner.contract import Machine
    from dbml.serving.runner.measuring import measure

    cache = os.environ.get("DBML_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dbml"
    config = {key: value for key, value in (("cpu_cores", cpu), ("memory_gb", memory_in_gb)) if value is not None}
    try:
        said: list[str] = []
        try:
            found = measure(made.plan, bodies, config, machine=Machine(Path(cache).absolute()), say=said.append)
        finally:
            run.upload_file(LOG, io.BytesIO("".join(said).encode()))
        for number, seconds in enumerate(found.seconds):
            run.log(LATENCY, 1000 * seconds, step=number)
        failed = _failures(found)
        if len(found.failures) == len(bodies):
            run.fail(error_details=failed)
            return
        details: dict[str, Any] = {**_details(found, cpu, memory_in_gb), **({"error": failed} if failed else {})}
        run.log_row("profile", **details)
        run.complete()
    except Exception as error:  # the edge where a profile ends; whoever waits for it is told
        run.fail(error_details=error.message if isinstance(error, errors.DbmlError) else f"{type(error).__name__}: {error}")


def _failures(found: Measured) -> str | None:
    if not found.failures:
        return None
    number, (status, text) = next(iter(found.failures.items()))
    return f"{len(found.failures)} of {len(found.seconds)} requests failed, the first, row {number}, with {status}: {text}"


def _details(found: Measured, cpu: float | None, memory_in_gb: float | None) -> Mapping[str, float]:
    """Return what requests took by the names of azureml-core: of those that were answered, and processors and memory of all."""
    import numpy as np

    answered = [1000 * seconds for number, seconds in enumerate(found.seconds) if number not in found.failures]
    total = len(found.seconds)
    memory_gb = found.memory_bytes / (1 << 30)
    average = sum(answered) / len(answered)
    return {
        "recommendedCpu": _enough(found.most_cpu), "recommendedMemoryInGB": _enough(memory_gb),
        "recommendationLatencyInMs": average, "maxUtilizedCpu": found.most_cpu, "maxUtilizedMemoryInGB": memory_gb,
        "averageLatencyInMs": average,
        **{key: float(np.quantile(answered, part)) for key, part in PERCENTILES.items()},
        "measuredQueriesPerSecond": total / found.elapsed_s, "totalQueries": total, "successQueries": len(answered),
        "successRate": 100 * len(answered) / total,
        "requestedCpu": float(len(os.sched_getaffinity(0))) if cpu is None else cpu,
        "requestedMemoryInGB": _machine_gb() if memory_in_gb is None else memory_in_gb,
    }  # fmt: skip


def _enough(used: float) -> float:
    """Return what is recommended for what was used at most: a quarter more, in tenths."""
    return max(1, math.ceil(10 * SPARE * used)) / 10


def _machine_gb() -> float:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / (1 << 30)
