"""Resolving: a lock with hashes, or the resolver's own words."""

from __future__ import annotations

import asyncio
import hashlib
import platform
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from dbml import errors
from dbml.worker.environments.resolver import own_words, resolve
from dbml.worker.environments.uv import Uv, read_pip_settings

from ... import wheels

HERE = ".".join(platform.python_version_tuple()[:2])


def quiet(line: str) -> None:
    """Hear nothing."""


def test_a_lock_has_every_package_with_its_hash(run: Any, uv: Uv, links: Path) -> None:
    said: list[str] = []
    made = run(resolve("tiny<2", None, uv, said.append))
    assert (made.format, made.python_version) == ("requirements", HERE)
    assert made.lock.startswith(f"# Python {HERE}\n")
    locked = dict(re.findall(r"^(\S+)==(\S+) \\\n +--hash=sha256:[0-9a-f]{64}", made.lock, re.MULTILINE))
    assert locked["tiny"] == "1.0"
    assert {"numpy", "pandas", "pyarrow", "cloudpickle", "threadpoolctl", "psycopg"} <= set(locked)
    assert made.count == len(locked)
    digest = hashlib.sha256((links / "tiny-1.0-py3-none-any.whl").read_bytes()).hexdigest()
    assert f"--hash=sha256:{digest}" in made.lock
    assert made.lock_sha256 == hashlib.sha256(made.lock.encode()).hexdigest()
    assert said[0] == f"resolving for Python {HERE}" and any(line.startswith("Resolved") for line in said)
    assert str(links) not in made.lock and str(uv.directory) not in made.lock, "the lock is the same on every machine"


def test_the_same_specification_gives_the_same_lock(run: Any, uv: Uv) -> None:
    assert run(resolve("tiny", None, uv, quiet)) == run(resolve("tiny", None, uv, quiet))


def test_all_formats_give_their_lock(run: Any, uv: Uv) -> None:
    conda = run(resolve(f"name: x\ndependencies:\n  - python={HERE}\n  - tiny=1\n", None, uv, quiet))
    pyproject = run(resolve("[project]\nname = 'x'\ndependencies = ['tiny<2']\n", HERE, uv, quiet))
    assert "tiny==1.0" in conda.lock and "tiny==1.0" in pyproject.lock
    assert conda.properties == {"name": "x", "python": f"=={HERE}.*"}


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("tiny==3", "there is no version of tiny==3 and you require tiny==3"),
        ("absent", "absent was not found in the provided package locations"),
        ("tiny==1\ntiny==2", "you require tiny==1 and tiny==2"),
        ("pandas<2", "you require pandas<2 and pandas>="),
    ],
)
def test_what_cannot_be_resolved_is_told_in_the_resolvers_words(run: Any, uv: Uv, spec: str, words: str) -> None:
    with pytest.raises(errors.EnvironmentUnresolvable) as caught:
        run(resolve(spec, None, uv, quiet))
    assert words in caught.value.message
    assert words in str(caught.value.detail["resolver"])
    assert "\n" not in caught.value.message and len(caught.value.message) <= 500


def test_long_words_are_shortened_in_the_message_alone(run: Any, uv: Uv, links: Path) -> None:
    for number in range(40):
        wheels.write(links, f"part{number}", "1.0", requires=[f"tiny=={number}"])
    with pytest.raises(errors.EnvironmentUnresolvable) as caught:
        run(resolve("\n".join(f"part{number}" for number in range(40)), None, uv, quiet))
    assert len(caught.value.message) <= 500
    assert len(str(caught.value.detail["resolver"])) > 100


def test_own_words_are_one_line_without_marks() -> None:
    said = "Using Python 3.11\nerror: No solution found\n  cause: Because a,\n      b\n"
    assert own_words(said) == "No solution found: Because a, b"
    assert own_words("  × No solution found:\n  ╰─▶ Because there is no x.\n") == "No solution found: Because there is no x."


def test_a_python_that_is_not_here_names_those_that_are(run: Any, uv: Uv, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    wanted = next(v for v in ("3.14", "3.13", "3.12") if v != HERE)
    with pytest.raises(errors.EnvironmentUnresolvable) as caught:
        run(resolve("tiny", wanted + ".99", uv, quiet))
    assert caught.value.message.startswith(f"Python {wanted}.99 must be on the worker's machine, which has ")
    assert platform.python_version() in caught.value.message
    assert platform.python_version() in caught.value.detail["installed"]


@pytest.mark.parametrize("version", ["3", "three", "3.11.2.1", ">=3.11", "03.11", ""])
def test_a_python_version_is_a_version(run: Any, uv: Uv, version: str) -> None:
    with pytest.raises(errors.InvalidArgument, match="python_version must be like"):
        run(resolve("tiny", version, uv, quiet))


def test_argument_and_specification_must_agree(run: Any, uv: Uv) -> None:
    with pytest.raises(errors.EnvironmentUnresolvable, match=r"must be what the specification allows, ==3\.99\.\*"):
        run(resolve("dependencies: [python=3.99]", HERE, uv, quiet))


def test_a_python_that_dbml_does_not_run_on_is_refused(run: Any, uv: Uv) -> None:
    with pytest.raises(errors.EnvironmentUnresolvable, match=r"Python 3\.8 must be on the worker's machine"):
        run(resolve("tiny", "3.8", uv, quiet))


def test_an_exact_python_is_kept(run: Any, uv: Uv) -> None:
    assert run(resolve("tiny", platform.python_version(), uv, quiet)).python_version == platform.python_version()


def test_no_source_distribution_is_built(run: Any, uv: Uv, links: Path) -> None:
    (links / "source-1.0.tar.gz").write_bytes(b"whose setup.py would run in the worker")
    with pytest.raises(errors.EnvironmentUnresolvable, match="source"):
        run(resolve("source", None, uv, quiet))


def test_a_cancelled_resolver_leaves_nothing(run: Any, uv: Uv) -> None:
    async def cancel() -> None:
        task = asyncio.create_task(resolve("tiny", None, uv, quiet))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(cancel())
    assert list(uv.directory.glob("resolve-*")) == []


def test_the_database_is_not_in_uvs_environment(run: Any, uv: Uv, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBML_DSN", "postgresql://somebody:secret@localhost/x")
    monkeypatch.setenv("PGPASSWORD", "secret")
    monkeypatch.setenv("UV_HTTP_TIMEOUT", "7")
    passed = run(uv._environment(True))
    assert not any("secret" in value for value in passed.values())
    assert passed["UV_HTTP_TIMEOUT"] == "7"


def test_pips_indexes_are_uvs() -> None:
    listed = (
        "global.index-url='https://one.example/simple'\nglobal.find-links='\\n/a\\n/b'\nglobal.timeout='60'\n"
        ":env:.extra-index-url='https://two.example https://three.example'\ninstall.no-index='true'\n"
        ":env:.index-url='https://env.example/simple'\n"
    )
    assert read_pip_settings(listed) == {
        "UV_DEFAULT_INDEX": "https://env.example/simple", "UV_FIND_LINKS": "/a,/b",
        "UV_INDEX": "https://two.example https://three.example", "UV_NO_INDEX": "1",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
    }  # fmt: skip
