"""What a script in the worker submits itself: `Run.submit_child` there, and the run that it returns.

The script packs the folder, and the worker submits it for who has submitted the script.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dbml.core import metric_values, snapshot, submission
from dbml.core.run_details import AZURE_STATUS, ENDED
from dbml.core.submitted_inputs import Inputs
from dbml.exceptions import ActivityFailedException
from dbml.store.client.rows import Row

if TYPE_CHECKING:
    from dbml.core.run_context import ScriptRun


class SubmittedChild:
    """A run that a script has submitted as a part of its own."""

    def __init__(self, parent: ScriptRun, run_id: str, tags: Mapping[str, str]) -> None:
        self.parent = parent
        self.id = run_id
        self._tags = dict(tags)
        self._properties: dict[str, Any] = {}

    def __repr__(self) -> str:
        return f"SubmittedChild(Id: {self.id})"

    def _state(self) -> dict[str, Any]:
        state: dict[str, Any] = self.parent._run.ask("child_state", run_id=self.id)
        self._tags = dict(state["tags"])
        return state

    @property
    def status(self) -> str:
        """Return how it stands, as `get_status`."""
        return self.get_status()

    def get_status(self) -> str:
        """Return Queued, Running, Completed, Failed, Canceled or NotResponding, as it is now."""
        return AZURE_STATUS[self._state()["status"]]

    def get_tags(self) -> dict[str, Any]:
        """Return its tags as they are now."""
        self._state()
        return dict(self._tags)

    @property
    def _logged(self) -> list[Row]:
        return [{**row, "value": None if row["value"] is None else float(row["value"])} for row in self._state()["metrics"]]

    def get_metrics(self, name: str | None = None, **ignored: Any) -> dict[str, Any]:
        """Return what it has logged, as of any run; 10,000 values at most."""
        return dict(metric_values.collect([row for row in self._logged if name in (None, row["name"])]))

    def wait_for_completion(
        self, show_output: bool = False, wait_post_processing: bool = False, raise_on_error: bool = True
    ) -> dict[str, Any]:
        """Wait until it has ended; returns runId and status.

        The script keeps its place in its pool meanwhile: where the pool has no other, both wait until the script's timeout.
        Raises: ActivityFailedException where it failed, was cancelled or is gone, if raise_on_error.
        """
        pause_s = submission.SHORTEST_PAUSE_S
        while AZURE_STATUS[(state := self._state())["status"]] not in ENDED:
            time.sleep(pause_s)
            pause_s = min(submission.LONGEST_PAUSE_S, pause_s * 1.5)
        status = AZURE_STATUS[state["status"]]
        if raise_on_error and status != "Completed":
            raise ActivityFailedException(f"run {self.id} is {status}: {state['error'] or 'no error was recorded'}")
        return {"runId": self.id, "status": status}


def submit(parent: ScriptRun, config: Any, tags: Mapping[str, Any] | None, seed: int | None) -> SubmittedChild:
    """Submit a ScriptRunConfig for a script; errors as `ScriptRun.submit_child`."""
    from dbml.core.script_run_config import ScriptRunConfig

    run = parent._run._script  # the archive is the whole script's, whichever part submits
    if not run.is_submitted:
        raise NotImplementedError(
            "a script of a call, and a replay, submit nothing: run.child_run() records a part of this run,"
            " and a script that is submitted has run.submit_child"
        )
    if not isinstance(config, ScriptRunConfig):
        raise NotImplementedError(f"{type(config).__name__} cannot be submitted; ScriptRunConfig can")
    script = submission.checked(config)
    environment = config.run_config.environment
    if submission.asks(environment) and not environment.python.user_managed_dependencies:
        raise NotImplementedError(
            f"a run that a script submits has the script's own environment, got {environment.name!r};"
            " Experiment.submit of a program takes another"
        )
    taken = Inputs({})
    arguments = [submission.argument(value, taken) for value in config.arguments]
    if taken.has_datasets:
        raise NotImplementedError(
            "a script cannot give datasets to a run that it submits; a file in its source_directory goes along"
        )
    with snapshot.pack(config.source_directory) as archive:
        name = f"{snapshot.OUTPUTS}/{uuid.uuid4()}.tar.gz"
        run.upload_file(name, archive)
        run.kept.discard(name)
    said = {str(key): "" if value is None else str(value) for key, value in (tags or {}).items()}
    answer = run.ask(
        "submit_child", parent_run_id=parent.id, archive=name, script=script, arguments=arguments, outputs=taken.outputs,
        environment_variables={
            **environment.environment_variables, **config.run_config.environment_variables, **taken.variables
        },
        timeout_s=config.run_config.max_run_duration_seconds, seed=seed, tags=said, properties={},
        target=submission.target_of(config.run_config.target),
    )  # fmt: skip
    return SubmittedChild(parent, answer["run_id"], said)
