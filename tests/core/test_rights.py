"""Reader, contributor, owner and stranger of a workspace, through the SDK: the database says what each may."""

from __future__ import annotations

import io
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dbml import errors
from dbml.core import ComputeTarget, Experiment, Model, Run, Workspace
from dbml.core.compute import AmlCompute
from dbml.core.connection import Connection
from dbml.dsn import make_uri, parse
from dbml.exceptions import (
    ComputeTargetException,
    DatastoreNotFoundException,
    ModelNotFoundException,
    UserErrorException,
    WebserviceException,
    WorkspaceException,
)

from ..conftest import Server
from ..security.cast import staged
from .rights import ELSEWHERE, OPERATIONS, Called, functions

ROLES = ("stranger", "reader", "contributor", "owner")  # each may what the one before may
REFUSED = (psycopg.errors.InsufficientPrivilege, errors.RunNotFound, errors.ModelNotFound, errors.WorkspaceNotFound)

# How the SDK says that a name means nothing to who asks.
NOT_THERE = (
    ComputeTargetException, DatastoreNotFoundException, ModelNotFoundException, UserErrorException, WebserviceException,
    WorkspaceException, errors.DatasetNotFound, errors.EnvironmentNotFound, errors.ImageNotFound, errors.NothingFound, errors.SnapshotNotFound, IndexError,
)  # fmt: skip


@pytest.mark.timeout(400)
def test_every_function_lets_in_whom_the_workspace_lets_in(
    db: psycopg.Connection[Any], dsn: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "dbml.core.webservice.runners.start", lambda *_: None
    )  # whether one may ask for a service is the question
    monkeypatch.setattr("dbml.core.webservice.runners.wait", lambda *_: None)
    listed = functions()
    assert listed <= OPERATIONS.keys() | ELSEWHERE.keys(), "every public function must stand in rights.py"
    wrong = []
    with staged(db) as cast:
        for role in ROLES:
            to = make_uri({**parse(dsn), "options": f"-c role={cast.roles[role]} -c dbml.workspace={cast.mark}"})
            known = Workspace.get(cast.mark, dsn=dsn)._row
            ws = Workspace._of(Connection(to), known)
            monkeypatch.chdir(tempfile.mkdtemp(dir=place))
            for name, (operation, least) in OPERATIONS.items():
                if role == "contributor" and least in ("stranger", "reader"):
                    continue  # as the reader
                got = _attempt(Called(ws, cast, to), operation)
                if got is not (ROLES.index(role) >= ROLES.index(least)):
                    wrong.append(f"{role} {'may' if got else 'may not'} {name}")
            ws._connection.close()
    assert not wrong, "\n".join(wrong)


def _attempt(called: Called, operation: Callable[[Called], Any]) -> bool:
    """Tell whether an operation is let in and finds something; whatever it does is rolled back."""
    try:
        with called.ws._connection.session() as session, session.transaction(force_rollback=True):
            found = operation(called)
    except (*REFUSED, *NOT_THERE):
        return False
    return found is None or bool(found)


@pytest.fixture
def model(ws: Workspace, place: Path) -> Model:
    (place / "m.bin").write_bytes(b"bytes")
    return Model.register(ws, "m.bin", "m")


@pytest.fixture
def kept(run: Run) -> Run:
    run.log("a", 1)
    run.upload_file("f", io.BytesIO(b"x"))
    run.flush()
    return run


@pytest.fixture
def become(ws: Workspace, db: psycopg.Connection[Any], dsn: str, role: str) -> Iterator[Callable[[str | None], Workspace]]:
    """Open the workspace as an ordinary role that is this in it."""
    opened: list[Workspace] = []

    def become(privilege: str | None) -> Workspace:
        db.execute(f"GRANT dbml_scripter TO {role}")  # type: ignore[arg-type]
        if privilege is not None:
            db.execute("SELECT dbml.grant_workspace(%s, %s, %s)", (ws.name, role, privilege))
        db.execute("SELECT dbml.revoke_workspace(%s, 'dbml_scripter')", (ws.name,))
        opened.append(Workspace.get(ws.name, dsn=make_uri({**parse(dsn), "user": role, "password": "secret"})))
        return opened[-1]

    yield become
    for workspace in opened:
        workspace._connection.close()
    db.execute(f"SELECT dbml.revoke_workspace(%s, %s)", (ws.name, role))  # noqa: F541
    db.execute(f"DROP OWNED BY {role}")  # type: ignore[arg-type]


def _reads(workspace: Workspace, kept: Run) -> None:
    run = Run.get(workspace, kept.id)
    assert run.get_metrics() == {"a": 1} and run.get_file_names() == ["f"]
    run.download_file("f", "got")
    assert Path("got").read_bytes() == b"x"
    assert Path(Model(workspace, "m").download("models", exist_ok=True)).read_bytes() == b"bytes"
    assert list(workspace.models) == ["m"] and list(workspace.experiments) == ["trials"]


def _writes(workspace: Workspace, kept: Run) -> list[Callable[[], object]]:
    run = Run.get(workspace, kept.id)
    return [
        lambda: Experiment(workspace, "new"),
        lambda: Experiment(workspace, "trials").start_logging().complete(),
        lambda: (run.log("b", 1), run.flush()),
        lambda: run.tag("a", "b"),
        lambda: run.add_properties({"p": 1}),
        lambda: run.upload_file("g", io.BytesIO(b"y")),
        lambda: Model.register(workspace, "m.bin", "other"),
        lambda: Model(workspace, "m").add_tags({"a": "b"}),
        lambda: Model(workspace, "m").set_alias("x"),
        lambda: ComputeTarget.create(workspace, "cpu", AmlCompute.provisioning_configuration()),
        lambda: run.register_model("of the run", "f"),
        lambda: run.complete(),
        lambda: Model(workspace, "m").delete(),
    ]


def test_a_reader_reads_and_writes_nothing(become: Callable[..., Workspace], kept: Run, model: Model) -> None:
    workspace = become("reader")
    _reads(workspace, kept)
    for write in [*_writes(workspace, kept), workspace.delete, lambda: workspace.update(tags={"a": "b"})]:
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match=r"it needs|may not"):
            write()
    assert kept.get_metrics() == {"a": 1} and kept.get_tags() == {} and kept.get_status() == "Running"


def test_a_contributor_writes_and_does_not_own(become: Callable[..., Workspace], kept: Run, model: Model) -> None:
    workspace = become("contributor")
    _reads(workspace, kept)
    for write in _writes(workspace, kept):
        write()
    assert kept.get_status() == "Completed" and kept.get_metrics() == {"a": 1, "b": 1}
    for own in (workspace.delete, lambda: workspace.update(tags={"a": "b"})):
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="it needs owner"):
            own()


def test_an_owner_owns(become: Callable[..., Workspace], ws: Workspace, kept: Run) -> None:
    workspace = become("owner")
    assert workspace.update(tags={"a": "b"})["tags"] == {"a": "b"}
    kept.complete()


def test_to_a_stranger_nothing_is_there(
    become: Callable[..., Workspace], ws: Workspace, kept: Run, model: Model, db: psycopg.Connection[Any], dsn: str, role: str
) -> None:
    with pytest.raises(WorkspaceException, match="must exist"):
        become(None)
    digest = uuid.uuid4().bytes * 2
    with psycopg.connect(make_uri({**parse(dsn), "user": role, "password": "secret"}), autocommit=True) as stranger:
        for view in ("runs", "metrics", "artifacts", "models", "model_files", "computes", "experiments", "workspaces"):
            column = "name" if view == "workspaces" else "workspace"
            found = stranger.execute(f"SELECT count(*) FROM dbml.{view} WHERE {column} = %s", (ws.name,)).fetchone()  # type: ignore[arg-type]
            assert found == (0,), view
        for call, values in (
            ("dbml.log_metrics(%s, '{\"a\": 1}')", (kept.id,)), ("dbml.tag_run(%s, '{}')", (kept.id,)),
            ("dbml.add_run_properties(%s, '{}')", (kept.id,)), ("dbml.finish_run(%s)", (kept.id,)),
            ("dbml.add_artifact(%s, 'a', %s)", (kept.id, digest)), ("dbml.artifact_part(%s, 'f', 0)", (kept.id,)),
            ("dbml.start_run('x', parent_run_id => %s)", (kept.id,)), ("dbml.start_run('x', workspace => %s)", (ws.name,)),
            ("dbml.create_experiment('x', workspace => %s)", (ws.name,)), ("dbml.create_compute('x', workspace => %s)", (ws.name,)),
            ("dbml.delete_compute('x', %s)", (ws.name,)), ("dbml.model_part('m', 0, workspace => %s)", (ws.name,)),
            ("dbml.tag_model('m', workspace => %s)", (ws.name,)), ("dbml.update_workspace(%s)", (ws.name,)),
            ("dbml.delete_workspace(%s)", (ws.name,)), ("dbml_channel.define_environment('e', '{}', %s)", (ws.name,)),
            ("dbml_channel.forget_output(%s, 'f')", (kept.id,)),
            ("dbml.register_model_files('m', '[{\"path\": \"a\", \"artifact\": \"f\"}]', run_id => %s)", (kept.id,)),
        ):  # fmt: skip
            with pytest.raises(REFUSED) as caught:
                stranger.execute(f"SELECT {call}", values)  # type: ignore[arg-type]
            assert "it needs" not in str(caught.value) and "trials" not in str(caught.value), call


def test_private_tables_stay_private(db: psycopg.Connection[Any], server: Server, role: str) -> None:
    db.execute(f"GRANT dbml_scripter TO {role}; SET ROLE {role}")  # type: ignore[arg-type]
    for table in ("_uploads", "_upload_parts", "_model_files", "_metric_writers", "_computes", "_chunks", "_blobs"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            db.execute(f"SELECT * FROM dbml.{table}")  # type: ignore[arg-type]
    for call in (
        "_use_upload('x')",
        "_free_blob('x')",
        "_blob_part('x', 0)",
        "_clean_uploads()",
        "_keep_chunk('x')",
        "_claim_blob('x', 0)",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            db.execute(f"SELECT dbml.{call}")  # type: ignore[arg-type]
    db.execute(f"RESET ROLE; REVOKE dbml_scripter FROM {role}")  # type: ignore[arg-type]
