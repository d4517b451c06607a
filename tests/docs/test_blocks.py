"""Every fenced block in README and docs is run; blocks.py says how."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from .blocks import LANGUAGES, ROOT, Block, Psql, afterwards, matches, pages, read_blocks
from .shell import commands, complaint, harmless

PAGES = {str(path.relative_to(ROOT)): path for path in pages()}
BLOCKS = {name: read_blocks(path.read_text()) for name, path in PAGES.items()}
RUN = ("sql", "python", "console")


@pytest.mark.parametrize("name", PAGES)
def test_every_block_is_of_a_known_kind(name: str) -> None:
    for block in BLOCKS[name]:
        if block.not_run is None:
            assert block.language in LANGUAGES, f"line {block.line}: run it, or mark it <!-- not run: reason -->"
        if block.language == "json" and not block.not_run:
            json.loads(block.text)


@pytest.mark.parametrize("name", [name for name in PAGES if any(b.language == "bash" for b in BLOCKS[name])])
def test_the_commands_are_there(name: str) -> None:
    for block in BLOCKS[name]:
        if block.language == "bash" and not block.not_run:
            for words in commands(block.text):
                assert complaint(words) is None, f"line {block.line}: {complaint(words)}"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", [name for name in PAGES if any(b.language in RUN and not b.not_run for b in BLOCKS[name])])
def test_the_blocks_do_what_the_page_says(
    name: str,
    demo_dsn: str,
    environment: Mapping[str, str],
    programs: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("DBML_DSN", demo_dsn)
    monkeypatch.chdir(tmp_path)
    psql = Psql(programs.program("psql"), demo_dsn, environment)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    blocks = BLOCKS[name]
    try:
        for block, after in zip(blocks, [*blocks[1:], Block("", "", 0)], strict=True):
            if block.not_run or block.language not in RUN:
                continue
            expected = after.text if after.follows else None
            if block.language == "console":
                _check_console(name, block, environment)
                continue
            if block.language == "sql":
                got = psql.run(block.text)
                failed = [line for line in got.splitlines() if line.startswith(("ERROR:", "FATAL:"))]
                if failed and "ERROR:" not in (expected or ""):
                    pytest.fail(f"{name} line {block.line}:\n{got}")
            else:
                got = _exec(block, namespace, PAGES[name])
            if expected is not None and not matches(expected, got):
                pytest.fail(f"{name} line {after.line} must be what line {block.line} prints:\n{got}")
    finally:
        with contextlib.suppress(ConnectionError, TimeoutError):
            for statement in afterwards(PAGES[name].read_text()):
                psql.run(f"ROLLBACK;\nRESET ROLE;\n{statement}")
        psql.close()


def _exec(block: Block, namespace: dict[str, Any], page: Path) -> str:
    printed = io.StringIO()
    code = compile("\n" * block.line + block.text, str(page), "exec")
    with contextlib.redirect_stdout(printed):
        exec(code, namespace)
    for value in namespace.values():
        if isinstance(value, sqlalchemy.Engine):
            value.dispose()  # a page need not show how a pool is closed
    return printed.getvalue()


def _check_console(name: str, block: Block, environment: Mapping[str, str]) -> None:
    """Run the harmless commands of a console block and compare what they print."""
    steps: list[tuple[str, str]] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            steps.append((line[2:], ""))
        else:
            assert steps, f"{name} line {block.line}: a console block begins with $"
            steps[-1] = (steps[-1][0], steps[-1][1] + line + "\n")
    for command, expected in steps:
        for words in commands(command):
            assert complaint(words) is None, f"{name} line {block.line}: {complaint(words)}"
            assert harmless(words), f"{name} line {block.line}: {command} changes something: mark the block, or use bash"
        answer = subprocess.run(
            ["bash", "-c", f'dbml() {{ "{sys.executable}" -m dbml.cli "$@"; }}\n{command}'],
            capture_output=True, text=True, env={**environment, "COLUMNS": "200"}, timeout=60, check=False,
        )  # fmt: skip
        got = answer.stdout + answer.stderr
        assert matches(expected, got), f"{name} line {block.line}: {command} prints\n{got}"


@pytest.mark.parametrize("name", [name for name in PAGES if any(b.language == "java" for b in BLOCKS[name])])
def test_java(name: str, java: tuple[Path, Path], jdbc_url: str, tmp_path: Path) -> None:
    program, driver = java
    for block, after in zip(BLOCKS[name], [*BLOCKS[name][1:], Block("", "", 0)], strict=True):
        if block.language != "java" or block.not_run:
            continue
        source = tmp_path / "Example.java"
        source.write_text(block.text)
        answer = subprocess.run(
            [program, "-cp", driver, source], capture_output=True, text=True, timeout=100, check=False,
            env={**os.environ, "DBML_JDBC_URL": jdbc_url},
        )  # fmt: skip
        assert answer.returncode == 0, answer.stderr
        assert after.language == "text" and matches(after.text, answer.stdout + answer.stderr), answer.stdout + answer.stderr


EXAMPLES = sorted(path for path in (ROOT / "examples").iterdir() if path.suffix in (".sql", ".py"))


def test_the_examples_run_one_after_the_other(demo_dsn: str, environment: Mapping[str, str], programs: Any) -> None:
    psql = [programs.program("psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", demo_dsn]
    try:
        for path in EXAMPLES:
            command = [sys.executable, str(path)] if path.suffix == ".py" else [*psql, "-f", str(path)]
            answer = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=100, check=False)
            assert answer.returncode == 0, answer.stdout + answer.stderr
    finally:
        cleanup = "SELECT dbml.delete_model('progression')"
        subprocess.run([*psql, "-c", cleanup], capture_output=True, timeout=30, check=False)


@pytest.mark.parametrize(
    "block",
    [b for b in BLOCKS["README.md"] if b.language in ("sql", "python")],
    ids=lambda b: f"line{b.line}",
)
def test_what_readme_shows_is_in_examples(block: Block) -> None:
    kept = [path.read_text() for path in EXAMPLES]
    assert any(block.text in text for text in kept)


def test_the_benchmarks_that_readme_names_are_there() -> None:
    named = re.findall(r"python -m (benchmarks\.\w+)", PAGES["README.md"].read_text())
    assert named
    for module in sorted(set(named)):
        assert complaint(["python", "-m", module]) is None


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    text = re.sub(r"^```.*?^```", "", PAGES[name].read_text(), flags=re.DOTALL | re.MULTILINE)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = (PAGES[name].parent / path).resolve() if path else PAGES[name]
        assert target.exists(), f"{link} leads nowhere"
        if anchor and target.suffix == ".md":
            there = target.read_text()
            heads = {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in re.findall(r"^#+ (.+)$", there, re.MULTILINE)}
            assert anchor in heads or f'id="{anchor}"' in there, f"{link} leads nowhere"
