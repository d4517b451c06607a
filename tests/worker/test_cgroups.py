"""Control groups: the arithmetic everywhere, the groups themselves in the hierarchy of version 2 where it may be written."""

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from dbml.worker import cgroups
from dbml.worker.cgroups import Cgroups, Leaf, divide, own_path, settings
from dbml.worker.sandbox.limits import RESERVE_BYTES, Limits

SYSTEMD = "0::/system.slice/dbml.service\n"
HYBRID = "2:pids:/\n1:name=systemd:/\n0::/a\n"


@pytest.mark.parametrize(
    ("cgroup", "mountinfo", "path"),
    [
        (SYSTEMD, "30 24 0:27 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw", "/sys/fs/cgroup/system.slice/dbml.service"),
        (HYBRID, "31 24 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n30 24 0:27 / /sys/fs/cgroup/unified rw - cgroup2 c rw",
         "/sys/fs/cgroup/unified/a"),
        ("0::/\n", "30 24 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw", "/sys/fs/cgroup"),
        ("0::/docker/7/x\n", "30 24 0:27 /docker/7 /sys/fs/cgroup ro - cgroup2 cgroup2 rw", "/sys/fs/cgroup/x"),
        ("0::/docker/77\n", "30 24 0:27 /docker/7 /sys/fs/cgroup ro - cgroup2 cgroup2 rw", None),
        ("0::/a\n", "30 24 0:27 / /mnt/with\\040space rw - cgroup2 cgroup2 rw", "/mnt/with space/a"),
        ("1:memory:/\n", "30 24 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw", None),
        (SYSTEMD, "31 24 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory", None),
    ],
)  # fmt: skip
def test_the_own_group_is_found(cgroup: str, mountinfo: str, path: str | None) -> None:
    assert own_path(cgroup, mountinfo) == (None if path is None else Path(path))


def test_limits_become_settings() -> None:
    both = frozenset(("memory", "pids"))
    assert settings(Limits(memory_mb=100, processes=10, threads=2), both) == {
        "memory.max": str((100 << 20) + RESERVE_BYTES), "memory.swap.max": "0", "memory.oom.group": "1", "pids.max": "13",
    }  # fmt: skip
    assert settings(Limits(memory_mb=None, processes=None), both) == {}
    assert settings(Limits(), frozenset()) == {}
    assert set(settings(Limits(), frozenset(("pids",)))) == {"pids.max"}


@pytest.fixture
def group() -> Iterator[Path]:
    """A group of version 2 of our own; where none can be made there is none to test."""
    mounted = own_path("0::/\n", Path("/proc/self/mountinfo").read_text())
    path = (mounted or Path("/nowhere")) / f"dbml-test-{uuid.uuid4().hex[:8]}"
    try:
        path.mkdir()
    except OSError as error:
        pytest.skip(f"no group of version 2 can be made here: {error}")
    yield path
    for inner in [*path.iterdir(), path]:
        if inner.is_dir():
            Leaf(inner).close()
    assert not path.exists()


# Starts a process in a session of its own, which starts another, and so on.
STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
os.write(1, bytes("ready", "ascii") + bytes([10]))
time.sleep(60)
"""


def test_a_process_is_adopted_with_its_children_and_killed_with_them(group: Path) -> None:
    leaf = Cgroups(group, frozenset()).leaf("satellite-1", Limits())
    assert leaf is not None
    with subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(8):
            assert process.stdout.readline() == "ready\n"
        leaf.adopt(process.pid)
        pids = leaf.pids()
        assert len(pids) == 8 and process.pid in pids
        assert Path(f"/proc/{process.pid}/cgroup").read_text().splitlines()[-1].endswith("/satellite-1")
        leaf.close()
        assert process.wait(10) == -9
    assert not leaf.directory.exists() and leaf.oom_kills == 0
    end = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text() for pid in pids):
        assert time.monotonic() < end
        time.sleep(0.01)
    leaf.close()


def test_a_process_that_has_ended_is_left_out(group: Path) -> None:
    leaf = Cgroups(group, frozenset()).leaf("satellite-2", Limits())
    assert leaf is not None
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
        leaf.adopt(process.pid)
    assert leaf.pids() == []
    leaf.close()


def test_a_group_without_the_controller_is_no_group(group: Path) -> None:
    if "memory" in (group / "cgroup.controllers").read_text():
        pytest.skip("memory can be controlled here")
    assert Cgroups(group).leaf("satellite-3", Limits()) is None
    assert not (group / "satellite-3").exists()


# Divides the group that it is in, once it is in it, and undoes it.
DIVIDER = """
import os, sys
from pathlib import Path
from dbml.worker.cgroups import divide
group = Path(sys.argv[1])
(group / "satellite-9").mkdir()
(group / "cgroup.procs").write_text(str(os.getpid()))
made = divide(group, frozenset())
print(made is not None, (group / "worker" / "cgroup.procs").read_text().split() == [str(os.getpid())], (group / "satellite-9").exists())
made.close()
print((group / "cgroup.procs").read_text().split() == [str(os.getpid())], (group / "worker").exists())
"""


def test_a_group_is_divided_by_who_is_alone_in_it(group: Path) -> None:
    done = subprocess.run([sys.executable, "-c", DIVIDER, str(group)], capture_output=True, text=True, timeout=60)
    assert done.stdout.split("\n")[:2] == ["True True False", "True False"], done.stderr
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as other:
        Leaf(group).adopt(other.pid)
        assert divide(group, frozenset()) is None, "somebody else is in it"
        Leaf(group).kill()


def test_what_is_not_ours_is_left_alone() -> None:
    before = Path("/proc/self/cgroup").read_text()
    found = cgroups.find(frozenset(("no such controller",)))
    assert found is None and Path("/proc/self/cgroup").read_text() == before
