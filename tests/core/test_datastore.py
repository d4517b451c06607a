"""Datastores: the database itself, folders and what fsspec opens; files up and down, and no secret kept."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dbml import errors
from dbml.core import Datastore, Workspace
from dbml.data import file_system_datastore
from dbml.data.data_reference import DataReference
from dbml.data.database_datastore import DatabaseDatastore
from dbml.exceptions import DatastoreNotFoundException, UserErrorException
from dbml.store.client import files as statements

MIB = 1 << 20


@pytest.fixture
def ws(shared: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Workspace]:
    monkeypatch.setenv("DBML_DSN", shared.dsn)
    monkeypatch.chdir(tmp_path)
    workspace = Workspace.create("s-" + uuid.uuid4().hex[:12], show_output=False)
    yield workspace
    workspace.delete()
    workspace._connection.close()


@pytest.fixture
def store(ws: Workspace) -> DatabaseDatastore:
    found = ws.get_default_datastore()
    assert isinstance(found, DatabaseDatastore)
    return found


def paths(store: Any) -> list[str]:
    return [file.path for file in store._list("")]


def test_the_default_one_is_the_database(ws: Workspace, store: DatabaseDatastore) -> None:
    assert (store.name, store.datastore_type, store.is_default) == ("workspaceblobstore", "database", True)
    assert list(ws.datastores) == ["workspaceblobstore"] and Datastore(ws, "workspaceblobstore").name == Datastore(ws).name
    with pytest.raises(DatastoreNotFoundException, match="'nope' is not in workspace"):
        Datastore.get(ws, "nope")
    with pytest.raises(errors.InvalidArgument, match="is the database itself"):
        store.unregister()


def test_paths_are_as_given_from_the_common_folder(store: DatabaseDatastore, tmp_path: Path) -> None:
    (tmp_path / "data" / "deep").mkdir(parents=True)
    for name in ("data/a.csv", "data/deep/b.csv", "c.csv"):
        (tmp_path / name).write_text(name)
    reference = store.upload_files(["./data/a.csv", "./data/deep/b.csv"], target_path="./one/", show_progress=False)
    assert isinstance(reference, DataReference) and (reference.path_on_datastore, reference.datastore) == ("one", store)
    store.upload_files(["./data/a.csv", "data/deep/b.csv"], relative_root=".", target_path="two")
    store.upload_files([str(tmp_path / "c.csv")])
    store.upload("data", target_path="three")
    assert paths(store) == [
        "c.csv", "one/a.csv", "one/deep/b.csv", "three/a.csv", "three/deep/b.csv", "two/data/a.csv", "two/data/deep/b.csv",
    ]  # fmt: skip
    assert str(store.path("one").path("deep")) == "$AZUREML_DATAREFERENCE_workspaceblobstore"
    for bad, said in ((["nope.csv"], "must be a file"), (["data"], "must be a file")):
        with pytest.raises(UserErrorException, match=said):
            store.upload_files(bad)
    with pytest.raises(UserErrorException, match="relative_root must be a folder of all files"):
        store.upload_files(["c.csv"], relative_root="data")
    with pytest.raises(errors.InvalidArgument, match=r"no part that is empty, \. or \.\."):
        store.upload_files(["c.csv"], target_path="x/../../y")


def test_what_is_there_is_kept_or_replaced_and_not_sent_twice(
    store: DatabaseDatastore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_text("old")
    (tmp_path / "b").write_text("same")
    store.upload_files(["a", "b"], overwrite=True)
    (tmp_path / "a").write_text("new")
    store.upload_files(["a", "b"])
    kept = {file.path: file.digest for file in store._list("")}
    assert kept["a"] == hashlib.sha256(b"old").hexdigest()
    sent: list[Any] = []
    send = statements.write_uploads
    monkeypatch.setattr(statements, "write_uploads", lambda c, w, written, o: (sent.extend(written), send(c, w, written, o)))
    store.upload_files(["a", "b"], overwrite=True)
    assert [path for path, _ in sent] == ["a"]
    assert store.download("down", show_progress=False) == 2 and (tmp_path / "down" / "a").read_text() == "new"
    (tmp_path / "down" / "a").write_text("mine")
    assert store.download("down") == 0 and (tmp_path / "down" / "a").read_text() == "mine"
    assert store.download("down", overwrite=True) == 1 and (tmp_path / "down" / "a").read_text() == "new"
    assert store.delete_files("a") == 1 and paths(store) == ["b"]


@pytest.mark.parametrize("size", [0, 1, MIB, 3 * MIB + 7])
def test_bytes_come_back_and_are_read_anywhere(store: DatabaseDatastore, tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    (tmp_path / "x.bin").write_bytes(content)
    store.upload_files(["x.bin"])
    store.download("down")
    assert (tmp_path / "down" / "x.bin").read_bytes() == content
    (file,) = store._list("x.bin")
    with store._open(file) as stream:
        assert stream.read() == content
        for place in (size - 3, 0, MIB - 2):
            stream.seek(max(place, 0))
            assert stream.read(5) == content[max(place, 0) : max(place, 0) + 5]


def test_damage_is_noticed(store: DatabaseDatastore, ws: Workspace, db: psycopg.Connection[Any], tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(os.urandom(50))
    store.upload_files(["x"])
    (file,) = store._list("x")
    db.execute("UPDATE dbml._chunks SET data = 'y' WHERE digest = decode(%s, 'hex')", (file.digest,))
    with pytest.raises(errors.ModelLoadError, match="do not match their digest"):
        store.download("down")
    assert not any((tmp_path / "down").glob("*")) if (tmp_path / "down").exists() else True
    store.delete_files("x")


def test_files_pass_while_the_session_is_held(store: DatabaseDatastore, ws: Workspace, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(content := os.urandom(9 << 20))  # of two windows
    with ws._connection.session() as session, session.transaction():
        store.upload_files(["big"])
        assert store.download("down") == 1
    assert (tmp_path / "down" / "big").read_bytes() == content
    store.delete_files("big")


def test_an_upload_that_is_cut_off_goes_on(store: DatabaseDatastore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dbml.data import database_datastore

    monkeypatch.setattr(database_datastore, "_BATCH_FILES", 2)
    for number in range(6):
        (tmp_path / f"f{number}").write_text(str(number))
    names = [f"f{number}" for number in range(6)]
    send, calls = statements.write_uploads, []

    def broken(*arguments: Any) -> None:
        calls.append(arguments[2])
        if len(calls) == 3:
            raise psycopg.OperationalError("the connection is lost")
        send(*arguments)

    monkeypatch.setattr(statements, "write_uploads", broken)
    with pytest.raises(psycopg.OperationalError):
        store.upload_files(names, overwrite=True)
    assert len(paths(store)) == 4
    store.upload_files(names, overwrite=True)
    assert paths(store) == names and [path for path, _ in calls[-1]] == ["f4", "f5"]


def test_a_folder_elsewhere(ws: Workspace, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    place = Datastore.register_local_folder(ws, "nas", str(tmp_path / "nas"), tags={"on": "disk"})
    place.upload_files(["a"], target_path="in/it")
    (tmp_path / "a").write_text("b")
    place.upload_files(["a"], target_path="in/it")
    assert (tmp_path / "nas/in/it/a").read_text() == "a" and paths(place) == ["in/it/a"] and place._list("*/*/b") == []
    place.upload_files(["a"], target_path="in/it", overwrite=True)
    assert place.download("down", prefix="in") == 1 and (tmp_path / "down/in/it/a").read_text() == "b"
    place.set_as_default()
    assert ws.get_default_datastore().name == "nas" and sorted(ws.datastores) == ["nas", "workspaceblobstore"]
    place.unregister()
    assert ws.get_default_datastore().name == "workspaceblobstore" and (tmp_path / "nas/in/it/a").exists()


def test_a_bucket_by_fsspecs_memory(ws: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole way of S3, but for S3: fsspec's file system in memory stands in for it."""
    from fsspec.implementations.memory import MemoryFileSystem

    opened: list[dict[str, Any]] = []

    class Memory(MemoryFileSystem):  # type: ignore[misc]
        cachable = False

        def __init__(self, **options: Any) -> None:
            opened.append(options)
            super().__init__()

        @classmethod
        def _strip_protocol(cls, path: str) -> str:
            return str(super()._strip_protocol(path.replace("s3://", "memory://")))

    monkeypatch.setattr("fsspec.get_filesystem_class", lambda scheme: Memory)
    monkeypatch.setenv("LAKE_KEY", "the key")
    (tmp_path / "secret").write_text("the secret\n")
    bucket = f"b-{uuid.uuid4().hex}"
    lake = Datastore.register_s3_bucket(
        ws, "lake", bucket, prefix="raw", key="env:LAKE_KEY", secret=f"file:{tmp_path}/secret", endpoint_url="http://127.0.0.1:1"
    )
    (tmp_path / "a").write_text("a")
    lake.upload_files(["a"], target_path="x")
    with lake._open(lake._list("x/a")[0]) as stream:
        assert stream.read() == b"a"
    assert paths(lake) == ["x/a"] and lake.download("down") == 1 and (tmp_path / "down/x/a").read_text() == "a"
    assert opened[0] == {"key": "the key", "secret": "the secret", "client_kwargs": {"endpoint_url": "http://127.0.0.1:1"}}
    monkeypatch.delenv("LAKE_KEY")
    with pytest.raises(UserErrorException, match="finds its key in the variable LAKE_KEY, which is not set"):
        Datastore.get(ws, "lake")._list("")


def test_no_secret_is_taken(ws: Workspace, db: psycopg.Connection[Any]) -> None:
    for given in ("supersecret", "env:not a name", "file:relative"):
        with pytest.raises(UserErrorException, match="must say where the credential is found") as caught:
            Datastore.register_azure_blob_container(ws, "az", "container", "account", account_key=given)
        assert given not in str(caught.value)
    az = Datastore.register_azure_blob_container(ws, "az", "container", "account", sas_token="env:SAS")
    assert (az.container_name, az.account_name) == ("container", "account")  # type: ignore[attr-defined]
    for statement in (
        "SELECT dbml.register_datastore('s', 's3', 's3://user:word@bucket')",
        "SELECT dbml.register_datastore('s', 's3', 's3://bucket?sig=abc')",
        """SELECT dbml.register_datastore('s', 's3', 's3://bucket', '{"client_kwargs": {"aws_secret_access_key": "word"}}')""",
        """SELECT dbml.register_datastore('s', 's3', 's3://bucket', '{}', '{"key": "word"}')""",
        """SELECT dbml.register_datastore('s', 's3', 's3://bucket', '{}', '{"key": {"value": "word"}}')""",
        """SELECT dbml.register_datastore('s', 's3', 's3://bucket', '{}', '{"key": {"env": "A", "file": "/b"}}')""",
    ):
        with pytest.raises(errors.InvalidArgument, match="credential") as refused:
            db.execute(statement)  # type: ignore[arg-type]
        assert "word" not in refused.value.diag.message_primary.replace("password", "")  # type: ignore[union-attr]


def test_a_missing_extra_names_its_command(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(scheme: str) -> Any:
        raise ImportError(scheme)

    monkeypatch.setattr("fsspec.get_filesystem_class", missing)
    lake = Datastore.register_gcs_bucket(ws, "g", "bucket", token="file:/nowhere.json")
    with pytest.raises(errors.NotSupportedYet) as caught:
        lake.download("x")
    assert caught.value.hint == "pip install 'dbml[gcs]'" and file_system_datastore.__doc__


def test_who_may_what(ws: Workspace, shared: Any, db: psycopg.Connection[Any], role: str) -> None:
    """A stranger learns nothing, a reader reads, a contributor writes."""
    db.execute("SELECT dbml.write_file('f', 'x', workspace => %s)", (ws.name,))
    write = "SELECT dbml.write_file('g', 'x', workspace => %s)"
    try:
        for privilege, reads, writes in ((None, False, False), ("reader", True, False), ("contributor", True, True)):
            if privilege:
                db.execute("SELECT dbml.grant_workspace(%s, %s, %s)", (ws.name, role, privilege))
            else:
                db.execute(f"GRANT dbml_scripter TO {role}")  # type: ignore[arg-type]
            db.execute(f"SET ROLE {role}")  # type: ignore[arg-type]
            assert db.execute("SELECT count(*) FROM dbml.files WHERE workspace = %s", (ws.name,)).fetchone() == (int(reads) + 0,)
            assert db.execute("SELECT count(*) FROM dbml.datastores WHERE workspace = %s", (ws.name,)).fetchone() == (int(reads),)
            for statement, may in (
                ("SELECT dbml.read_file('f', %s)", reads), (write, writes),
                ("SELECT dbml.register_datastore('d', 'local', '/d', workspace => %s)", writes),
                ("SELECT dbml.delete_file('g', %s)", writes),
            ):  # fmt: skip
                if may:
                    db.execute(statement, (ws.name,))  # type: ignore[arg-type]
                else:
                    with pytest.raises((errors.WorkspaceNotFound, psycopg.errors.InsufficientPrivilege)):
                        db.execute(statement, (ws.name,))  # type: ignore[arg-type]
            db.execute("RESET ROLE")
    finally:
        db.execute("RESET ROLE")
        db.execute("SELECT dbml.revoke_workspace(%s, %s)", (ws.name, role))
        db.execute(f"REVOKE dbml_scripter FROM {role}; DROP OWNED BY {role}")  # type: ignore[arg-type]
