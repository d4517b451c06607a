"""HyperDrive: a script submitted again and again with other parameters, and the best of its runs.

The search is a run of this process, and each try a submitted run that is a part of it.  A thread of this process submits the
next tries as places are free; where the process ends, tries that were submitted go on, and no more are.
"""

from __future__ import annotations

import itertools
import json
import math
import random
import statistics
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from dbml import errors
from dbml.core.absent import absent
from dbml.core.run import Run
from dbml.core.run_details import ENDED
from dbml.core.script_run_config import ScriptRunConfig
from dbml.exceptions import HyperDriveConfigException
from dbml.store.client import runs

if TYPE_CHECKING:
    from dbml.core.experiment import Experiment

LOOK_S = 1.0  # between two looks at the tries
MOST_RUNS = 1000

globals().update(
    absent(
        __name__, "BayesianParameterSampling TruncationSelectionPolicy",
        "RandomParameterSampling and GridParameterSampling, BanditPolicy and MedianStoppingPolicy; or scikit-learn's searches in"
        " a script",
    )
)  # fmt: skip


class PrimaryMetricGoal(Enum):
    """Whether more of the primary metric is better, or less."""

    MAXIMIZE = "MAXIMIZE"
    MINIMIZE = "MINIMIZE"


@dataclass(frozen=True)
class Parameter:
    """A set or distribution that values of a parameter are drawn from; made by `choice`, `uniform` and the others."""

    kind: str
    values: tuple[Any, ...]

    def draw(self, source: random.Random) -> Any:
        """Return one value."""
        if self.kind == "choice":
            return source.choice(self.values)
        if self.kind == "randint":
            return source.randrange(self.values[0])
        low, high, *step = self.values
        plain = self.kind.removeprefix("q")
        drawn = source.gauss(low, high) if plain.endswith("normal") else source.uniform(low, high)
        drawn = math.exp(drawn) if plain.startswith("log") else drawn
        return round(drawn / step[0]) * step[0] if step else drawn


def choice(*options: Any) -> Parameter:
    """Return one of several values, which are given one by one, or as one list or range."""
    listed = options[0] if len(options) == 1 and isinstance(options[0], (list, tuple, range)) else options
    if not listed:
        raise HyperDriveConfigException("choice must have a value at least")
    return Parameter("choice", tuple(listed))


def randint(upper: int) -> Parameter:
    """Return whole numbers from 0, less than upper."""
    return Parameter("randint", (upper,))


def uniform(min_value: float, max_value: float) -> Parameter:
    """Return numbers between two, all as likely."""
    return Parameter("uniform", (min_value, max_value))


def quniform(min_value: float, max_value: float, q: float) -> Parameter:
    """Return multiples of q, of numbers as of `uniform`."""
    return Parameter("quniform", (min_value, max_value, q))


def loguniform(min_value: float, max_value: float) -> Parameter:
    """Return e to the power of numbers as of `uniform`."""
    return Parameter("loguniform", (min_value, max_value))


def qloguniform(min_value: float, max_value: float, q: float) -> Parameter:
    """Return multiples of q, of numbers as of `loguniform`."""
    return Parameter("qloguniform", (min_value, max_value, q))


def normal(mu: float, sigma: float) -> Parameter:
    """Return normal numbers of this mean and standard deviation."""
    return Parameter("normal", (mu, sigma))


def qnormal(mu: float, sigma: float, q: float) -> Parameter:
    """Return multiples of q, of numbers as of `normal`."""
    return Parameter("qnormal", (mu, sigma, q))


def lognormal(mu: float, sigma: float) -> Parameter:
    """Return e to the power of numbers as of `normal`."""
    return Parameter("lognormal", (mu, sigma))


def qlognormal(mu: float, sigma: float, q: float) -> Parameter:
    """Return multiples of q, of numbers as of `lognormal`."""
    return Parameter("qlognormal", (mu, sigma, q))


class HyperParameterSampling:
    """What gives the parameters of each try."""

    def __init__(self, parameter_space: Mapping[str, Parameter]) -> None:
        if not parameter_space or not all(isinstance(one, Parameter) for one in parameter_space.values()):
            raise HyperDriveConfigException("parameter_space must have parameters by name: {'--alpha': uniform(0, 1)}")
        self.parameter_space = dict(parameter_space)

    def tries(self) -> Iterator[dict[str, Any]]:
        """Yield the parameters of one try after the other."""
        raise NotImplementedError


class RandomParameterSampling(HyperParameterSampling):
    """Parameters drawn at random; the same again for the same seed."""

    def __init__(self, parameter_space: Mapping[str, Parameter], properties: Any = None, seed: int | None = None) -> None:
        super().__init__(parameter_space)
        self.seed = seed

    def tries(self) -> Iterator[dict[str, Any]]:
        """Yield drawn parameters, without an end."""
        source = random.Random(self.seed)  # noqa: S311 - nothing is secret
        while True:
            yield {name: one.draw(source) for name, one in self.parameter_space.items()}


class GridParameterSampling(HyperParameterSampling):
    """All combinations of parameters that are choices."""

    def __init__(self, parameter_space: Mapping[str, Parameter]) -> None:
        super().__init__(parameter_space)
        if wrong := [name for name, one in self.parameter_space.items() if one.kind != "choice"]:
            raise HyperDriveConfigException(f"parameters of a grid must be choices, got another for {', '.join(wrong)}")

    def tries(self) -> Iterator[dict[str, Any]]:
        """Yield each combination once."""
        for values in itertools.product(*(one.values for one in self.parameter_space.values())):
            yield dict(zip(self.parameter_space, values, strict=True))


class NoTerminationPolicy:
    """Every try runs to its end.

    evaluation_interval: how many values of the primary metric are logged between two looks.  delay_evaluation: how many before
    the first.
    """

    def __init__(self, evaluation_interval: int = 1, delay_evaluation: int = 0) -> None:
        self.evaluation_interval = max(1, evaluation_interval)
        self.delay_evaluation = delay_evaluation

    def stops(self, own: Sequence[float], others: Sequence[Sequence[float]], *, maximize: bool) -> bool:
        """Tell whether a try stops, by what it and the other tries have logged of the primary metric so far."""
        n = len(own)
        if n == 0 or n <= self.delay_evaluation or n % self.evaluation_interval:
            return False
        sign = 1.0 if maximize else -1.0
        compared = [[sign * value for value in other[:n]] for other in others if len(other) >= n]
        return bool(compared) and self._is_off([sign * value for value in own], compared)

    def _is_off(self, own: Sequence[float], others: Sequence[Sequence[float]]) -> bool:
        """Tell it of values of which more is better, all of the same length."""
        return False


class BanditPolicy(NoTerminationPolicy):
    """A try stops when it is off the best of the others at the same time by more than a factor or an amount."""

    def __init__(
        self, evaluation_interval: int = 1, slack_factor: float | None = None, slack_amount: float | None = None,
        delay_evaluation: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(evaluation_interval, delay_evaluation)
        if (slack_factor is None) == (slack_amount is None):
            raise HyperDriveConfigException("one of slack_factor and slack_amount must be given")
        self.slack_factor, self.slack_amount = slack_factor, slack_amount

    def _is_off(self, own: Sequence[float], others: Sequence[Sequence[float]]) -> bool:
        best = max(max(other) for other in others)
        if self.slack_amount is not None:
            return max(own) < best - self.slack_amount
        slack = 1 + (self.slack_factor or 0.0)
        return max(own) < (best / slack if best >= 0 else best * slack)


class MedianStoppingPolicy(NoTerminationPolicy):
    """A try stops when its best is worse than the median of the others' averages so far."""

    def _is_off(self, own: Sequence[float], others: Sequence[Sequence[float]]) -> bool:
        return max(own) < statistics.median(statistics.fmean(other) for other in others)


class HyperDriveConfig:
    """A search: which script, what is tried, and what is best.

    run_config: its ScriptRunConfig; parameters are added to its arguments, --name value.  max_total_runs: 1 to 1000.
    max_concurrent_runs: tries at a time, all by default; the pool of the script has its limits too.
    max_duration_minutes: after that no more are submitted and those that go on are cancelled.
    Raises: HyperDriveConfigException.
    """

    def __init__(
        self, run_config: ScriptRunConfig | None = None, hyperparameter_sampling: HyperParameterSampling | None = None,
        primary_metric_name: str | None = None, primary_metric_goal: PrimaryMetricGoal = PrimaryMetricGoal.MAXIMIZE,
        max_total_runs: int = 20, max_concurrent_runs: int | None = None, max_duration_minutes: float = 10080,
        policy: NoTerminationPolicy | None = None, estimator: Any = None, resume_from: Any = None, resume_child_runs: Any = None,
        pipeline: Any = None, debug_flag: Any = None, custom_run_dto: Any = None,
    ) -> None:  # fmt: skip
        if estimator is not None or pipeline is not None or resume_from is not None or resume_child_runs is not None:
            raise NotImplementedError("a search is of a ScriptRunConfig and begins anew: HyperDriveConfig(run_config=…)")
        if not isinstance(run_config, ScriptRunConfig):
            raise HyperDriveConfigException(f"run_config must be a ScriptRunConfig, got {type(run_config).__name__}")
        if not isinstance(hyperparameter_sampling, HyperParameterSampling):
            raise HyperDriveConfigException("hyperparameter_sampling must be RandomParameterSampling or GridParameterSampling")
        if not primary_metric_name:
            raise HyperDriveConfigException("primary_metric_name must name the metric that the script logs")
        if not 1 <= max_total_runs <= MOST_RUNS:
            raise HyperDriveConfigException(f"max_total_runs must be 1 to {MOST_RUNS}, got {max_total_runs}")
        if max_concurrent_runs is not None and max_concurrent_runs < 1:
            raise HyperDriveConfigException(f"max_concurrent_runs must be 1 or more, got {max_concurrent_runs}")
        self.run_config = run_config
        self.hyperparameter_sampling = hyperparameter_sampling
        self.primary_metric_name = primary_metric_name
        self.primary_metric_goal = primary_metric_goal
        self.max_total_runs = max_total_runs
        self.max_concurrent_runs = min(max_concurrent_runs or max_total_runs, max_total_runs)
        self.max_duration_minutes = max_duration_minutes
        self.policy = policy or NoTerminationPolicy()

    def _submit(self, experiment: Experiment, tags: Mapping[str, str] | None, **options: Any) -> HyperDriveRun:
        """Begin the search; `Experiment.submit` calls it."""
        experiment.workspace._connection.hold_runs()
        kept = {
            "primary_metric_name": self.primary_metric_name, "primary_metric_goal": self.primary_metric_goal.name,
            "max_total_runs": self.max_total_runs, "max_concurrent_runs": self.max_concurrent_runs,
            "sampling": type(self.hyperparameter_sampling).__name__, "policy": type(self.policy).__name__,
        }  # fmt: skip
        made = experiment.workspace._connection.do(
            runs.start, experiment.workspace.name, experiment.name, name="hyperdrive", params={"hyperdrive": kept}, tags=tags,
        )  # fmt: skip
        run = HyperDriveRun(experiment, str(made))
        run._begin(self, options)
        return run


class HyperDriveRun(Run):
    """A search as it goes: a run whose parts are the tries.

    Raises: RunNotFound; InvalidArgument for a run that is no search.
    """

    def __init__(self, experiment: Experiment, run_id: str, hyperdrive_config: Any = None, **kwargs: Any) -> None:
        super().__init__(experiment, run_id)
        kept = self.params.get("hyperdrive")
        if kept is None:
            raise errors.InvalidArgument(f"run {run_id} is no search of HyperDrive", hint="Run.get(workspace, run_id)")
        self._metric = str(kept["primary_metric_name"])
        self._maximize = kept["primary_metric_goal"] == PrimaryMetricGoal.MAXIMIZE.name
        self._driver: threading.Thread | None = None
        self._enough = threading.Event()
        self._stopped = False

    # -- the search ----------------------------------------------------------------------------------------------------

    def _begin(self, config: HyperDriveConfig, options: Mapping[str, Any]) -> None:
        self._driver = threading.Thread(target=self._drive, args=(config, options), name="dbml hyperdrive", daemon=True)
        self._driver.start()

    def _drive(self, config: HyperDriveConfig, options: Mapping[str, Any]) -> None:
        """Submit tries as places are free, stop those that the policy stops, and say at last how it ended."""
        ahead = itertools.islice(config.hyperparameter_sampling.tries(), config.max_total_runs)
        until = time.monotonic() + 60 * config.max_duration_minutes
        going: dict[str, Run] = {}
        logged: dict[str, list[float]] = {}
        looked: dict[str, int] = {}
        is_over, error = False, None
        try:
            while not self._enough.is_set() and time.monotonic() < until:
                while not is_over and len(going) < config.max_concurrent_runs:
                    if (tried := next(ahead, None)) is None:
                        is_over = True
                        break
                    child = self._try(config.run_config, tried, options)
                    going[child.id] = child
                for run_id, child in list(going.items()):
                    ended = child.get_status() in ENDED
                    own = logged[run_id] = self._values(child)
                    if ended:
                        del going[run_id]
                    elif len(own) > looked.get(run_id, 0):
                        looked[run_id] = len(own)
                        others = [values for other, values in logged.items() if other != run_id]
                        if config.policy.stops(own, others, maximize=self._maximize):
                            child.tag("terminated_by", type(config.policy).__name__)
                            child.cancel()
                if is_over and not going:
                    break
                self._enough.wait(LOOK_S)
        except Exception as raised:  # the edge where a search ends: whoever waits for it hears of it
            error = f"{type(raised).__name__}: {raised}"
        for child in going.values():
            if child.get_status() not in ENDED:
                child.cancel()
        if not self._stopped:
            super()._finish("failed" if error else "completed", error)

    def _try(self, script: ScriptRunConfig, tried: Mapping[str, Any], options: Mapping[str, Any]) -> Run:
        config = copy(script)
        added = ((name if name.startswith("-") else f"--{name}", value) for name, value in tried.items())
        config.arguments = [*script.arguments, *itertools.chain.from_iterable(added)]
        return self.submit_child(config, {"hyperparameters": json.dumps(dict(tried), default=str)}, **options)

    def _values(self, child: Run) -> list[float]:
        found = child.get_metrics(self._metric).get(self._metric, [])
        listed = found if isinstance(found, list) else [found]
        return [float(value) for value in listed if isinstance(value, (int, float)) and not math.isnan(value)]

    def cancel(self) -> None:
        """End the search: no more is tried, and what goes on is cancelled."""
        self._stopped = True
        self._enough.set()
        if self._driver is not None:
            self._driver.join()
        for child in self.get_children():
            if child.get_status() not in ENDED:
                child.cancel()
        super()._finish("canceled")

    def wait_for_completion(
        self, show_output: bool = False, wait_post_processing: bool = False, raise_on_error: bool = True
    ) -> dict[str, Any]:
        """Wait until all has been tried, and return the details.

        Raises: ActivityFailedException where it failed or was cancelled, if raise_on_error.
        """
        if self._driver is not None:
            self._driver.join()
        return super().wait_for_completion(show_output, wait_post_processing, raise_on_error)

    # -- what came of it -----------------------------------------------------------------------------------------------

    def get_hyperparameters(self) -> dict[str, str]:
        """Return the parameters of each try, as JSON, by the run's id."""
        return {child.id: child.tags["hyperparameters"] for child in self.get_children() if "hyperparameters" in child.tags}

    def get_metrics(
        self, name: str | None = None, recursive: bool = False, run_type: str | None = None, populate: bool = False
    ) -> dict[str, Any]:
        """Return what each try has logged, by the run's id."""
        return {child.id: child.get_metrics(name) for child in self.get_children()}

    def _ranked(self) -> list[tuple[Run, float | None]]:
        best = max if self._maximize else min
        known: list[tuple[Run, float]] = []
        unknown: list[tuple[Run, float | None]] = []
        for child in self.get_children():
            if values := self._values(child):
                known.append((child, best(values)))
            else:
                unknown.append((child, None))
        return [*sorted(known, key=lambda one: one[1], reverse=self._maximize), *unknown]

    def get_children_sorted_by_primary_metric(
        self, top: int = 0, reverse: bool = False, discard_no_metric: bool = False
    ) -> list[dict[str, Any]]:
        """Return the tries, the best first: run_id, hyperparameters, best_primary_metric and status of each.

        top: so many, all where it is 0.  reverse: the worst first.  discard_no_metric: without those that logged none.
        """
        listed = [
            {
                "run_id": child.id, "hyperparameters": child.tags.get("hyperparameters"), "best_primary_metric": value,
                "status": child.status,
            }
            for child, value in self._ranked()
            if value is not None or not discard_no_metric
        ]  # fmt: skip
        listed = listed[::-1] if reverse else listed
        return listed[:top] if top else listed

    def get_best_run_by_primary_metric(
        self, include_failed: bool = True, include_canceled: bool = True, include_resume_from_runs: bool = True
    ) -> Run | None:
        """Return the try that is best by the primary metric; None where none has logged it."""
        left_out = {*(() if include_failed else ("Failed",)), *(() if include_canceled else ("Canceled",))}
        for child, value in self._ranked():
            if value is not None and child.get_status() not in left_out:
                return child
        return None
