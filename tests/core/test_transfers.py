"""Large files and folders of many, up and down: equal bytes, bounded memory, and nothing left behind where it breaks."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dbml.core import Run, Workspace, transfer
from dbml.store.client import uploads

MIB = 1 << 20

THERE_AND_BACK = """
import re, sys
from pathlib import Path
from dbml.core import Model, Workspace

def peak_kb():  # of this program alone: what getrusage tells is of the process that forked it, too
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

workspace = Workspace.get(sys.argv[1])
Model.list(workspace)
before = peak_kb()
Model.register(workspace, "large.bin", "large").download("down")
Model.register(workspace, "many", "many").download("down/many")
if len(sys.argv) > 2:
    Path("large.bin").read_bytes()
print("grown", peak_kb() - before)
"""


def _digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_sixty_megabytes_and_five_hundred_files(ws: Workspace, place: Path) -> None:
    with (place / "large.bin").open("wb") as file:
        for _ in range(61):
            file.write(os.urandom(MIB))
        file.write(b"and a rest")
    for number in range(500):
        path = place / "many" / f"{number % 7}" / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(number * 20))
    done = subprocess.run([sys.executable, "-c", THERE_AND_BACK, ws.name], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert _digests(place / "down" / "many") == _digests(place / "many")
    assert (
        hashlib.sha256((place / "down" / "large.bin").read_bytes()).digest()
        == hashlib.sha256((place / "large.bin").read_bytes()).digest()
    )
    grown_kb = int(done.stdout.split("grown")[1])
    assert grown_kb < 45_000, f"a window of {transfer.WINDOW_BYTES >> 20} MiB, not the file: {grown_kb} kB"


def test_an_upload_that_breaks_leaves_nothing(
    run: Run, place: Path, db: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "large").write_bytes(os.urandom(12 * MIB))
    begun = db.execute("SELECT count(*) FROM dbml._uploads").fetchone()
    sent: list[int] = []

    original = uploads.send_parts

    def broken(connection: Any, upload: Any, parts: Any) -> None:
        sent.append(len(parts))
        if len(sent) == 2:
            raise KeyboardInterrupt
        original(connection, upload, parts)

    monkeypatch.setattr(uploads, "send_parts", broken)
    with pytest.raises(KeyboardInterrupt):
        run.upload_file("large", "large")
    assert sent == [8, 4] and run.get_file_names() == []
    assert db.execute("SELECT count(*) FROM dbml._uploads").fetchone() == begun


def test_a_window_is_sent_again_when_the_session_breaks(
    run: Run, place: Path, db: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "large").write_bytes(os.urandom(12 * MIB))
    original, broke = uploads.send_parts, []

    def unlucky(connection: Any, upload: Any, parts: Any) -> None:
        if not broke:
            broke.append(True)
            db.execute("SELECT pg_terminate_backend(%s, 5000)", (connection.info.backend_pid,))
        original(connection, upload, parts)

    monkeypatch.setattr(uploads, "send_parts", unlucky)
    run.upload_file("large", "large")
    run.download_file("large", "back")
    assert broke and (place / "back").read_bytes() == (place / "large").read_bytes()


def test_a_download_that_breaks_leaves_no_half_file(run: Run, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "large").write_bytes(os.urandom(12 * MIB))
    run.upload_file("large", "large")
    original, calls = uploads.artifact_parts, []

    def breaks(*arguments: Any) -> Any:
        calls.append(True)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(uploads, "artifact_parts", breaks)
    with pytest.raises(KeyboardInterrupt):
        run.download_file("large", "down/large")
    assert list((place / "down").iterdir()) == []


def test_progress_is_drawn_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with transfer.progress("uploading", transfer.SHOWN_BYTES, True) as advance:
        advance(transfer.SHOWN_BYTES)
    with transfer.progress("uploading", 10, True) as advance:
        advance(10)
    assert capsys.readouterr().out == ""
