"""What is tried in benchmarks.escape gets nowhere, in either layer of the sandbox."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from benchmarks.escape.arena import Arena, open_arena
from benchmarks.escape.attacks import ATTACKS, Attack, judge
from dbml import errors
from dbml.kernel import landlock, seccomp
from dbml.worker.sandbox import layers
from dbml.worker.zygote_process import Interpreter

from ..privileges import looks_into_others

pytestmark = pytest.mark.timeout(120)

# What a worker keeps to itself, whatever its scripts may.
CONCEALED = ("memory of the worker", "environment of other processes", "descriptors of others")


@pytest.fixture(scope="module", params=["bubblewrap", "landlock"])
def arena(request: pytest.FixtureRequest) -> Iterator[Arena]:
    with ExitStack() as stack:
        try:
            opened = stack.enter_context(open_arena(request.param))
        except errors.WorkerUnreachable as error:
            if os.environ.get("CI") == "true" or "no sandbox holds" not in str(error):
                raise
            pytest.skip(f"{request.param} does not hold on this machine: {error}")
        yield opened


def named(found: Iterable[Attack]) -> list[Any]:
    return [pytest.param(each, id=re.sub(r"\W+", "-", each.name)) for each in found]


@pytest.mark.parametrize("arena", ["landlock"], indirect=True)  # the layer that a container has too
@pytest.mark.parametrize("tried", named(each for each in ATTACKS if not each.layered))
def test_an_attack_on_the_database_or_the_router_gets_nowhere(arena: Arena, tried: Attack) -> None:
    assert judge(arena, tried) is None


@pytest.mark.parametrize("tried", named(each for each in ATTACKS if each.layered))
def test_an_attack_is_contained(arena: Arena, tried: Attack) -> None:
    if tried.name == "files from r" and os.environ.get("CI") != "true" and not Path("/usr/bin/R").exists():
        pytest.skip("R is not on this machine: apt-get install r-base-core")
    assert judge(arena, tried) is None


@pytest.fixture(scope="module")
def bare() -> Iterator[Arena]:
    with open_arena("none") as opened:
        yield opened


@pytest.mark.parametrize("tried", named(each for each in ATTACKS if each.harmless))
def test_it_gets_through_where_there_is_no_sandbox(bare: Arena, tried: Attack) -> None:
    if tried.name == "files from r" and os.environ.get("CI") != "true" and not Path("/usr/bin/R").exists():
        pytest.skip("R is not on this machine: apt-get install r-base-core")
    # The worker conceals itself: but for root, what is in its memory and its descriptors is its own.
    concealed = not looks_into_others() and tried.name in CONCEALED
    if tried.name == "descriptors of others" and Path("/proc/1").stat().st_uid == os.getuid():
        concealed = False  # a container's first process is our account's, and conceals nothing
    assert (judge(bare, tried) is None) == concealed


def test_the_witnesses_are_there(arena: Arena) -> None:
    """What the attacks look for can be found by whoever is outside: an attack that finds nothing was kept from it."""
    import socket

    assert (arena.folder / "canary.txt").read_text() == arena.canary
    arena.heard.clear()
    with socket.create_connection(("127.0.0.1", arena.targets["tcp_port"])) as reached:
        assert reached.recv(100).decode() == arena.canary
    with socket.socket(socket.AF_UNIX) as reached:
        reached.connect("\0" + arena.targets["abstract_name"])
        assert reached.recv(100).decode() == arena.canary
    assert sorted(arena.heard) == ["abstract", "tcp"]
    if looks_into_others():
        assert arena.canary.encode() in Path(f"/proc/{arena.worker.pid}/environ").read_bytes()
    with arena.neighbour(), arena.connect() as connection:
        assert connection.execute("select count(*) from dbml.active_scripts").fetchone() == (1,)


def test_the_worker_tells_which_sandbox_it_has(arena: Arena) -> None:
    with arena.connect() as connection:
        row = connection.execute("select sandbox, zygotes from dbml.worker_status").fetchone()
    assert row is not None
    found, zygotes = row
    assert found["layer"] in ("bubblewrap", "landlock")
    assert found["capabilities"] == 0 and found["no_new_privileges"] and found["filter"]
    assert found["landlock"] == landlock.version()
    kinds = {"ipc", "mnt", "net", "pid", "user", "uts"} if found["layer"] == "bubblewrap" else set()
    assert kinds <= set(found["namespaces"]) and (kinds or not found["namespaces"])
    status = Path(f"/proc/{zygotes[0]}/status").read_text()
    if found["layer"] == "bubblewrap":
        assert found["user"] != 0 and "NSpid" in status and len(status.partition("NSpid:")[2].splitlines()[0].split()) == 3


def test_a_script_has_no_network(arena: Arena) -> None:
    arena.heard.clear()
    script = "import socket\nprint(socket.create_connection(('127.0.0.1', tcp_port), 2).recv(100))"
    assert arena.canary not in arena.run(script) and not arena.heard


def test_a_machine_with_no_sandbox_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bwrap = tmp_path / "bwrap"
    bwrap.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    bwrap.chmod(bwrap.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    own = Interpreter.own()
    with pytest.raises(errors.SandboxMissing, match="No permissions to create new namespace") as caught:
        layers.choose("bubblewrap", own.command(), own.files, own.path)
    assert "--unsafe-no-sandbox" in str(caught.value.hint)
    chosen = layers.choose("auto", own.command(), own.files, own.path)
    assert chosen.layer == "landlock" and "No permissions" in chosen.passed_over["bubblewrap"]
    assert layers.choose("none").layer == "none"


def test_the_filter_is_well_formed() -> None:
    """Every jump of the program stays within it, and it ends with an answer."""
    for network in (False, True):
        for alone in (False, True):
            for signals in (False, True):
                code = seccomp.program(network=network, alone=alone, signals=signals)
                assert len(code) < 4096 and code[-1][0] == 0x06
                for position, (kind, yes, no, _) in enumerate(code):
                    if kind in (0x15, 0x35, 0x45):
                        assert position + 1 + max(yes, no) < len(code)


def test_the_containers_profile_refuses_what_the_filter_refuses() -> None:
    profile = json.loads((Path(__file__).parents[2] / "docker/seccomp.json").read_text())
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    allowed = {name for rule in profile["syscalls"] if rule["action"] == "SCMP_ACT_ALLOW" for name in rule["names"]}
    assert not allowed & {*seccomp._REFUSED, *seccomp._ABSENT}
    assert {"landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self", "seccomp", "prctl", "execve"} <= allowed
    (clone,) = [rule for rule in profile["syscalls"] if rule["names"] == ["clone"]]
    assert clone["args"] == [{"index": 0, "value": seccomp._NEW_NAMESPACE, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]
