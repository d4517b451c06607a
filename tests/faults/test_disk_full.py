"""The disk of the worker's temporary directory is full: a clear error to whoever needs it, and space afterwards."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dbml import errors

from .conftest import Operated, until

SIZE_MB = 24


@pytest.fixture
def small(folder: Path) -> Iterator[Path]:
    """A file system of SIZE_MB."""
    if os.geteuid() != 0:
        pytest.skip("only root mounts a file system; .ci/run runs as root too")
    mounted = folder / "small"
    mounted.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m,mode=0711", "tmpfs", mounted]
    if subprocess.run(mount).returncode != 0:
        assert os.environ.get("CI") != "true", "root must be able to mount a file system"
        pytest.skip("this machine lets not even root mount a file system, as in a container")
    yield mounted
    subprocess.run(["umount", "--lazy", mounted], check=True)


def free_mb(path: Path) -> float:
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize / (1 << 20)


def test_a_disk_that_is_full(installed: str, operate: Callable[..., Operated], small: Path) -> None:
    """By a script, by a model on its way to a scorer, by an artifact; landlock: its scratch is on this disk."""
    worker = operate(installed, "--sandbox", "landlock", TMPDIR=str(small))
    worker.works()
    pid = worker.ping()["pid"]
    before = free_mb(small)
    with worker.connect() as session:
        with pytest.raises(errors.LimitExceeded, match="is full: there is no room for what the script writes") as caught:
            session.execute("select * from dbml.run_script($$open('f', 'wb').write(bytes(100 << 20))$$) as t(a int)")
        assert caught.value.detail["limit"] == "disk" and "TMPDIR" in str(caught.value.hint)
        worker.works()
        session.execute("select dbml.register_model('large', %s)", (os.urandom(40 << 20),))
        with pytest.raises(errors.LimitExceeded, match="is full: there is no room for a model on its way to a scorer"):
            session.execute("select dbml.predict('large', array[1.0])")
        script = "import io, os\nrun.upload_file('large', io.BytesIO(os.urandom(40 << 20)))"
        with pytest.raises(errors.LimitExceeded, match="is full"):
            session.execute("select * from dbml.run_script(%s) as t(a int)", (script,))
        worker.works()
        until(lambda: free_mb(small) >= before - 1)
        assert worker.ping()["pid"] == pid
        assert session.execute("select count(*) from dbml.artifacts").fetchone() == (0,)
        assert session.execute("select status, sqlstate from dbml.runs where script like '%f''%'").fetchall() == [
            ("failed", "ML005")
        ]
        filled = small / "filled"
        with filled.open("wb") as stream:  # not an inode is left, nor a byte
            while True:
                try:
                    stream.write(bytes(1 << 16))
                    stream.flush()
                except OSError:
                    break
        writes = "select * from dbml.run_script($$open('f', 'wb').write(bytes(1 << 20))$$) as t(a int)"
        with pytest.raises(errors.LimitExceeded, match="is full"):
            session.execute(writes)
        filled.unlink()
        worker.works()
    assert worker.ping()["pid"] == pid
