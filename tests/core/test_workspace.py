"""Workspaces: created, found again, described, shown as dictionaries, deleted."""

from __future__ import annotations

import json
import pickle
import uuid
from pathlib import Path

import psycopg
import pytest

from dbml import errors
from dbml.core import Experiment, Workspace
from dbml.dsn import make_uri, parse
from dbml.exceptions import UserErrorException, WorkspaceException


def test_created_found_again_and_deleted(place: Path, dsn: str, capsys: pytest.CaptureFixture[str]) -> None:
    name = "w " + uuid.uuid4().hex + " Ünïcode 'quoted'"
    made = Workspace.create(
        name=name, subscription_id="<azure-subscription-id>", resource_group="group", create_resource_group=True,
        location="eastus2", tags={"a": "b"},
    )  # fmt: skip
    assert name in capsys.readouterr().out
    with pytest.raises(WorkspaceException, match="exists"):
        Workspace.create(name)
    assert Workspace.create(name, exist_ok=True, show_output=False) == made
    for found in (Workspace.get(name), Workspace("<azure-subscription-id>", "group", name), Workspace.list()[name][0]):
        assert found == made and hash(found) == hash(made)
        assert (found.name, found.resource_group, found.location, found.sku) == (name, "group", "eastus2", "basic")
    assert list(Workspace.list(resource_group="nobody's")) == []
    details = made.get_details()
    assert details["name"] == name and details["tags"] == {"a": "b"} and "secret" not in json.dumps(details)
    assert made.update(description="what for", tags={"c": "d"})["description"] == "what for"
    assert Workspace.get(name).tags == {"a": "b", "c": "d"}
    made.delete()
    with pytest.raises(WorkspaceException, match="must exist"):
        Workspace.get(name)


@pytest.mark.parametrize("name", ["", "a/b", "a:b", " a"])
def test_names_are_plain(place: Path, name: str) -> None:
    with pytest.raises(errors.InvalidArgument, match="a workspace's name"):
        Workspace.create(name)


def test_config_is_written_and_found_from_below(ws: Workspace, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ws.write_config()
    assert json.loads((place / ".azureml" / "config.json").read_text())["workspace_name"] == ws.name
    below = place / "a" / "b"
    below.mkdir(parents=True)
    assert Workspace.from_config(below) == ws
    assert Workspace.from_config() == ws
    ws.write_config(place / "elsewhere", "other.json")
    assert Workspace.from_config(place / "elsewhere", _file_name="other.json") == ws


@pytest.mark.parametrize("content", ["", "[]", '{"workspace_name": 1}', '{"subscription_id": "x"}'])
def test_a_config_that_is_none(place: Path, content: str) -> None:
    with pytest.raises(UserErrorException, match=r"config\.json must be in"):
        Workspace.from_config()
    (place / "config.json").write_text(content)
    with pytest.raises(UserErrorException, match="must be a JSON object"):
        Workspace.from_config()


def test_the_dsn_of_a_config_counts_and_its_password_is_not_written(
    ws: Workspace, place: Path, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DBML_DSN", "postgresql://nobody@127.0.0.1:1/nowhere")
    (place / "config.json").write_text(json.dumps({"workspace_name": ws.name, "dsn": dsn}))
    found = Workspace.from_config()
    assert found.name == ws.name
    found._connection.dsn = make_uri({**parse(dsn), "password": "geheim"})
    found.write_config("written")
    written = (place / "written" / ".azureml" / "config.json").read_text()
    assert "geheim" not in written and json.loads(written)["dsn"].startswith("postgresql://")


def test_dictionaries_of_what_is_there(ws: Workspace) -> None:
    assert len(ws.experiments) == 0 and repr(ws.models) == "<models: none>"
    Experiment(ws, "one")
    assert list(ws.experiments) == ["one"] and ws.experiments["one"].name == "one" and "two" not in ws.experiments
    with pytest.raises(KeyError):
        ws.experiments["two"]
    assert dict(ws.compute_targets) == {} and dict(ws.environments) == {}
    assert ws.get_default_compute_target() is None


def test_pickled_and_forked_it_works(ws: Workspace) -> None:
    import os

    ws._connection.session().__enter__()
    again = pickle.loads(pickle.dumps(ws))
    assert again == ws and list(again.experiments) == []
    again._connection.close()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            Experiment(ws, "by the child")
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert list(ws.experiments) == ["by the child"], "the parent's session lives on"


def test_threads_share_it(ws: Workspace) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: Experiment(ws, f"e{number}"), range(32)))
    assert len(ws.experiments) == 32


def test_a_session_that_broke_is_opened_again(ws: Workspace, db: psycopg.Connection) -> None:
    Experiment(ws, "one")
    with ws._connection.session() as session:
        db.execute("SELECT pg_terminate_backend(%s, 5000)", (session.info.backend_pid,))
    assert list(ws.experiments) == ["one"]


def test_the_default_workspace_stays(place: Path) -> None:
    default = Workspace()
    assert default.name == "default"
    with pytest.raises(errors.InvalidArgument, match="must stay"):
        default.delete()


def test_what_is_not_there_yet_says_what_is(ws: Workspace) -> None:
    import dbml.core

    for ask in (ws.get_default_keyvault, lambda: dbml.core.Keyvault):
        with pytest.raises(NotImplementedError, match=r"dbml|\$secret"):
            ask()
    with pytest.raises(AttributeError):
        dbml.core.NoSuchThing  # noqa: B018
