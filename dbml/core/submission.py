"""Submitting scripts: a source directory becomes a snapshot, and the worker runs a script of it.

What belongs to a run that was submitted and to no other is here; `dbml.core.run` and `dbml.core.experiment` call it.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TextIO
from uuid import UUID

from dbml.core import snapshot, transfer
from dbml.exceptions import ActivityFailedException, RunConfigurationException, SnapshotException
from dbml.store.client import runs, submissions

if TYPE_CHECKING:
    from dbml.core.workspace import Workspace

ENDED = frozenset({"completed", "failed", "canceled", "interrupted"})
SHORTEST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 1.0
LOCAL_TARGETS = frozenset({"local", ""})  # "here" of the SDK: the database's own worker


def keep_snapshot(workspace: Workspace, directory: str | os.PathLike[str], *, show: bool = True) -> str:
    """Keep the files of a source directory; returns the snapshot, which is the SHA-256 of its archive in hex.

    The same files again are not sent again.
    Raises: SnapshotException where there is no such directory, or too much in it.
    """
    connection = workspace._connection
    with snapshot.pack(directory) as archive:
        digest = _digest(archive)
        if not connection.do_again(submissions.has_snapshot, workspace.name, digest):
            transfer.upload(connection, [archive], show=show)
            connection.do_again(submissions.create_snapshot, workspace.name, digest)
    return digest


def _digest(archive: IO[bytes]) -> str:
    whole = hashlib.sha256()
    while part := archive.read(1 << 20):
        whole.update(part)
    archive.seek(0)
    return whole.hexdigest()


def restore(workspace: Workspace, kept: str, path: str | os.PathLike[str] | None = None) -> str:
    """Unpack a snapshot into a directory, snapshot_ and its first digits where none is named; returns the directory."""
    target = Path(path) if path is not None else Path(f"snapshot_{kept[:12]}")
    with (
        workspace._connection.session() as session,
        snapshot.copy(submissions.snapshot_parts(session, workspace.name, kept)) as archive,
    ):
        if _digest(archive) != kept:
            raise SnapshotException(f"the bytes of snapshot {kept} do not match their digest")
        snapshot.unpack(archive, target)
    return str(target)


def submit(workspace: Workspace, experiment: str, config: Any, tags: Mapping[str, Any] | None = None) -> UUID:
    """Submit a ScriptRunConfig; returns the run's id.

    Raises: RunConfigurationException where it names no script, or one that is not there; SnapshotException;
    NotImplementedError for what is run by a command instead of a script.
    """
    run_config = getattr(config, "run_config", None)

    def setting(name: str, of_run: str | None = None) -> Any:
        found = getattr(config, name, None)
        return found if found is not None else getattr(run_config, of_run or name, None)

    if setting("command"):
        raise NotImplementedError("a command cannot be run in the worker; ScriptRunConfig(script=…) runs a Python script")
    directory = Path(getattr(config, "source_directory", None) or ".")
    script = _script(directory, setting("script"))
    environment = setting("environment")
    variables = dict(getattr(environment, "environment_variables", None) or {})
    variables |= dict(getattr(run_config, "environment_variables", None) or {})
    duration = getattr(config, "max_run_duration_seconds", None) or getattr(run_config, "max_run_duration_seconds", None)
    arguments = [_argument(value) for value in setting("arguments") or ()]
    reference = _environment(workspace, environment)
    kept = keep_snapshot(workspace, directory)
    return workspace._connection.do(
        submissions.submit, workspace.name, experiment, kept, script, arguments=arguments, environment=reference,
        environment_variables=variables, timeout_s=duration, seed=getattr(config, "seed", None),
        target=_target(setting("compute_target", "target")), tags=tags,
    )  # fmt: skip


def _script(directory: Path, script: Any) -> str:
    if not script:
        raise RunConfigurationException("a ScriptRunConfig must name a script, relative to its source_directory")
    path = Path(script)
    if path.is_absolute():
        try:
            path = path.resolve().relative_to(directory.resolve())
        except ValueError:
            raise RunConfigurationException(
                f"the script must be in source_directory {str(directory)!r}, got {script!r}"
            ) from None
    name = Path(os.path.normpath(path)).as_posix()
    if name.startswith("../") or not (directory / name).is_file():
        raise RunConfigurationException(f"the script must be a file in source_directory {str(directory)!r}, got {str(script)!r}")
    if name not in {known for known, _ in snapshot.files_of(directory)}:
        raise RunConfigurationException(
            f"the script {name!r} is left out by {' or '.join(snapshot.IGNORE_FILES)} of {str(directory)!r}"
        )
    return name


def _argument(value: Any) -> Any:
    """Return an argument as JSON has it; numpy's numbers as numbers, paths and others as text."""
    if isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Mapping) and set(value) == {"$secret"}:
        return dict(value)
    if hasattr(value, "as_named_input") or type(value).__name__ == "DatasetConsumptionConfig":
        raise NotImplementedError(
            "a dataset cannot be an argument of a submitted script yet; dbml.run_script takes a query as its input"
        )
    if value is None:
        raise RunConfigurationException("an argument must be text or a number, got None")
    item = getattr(value, "item", None)
    return item() if callable(item) and getattr(value, "size", 1) == 1 else str(value)


def _environment(workspace: Workspace, environment: Any) -> str | None:
    """Return an environment as SQL names it; one that is not registered is registered first."""
    if environment is None or isinstance(environment, str):
        return environment
    if getattr(environment, "_is_worker", False):
        return None
    if getattr(environment, "version", None) is None:
        environment = environment.register(workspace) or environment
    return f"{environment.name}:{environment.version}"


def _target(target: Any) -> str:
    name = str(getattr(target, "name", target) or "")
    return "worker" if name in LOCAL_TARGETS else name


# -- a run that was submitted ------------------------------------------------------------------------------------------


def follow(
    workspace: Workspace, run_id: UUID, *, show_output: bool = False, out: TextIO | None = None, raise_on_error: bool = True
) -> dict[str, Any]:
    """Wait for the end of a run, with what it prints as it comes; returns its row in dbml.runs.

    Raises: ActivityFailedException where it did not complete, unless raise_on_error is false.
    """
    connection = workspace._connection
    stream = sys.stdout if out is None else out
    after, pause_s = -1, SHORTEST_PAUSE_S
    while True:
        row = connection.do_again(runs.find, run_id)
        if row is None:
            raise ActivityFailedException(f"there is no run {run_id} any more")
        text = ""
        if show_output:
            after, text = connection.do_again(submissions.log_since, run_id, after)
            if text:
                stream.write(text)
                stream.flush()
        if row["status"] in ENDED:
            break
        pause_s = SHORTEST_PAUSE_S if text else min(LONGEST_PAUSE_S, pause_s * 1.5)
        time.sleep(pause_s)
    if show_output and after == -1 and row["log"]:
        stream.write(row["log"])  # it was a script in a call, whose log comes at the end
    if row["status"] != "completed" and raise_on_error:
        raise ActivityFailedException(
            f"the run {run_id} has ended as {row['status']}: {row['error'] or 'no reason is recorded'}",
            detail={"run_id": str(run_id), "status": row["status"], "sqlstate": row["sqlstate"]},
            hint=f"SELECT log FROM dbml.runs WHERE run_id = '{run_id}'",  # noqa: S608 - for people to run
            context=row["error_context"],
        )  # fmt: skip
    return row


def details(workspace: Workspace, run_id: UUID) -> dict[str, Any]:
    """Return what Run.get_details tells of a submitted run beyond any other: snapshotId, target, runDefinition."""
    row = workspace._connection.do_again(submissions.find, run_id)
    if row is None or row["snapshot"] is None:
        return {}
    environment = None if row["environment"] is None else {"name": row["environment"], "version": str(row["environment_version"])}
    variables = (row["params"] or {}).get("environment_variables", {})
    return {
        "target": row["target"],
        "snapshotId": row["snapshot"],
        "runDefinition": {
            "script": row["script"], "arguments": row["arguments"], "target": row["target"], "environment": environment,
            "environmentVariables": variables, "seed": row["seed"],
        },
    }  # fmt: skip


def snapshot_of(workspace: Workspace, run_id: UUID) -> str | None:
    """Return the snapshot of a run, None where it has none."""
    row = workspace._connection.do_again(submissions.find, run_id)
    return None if row is None else row["snapshot"]
