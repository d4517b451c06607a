"""Runs of a client: what they log, how they end, and that SQL sees all of it."""

from __future__ import annotations

import io
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psycopg
import pytest

from dbml import errors
from dbml.core import Experiment, Run, Workspace
from dbml.exceptions import ActivityFailedException, RunEnvironmentException


def test_logged_once_a_scalar_and_again_a_list(run: Run, db: psycopg.Connection[Any]) -> None:
    run.log("trial", 1)
    run.log("rmse", 0.5)
    run.log("rmse", np.float32(0.25), step=7)
    run.log("flag", True)
    run.log("text", "größer")
    run.log("nan", math.nan)
    run.log("big", 2**60 + 1)
    run.log_list("folds", [1, 2.5, np.int64(3)])
    run.log_list("one", [4])
    run.log_row("pair", x=1, y=0.4)
    run.log_row("curve", x=1, y=0.4)
    run.log_row("curve", x=2, y=math.inf)
    run.log_table("table", {"x": np.arange(2), "y": [0.5, math.nan]})
    run.log_table("frame", pd.DataFrame({"a": [1, 2]}))  # type: ignore[arg-type]
    metrics = run.get_metrics()
    assert math.isnan(metrics.pop("nan")) and math.isnan(metrics["table"]["y"].pop())
    assert metrics == {
        "trial": 1, "rmse": [0.5, 0.25], "flag": True, "text": "größer", "big": 2**60 + 1, "folds": [1, 2.5, 3], "one": [4],
        "pair": {"x": 1, "y": 0.4}, "curve": {"x": [1, 2], "y": [0.4, math.inf]}, "table": {"x": [0, 1], "y": [0.5]},
        "frame": {"a": [1, 2]},
    }  # fmt: skip
    assert type(metrics["flag"]) is bool and type(metrics["trial"]) is int
    assert run.get_metrics("rmse") == {"rmse": [0.5, 0.25]}
    seen = db.execute("SELECT value, step FROM dbml.metrics WHERE run_id = %s AND name = 'rmse'", (run.id,)).fetchall()
    assert seen == [(0.5, None), (0.25, 7)]


@pytest.mark.parametrize("value", [None, {"a": 1}, [1], object(), 10**400])
def test_what_is_no_metric_is_refused(run: Run, value: Any) -> None:
    with pytest.raises(errors.InvalidArgument):
        run.log("bad", value)
    with pytest.raises(errors.InvalidArgument, match="must have a name"):
        run.log("", 1)
    with pytest.raises(errors.InvalidArgument, match="must have a value"):
        run.log_list("empty", [])
    assert run.get_metrics() == {}


def test_it_completes_fails_and_is_canceled(ws: Workspace, db: psycopg.Connection[Any]) -> None:
    experiment = Experiment(ws, "ends")
    with experiment.start_logging(display_name="first", params={"alpha": 0.5}) as first:
        first.log("a", 1)
        assert first.get_status() == first.status == "Running"
    with pytest.raises(ZeroDivisionError), experiment.start_logging() as second:
        second.log("a", 1 / 0)
    third = experiment.start_logging()
    third.cancel()
    assert [run.get_status() for run in (first, second, third)] == ["Completed", "Failed", "Canceled"]
    first.complete()  # again
    with pytest.raises(errors.InvalidArgument, match="cannot become failed"):
        first.fail("late")
    details = second.get_details()
    assert details["error"]["error"]["message"] == "ZeroDivisionError: division by zero" and details["target"] == "sdk"
    assert {"runId", "status", "startTimeUtc", "endTimeUtc", "properties", "logFiles"} <= set(details)
    assert (first.name, first.number, third.number, first.params) == ("first", 1, 3, {"alpha": 0.5})
    rows = db.execute(
        "SELECT status, display_name, params, source, seconds >= 0 FROM dbml.runs WHERE experiment = 'ends' AND workspace = %s"
        " ORDER BY started_at",
        (ws.name,),
    ).fetchall()
    assert rows == [
        ("completed", "first", {"alpha": 0.5}, "client", True), ("failed", None, {}, "client", True),
        ("canceled", None, {}, "client", True),
    ]  # fmt: skip
    with pytest.raises(ActivityFailedException, match="division by zero"):
        second.wait_for_completion()
    assert second.wait_for_completion(raise_on_error=False)["status"] == "Failed"
    assert first.wait_for_completion()["runId"] == first.id
    assert "first" in first._repr_html_() and "Completed" in repr(first) and first.get_portal_url().endswith(first.id)


def test_tags_change_and_properties_do_not(run: Run) -> None:
    run.tag("stage", "try")
    run.tag("mark")
    run.set_tags({"stage": "keep", "n": 3})
    assert run.get_tags() == {"stage": "keep", "mark": None, "n": "3"}
    run.remove_tags(["mark", "never"])
    run.remove_tags("n")
    assert run.tags == {"stage": "keep"}
    run.add_properties({"author": "me"})
    run.add_properties({"author": "me", "x": 1})
    with pytest.raises(errors.InvalidArgument, match="must stay what it is"):
        run.add_properties({"author": "you"})
    assert run.get_properties() == run.properties == {"author": "me", "x": "1"}


def test_runs_are_found_by_tags_properties_and_status(ws: Workspace) -> None:
    experiment = Experiment(ws, "search")
    made = [experiment.start_logging() for _ in range(4)]
    for number, run in enumerate(made):
        run.tag("number", number)
        run.add_properties({"odd": number % 2 == 1})
    made[0].complete()
    made[1].child_run().complete()
    newest_first = [run.id for run in reversed(made)]
    assert [run.id for run in experiment.get_runs()] == newest_first
    assert len(list(experiment.get_runs(include_children=True))) == 5
    assert [run.id for run in experiment.get_runs(tags={"number": "2"})] == [made[2].id]
    assert len(list(experiment.get_runs(tags="number"))) == 4 and not list(experiment.get_runs(tags="nope"))
    assert [run.id for run in experiment.get_runs(properties={"odd": "True"})] == [made[3].id, made[1].id]
    assert [run.id for run in experiment.get_runs(status="Completed")] == [made[0].id]
    with pytest.raises(errors.InvalidArgument, match="status must be one of"):
        list(experiment.get_runs(status="done"))


def test_children(run: Run) -> None:
    with run.child_run("first") as first:
        first.log("a", 1)
        first.child_run().complete()
    run.log("a", 2)
    others = run.create_children(tag_key="fold", tag_values=["x", "y"])
    assert len(run.create_children(2)) == 2
    assert first.parent is not None and first.parent.id == run.id and run.parent is None
    assert len(list(run.get_children())) == 5 and len(list(run.get_children(recursive=True))) == 6
    assert [child.id for child in run.get_children(tags={"fold": "y"})] == [others[1].id]
    assert run.get_metrics() == {"a": 2}
    assert sorted(run.get_metrics(recursive=True)["a"]) == [1, 2]
    with pytest.raises(errors.InvalidArgument, match="either count"):
        run.create_children()


def test_files_up_and_down(run: Run, place: Path, db: psycopg.Connection[Any]) -> None:
    (place / "in").mkdir()
    (place / "in" / "a.txt").write_text("a")
    (place / "in" / "b.bin").write_bytes(os.urandom(2_500_000))
    run.upload_file("outputs/a.txt", "in/a.txt")
    run.upload_file("stream", io.BytesIO(b"from a stream"))
    run.upload_files(["x/1", "x/2"], ["in/a.txt", "in/b.bin"])
    assert run.upload_folder("whole", "in") == ["whole/a.txt", "whole/b.bin"]
    assert run.get_file_names() == ["outputs/a.txt", "stream", "whole/a.txt", "whole/b.bin", "x/1", "x/2"]
    with pytest.raises(errors.InvalidArgument, match="one file of a name"):
        run.upload_file("stream", "in/a.txt")
    with pytest.raises(FileNotFoundError):
        run.upload_file("no", "not-there")
    with pytest.raises(errors.InvalidArgument, match="must be binary"):
        run.upload_file("text", io.StringIO("x"))  # type: ignore[arg-type]
    run.download_file("outputs/a.txt")
    run.download_file("x/2", "out/renamed")
    run.download_files("whole", "down")
    run.download_files("whole/", "flat", append_prefix=False)
    assert (place / "a.txt").read_text() == "a"
    for copy in ("out/renamed", "down/whole/b.bin", "flat/b.bin"):
        assert (place / copy).read_bytes() == (place / "in" / "b.bin").read_bytes()
    with pytest.raises(errors.RunNotFound, match="keeps no file"):
        run.download_file("no")
    assert not list(place.rglob("*.partial"))
    sizes = db.execute("SELECT name, size_bytes FROM dbml.artifacts WHERE run_id = %s AND name LIKE 'x/%%'", (run.id,)).fetchall()
    assert sorted(sizes) == [("x/1", 1), ("x/2", 2_500_000)]


def test_a_name_does_not_lead_out_of_the_folder(run: Run, place: Path) -> None:
    run.upload_file("../evil", io.BytesIO(b"x"))
    with pytest.raises(errors.InvalidArgument, match="must stay in the folder"):
        run.download_files(output_directory="down")
    assert not (place / "evil").exists()


def test_altered_bytes_are_noticed(run: Run, place: Path, db: psycopg.Connection[Any]) -> None:
    run.upload_file("a", io.BytesIO(os.urandom(2 << 20)))
    mine = "WHERE blob = (SELECT digest FROM dbml._artifacts WHERE run_id = %s AND name = 'a')"
    db.execute(f"UPDATE dbml._blob_chunks SET ordinal = 1 - ordinal + 10 {mine}", (run.id,))  # type: ignore[arg-type]
    db.execute(f"UPDATE dbml._blob_chunks SET ordinal = ordinal - 10 {mine}", (run.id,))  # type: ignore[arg-type]
    with pytest.raises(errors.ModelLoadError, match="do not match their digest"):
        run.download_file("a")
    assert list(place.iterdir()) == []


def test_images(run: Run, place: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure()
    figure.add_subplot().plot([1, 2, 3])
    run.log_image("curve", plot=figure)
    run.log_image("curve", plot=figure)
    figure.savefig("drawn.png")
    run.log_image("drawn", path="drawn.png")
    assert run.get_metrics() == {"curve": ["curve.png", "curve_1.png"], "drawn": "drawn.png"}
    run.download_file("curve_1.png", "back.png")
    assert (place / "back.png").read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(errors.InvalidArgument, match="either path or plot"):
        run.log_image("none")


def test_a_run_is_found_by_its_id(ws: Workspace, run: Run) -> None:
    assert Run.get(ws, run.id).experiment.name == "trials"
    assert ws.get_run(run.id).id == Run(Experiment(ws, "trials"), run.id).id == run.id
    for unknown in ("nonsense", "00000000-0000-0000-0000-000000000000"):
        with pytest.raises(errors.RunNotFound):
            Run.get(ws, unknown)
    with pytest.raises(errors.RunNotFound, match="is not of experiment"):
        Run(Experiment(ws, "another"), run.id)


def test_the_context_of_a_process(
    ws: Workspace, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    offline = Run.get_context()
    assert offline.id.startswith("OfflineRun")
    with offline:
        offline.log("rmse", 0.5)
        offline.log("rmse", 0.25)
        offline.log_row("pair", x=1)
        offline.tag("a", "b")
        assert [child.tags for child in offline.create_children(tag_key="fold", tag_values=["1", "2"])] == [
            {"fold": "1"},
            {"fold": "2"},
        ]
        assert len(offline.create_children(2)) == 2
        offline.upload_file("x", "y")
    assert "Attempted to log scalar metric rmse:\n0.5" in capsys.readouterr().out
    assert offline.get_metrics() == {"rmse": [0.5, 0.25], "pair": {"x": 1}} and offline.get_status() == "Completed"
    with pytest.raises(RunEnvironmentException):
        Run.get_context(allow_offline=False)
    with pytest.raises(RunEnvironmentException):
        offline.experiment  # noqa: B018
    monkeypatch.setenv("DBML_RUN_ID", run.id)
    monkeypatch.setenv("DBML_WORKSPACE", ws.name)
    assert Run.get_context(allow_offline=False).id == run.id


KILLED = """
import sys, time
from dbml.core import Experiment, Workspace
run = Experiment(Workspace.get(sys.argv[1]), "killed").start_logging()
for number in range(2500):
    run.log("n", number)
run.flush()
print(run.id, flush=True)
time.sleep(60)
"""


def test_a_killed_process_leaves_an_interrupted_run_and_what_it_had_flushed(ws: Workspace) -> None:
    child = subprocess.Popen([sys.executable, "-c", KILLED, ws.name], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    run_id = child.stdout.readline().strip()
    run = Run.get(ws, run_id)
    assert run.get_status() == "Running"
    child.send_signal(signal.SIGKILL)
    child.communicate()
    until = time.monotonic() + 10
    while run.get_status() == "Running" and time.monotonic() < until:
        time.sleep(0.05)
    assert run.get_status() == "NotResponding"
    assert run.get_metrics()["n"] == list(range(2500))
    assert "has ended" in run.get_details()["error"]["error"]["message"]
    run.cancel()
    assert run.get_status() == "Canceled"


def test_what_is_logged_is_written_at_the_end_of_the_process(ws: Workspace) -> None:
    script = KILLED.replace("run.flush()\n", "").replace("time.sleep(60)", "")
    run_id = subprocess.run([sys.executable, "-c", script, ws.name], capture_output=True, text=True, check=True).stdout.strip()
    assert Run.get(ws, run_id).get_metrics()["n"] == list(range(2500))


def test_a_broken_session_loses_and_doubles_nothing_and_the_run_lives(run: Run, db: psycopg.Connection[Any]) -> None:
    for number in range(3000):
        run.log("n", number)
        if number % 500 == 499:
            with run._connection.session() as session:
                db.execute("SELECT pg_terminate_backend(%s, 5000)", (session.info.backend_pid,))
    assert run.get_metrics()["n"] == list(range(3000))
    assert run.get_status() == "Running"
    db.execute('SELECT dbml.log_metrics(%s, \'[{"name": "n", "value": 1}]\', %s, 1)', (run.id, run._buffer._writer))
    assert len(run.get_metrics()["n"]) == 3000, "a batch that is sent again is not written again"


def test_ten_thousand_values_in_seconds(run: Run) -> None:
    began = time.monotonic()
    for number in range(10_000):
        run.log("loss", 1 / (number + 1), step=number)
    run.complete()
    seconds = time.monotonic() - began
    print(f"10,000 values in {seconds:.2f} s")
    assert seconds < 10
    assert run.get_metrics()["loss"] == [1 / (number + 1) for number in range(10_000)]


def test_values_are_written_in_the_background(run: Run, db: psycopg.Connection[Any]) -> None:
    run.log("a", 1)
    until = time.monotonic() + 10
    while time.monotonic() < until:
        if db.execute("SELECT count(*) FROM dbml.metrics WHERE run_id = %s", (run.id,)).fetchone() == (1,):
            return
        time.sleep(0.1)
    pytest.fail("nothing was written in 10 s")


def test_runs_of_scripts_are_runs_too(ws: Workspace, db: psycopg.Connection[Any]) -> None:
    db.execute(
        "SELECT * FROM dbml.run_script($$print('hello')\nrun.log('a', 1.5)\nimport io; run.upload_file('f.txt', io.BytesIO(b'x'))$$, workspace => %s,"
        " experiment => 'scripts', params => '{\"p\": 1}') AS t(x int)", (ws.name,),
    )  # fmt: skip
    (run,) = Experiment(ws, "scripts").get_runs()
    assert (run.get_status(), run.type, run.get_metrics(), run.params) == ("Completed", "script", {"a": 1.5}, {"p": 1})
    assert run.get_file_names() == ["f.txt", "logs/script.log"]
    assert run.get_details_with_logs()["logFiles"] == {"logs/script.log": "hello\n"}
    run.tag("seen", "yes")
    run.log("after", 1)
    assert run.get_metrics() == {"a": 1.5, "after": 1}
    run.complete()  # as it says itself
    with pytest.raises(errors.InvalidArgument, match="is of a script, whose worker says how it ends; it is Completed"):
        run.fail()
