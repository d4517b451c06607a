"""Submitting scripts: a source directory becomes a snapshot, and the worker runs a script of it.

What belongs to a run that was submitted and to no other is here; `dbml.core.run` and `dbml.core.experiment` call it.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TextIO
from uuid import UUID

from dbml import errors
from dbml.core import snapshot, stand_in, transfer
from dbml.core.submitted_inputs import Inputs
from dbml.exceptions import RunConfigurationException, SnapshotException
from dbml.store.client import datasets, runs, submissions
from dbml.store.client.rows import Row

if TYPE_CHECKING:
    from dbml.core.environment import Environment
    from dbml.core.script_run_config import ScriptRunConfig
    from dbml.core.workspace import Workspace

ENDED = frozenset({"completed", "failed", "canceled", "interrupted"})
SHORTEST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 1.0
IMPORT = "DBML_IMPORT"  # the variable that names a module to be imported before a submitted script runs
VARIABLES: dict[str, str] = {}  # that every script submitted by this process gets
LOCAL_TARGETS = frozenset({"local", ""})  # "here" of the SDK: the database's own worker


def keep_snapshot(
    workspace: Workspace, directory: str | os.PathLike[str], *, along: Mapping[str, Path] | None = None, show: bool = True
) -> str:
    """Keep the files of a source directory; returns the snapshot, which is the SHA-256 of its archive in hex.

    The same files again are not sent again.  along: more files, by their paths in the snapshot.
    Raises: SnapshotException where there is no such directory, or too much in it.
    """
    connection = workspace._connection
    with snapshot.pack(directory, along=along) as archive:
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


def submit(
    workspace: Workspace, experiment: str, config: ScriptRunConfig, tags: Mapping[str, Any] | None = None, *,
    inputs: Mapping[str, Any] | None = None, seed: int | None = None, parent_run_id: UUID | None = None,
) -> UUID:  # fmt: skip
    """Submit the script of a configuration; returns the run's id.

    inputs: queries by name, or {"dataset": "name:version"}.
    Raises: RunConfigurationException where it names no script, or one that is not there; SnapshotException;
    NotImplementedError for what is run by a command, by MPI or on several nodes.
    """
    run_config = config.run_config
    script = checked(config)
    taken = Inputs(dict(inputs or {}))
    arguments = [argument(value, taken) for value in config.arguments]
    variables = {
        **VARIABLES,
        **run_config.environment.environment_variables,
        **run_config.environment_variables,
        **taken.variables,
    }
    environment = _environment(workspace, run_config.environment)
    with tempfile.TemporaryDirectory(prefix="dbml-inputs-") as beside:
        kept = keep_snapshot(workspace, config.source_directory, along=taken.write(Path(beside)))
    run_id = workspace._connection.do(
        submissions.submit, workspace.name, experiment, kept, script, arguments=arguments, inputs=taken.queries,
        environment=environment, environment_variables=variables, timeout_s=run_config.max_run_duration_seconds, seed=seed,
        target=target_of(run_config.target), tags=tags, outputs=taken.outputs, parent_run_id=parent_run_id,
    )  # fmt: skip
    for name, dataset in taken.links.items():
        workspace._connection.do(datasets.link, workspace.name, run_id, dataset._reference, name)
    return run_id


def checked(config: ScriptRunConfig) -> str:
    """Return the script of a configuration that one process can run, as a path in its folder; errors as `submit`."""
    run_config = config.run_config
    if config.command is not None or config.script is None:
        raise NotImplementedError("a command cannot be run in the worker; ScriptRunConfig(script=…) runs a Python script")
    if run_config.node_count > 1 or run_config.mpi.node_count > 1 or run_config.mpi.process_count_per_node > 1:
        raise NotImplementedError("a submitted script is one process; parallel of dbml.run_script runs several")
    return _script(Path(config.source_directory), config.script)


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


def argument(value: Any, inputs: Inputs) -> Any:
    """Return an argument as JSON has it; numpy's numbers as numbers, paths and others as text.

    A dataset, or a place in a datastore, becomes an input too, and what is to be written there an output.
    """
    if (said := inputs.argument(value)) is not None:
        return said
    if isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Mapping) and set(value) == {"$secret"}:
        return dict(value)
    if value is None:
        raise RunConfigurationException("an argument must be text or a number, got None")
    item = getattr(value, "item", None)
    return item() if callable(item) and getattr(value, "size", 1) == 1 else str(value)


def _environment(workspace: Workspace, environment: Environment) -> str | None:
    """Return an environment as SQL names it, registered where it is not yet; None for the worker's own packages.

    These are meant by one that asks for no packages, or whose packages the user sees to.
    Raises: EnvironmentUnresolvable, unless the worker's packages stand in.
    """
    if environment.version is None:
        if environment.python.user_managed_dependencies or not asks(environment):
            return None
        asked = environment
        registered = stand_in.had(asked.name, lambda: asked.register(workspace))
        if registered is None:
            return None
        environment = registered
    return f"{environment.name}:{environment.version}"


def asks(environment: Environment) -> bool:
    """Tell whether an environment asks for packages of its own."""
    from dbml.core.conda_dependencies import CondaDependencies

    nothing = CondaDependencies.create().as_dict()
    dependencies = environment.python.conda_dependencies.as_dict()
    files = environment.python.conda_dependencies_file or environment._spec
    return bool(files) or {**dependencies, "name": None} != {**nothing, "name": None}


def target_of(target: Any) -> str:
    """Return the name of a compute target."""
    name = str(getattr(target, "name", target) or "")
    return "worker" if name in LOCAL_TARGETS else name


# -- a run that was submitted ------------------------------------------------------------------------------------------


def follow(workspace: Workspace, run_id: UUID, *, show_output: bool = False, out: TextIO | None = None) -> Row:
    """Wait for the end of a run, with what it prints as it comes; returns its row in dbml.runs.

    Raises: RunNotFound where its record is deleted.
    """
    connection = workspace._connection
    stream = sys.stdout if out is None else out
    after, pause_s = -1, SHORTEST_PAUSE_S
    while True:
        row = connection.do_again(runs.find, run_id)
        if row is None:
            raise errors.RunNotFound(f"there is no run {run_id} any more", hint="SELECT run_id FROM dbml.runs")
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
